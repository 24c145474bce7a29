"""Compares two evaluated runs: pairs their results by row and sample, and tests each guarded metric for a change."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np

from batchmix.errors import RunError
from batchmix.evaluation.measure import Metrics, guarded, missed_thresholds, read_metrics, read_scores, read_targets
from batchmix.evaluation.metrics import Floats, Ints
from batchmix.evaluation.paired import Paired, compare, holm
from batchmix.evaluation.result_arrays import ResultArrays, read_result_arrays
from batchmix.formats.display import clean
from batchmix.formats.pyarrow_setup import set_up_arrow
from batchmix.job.eval_table import LESS_IS_BETTER, Guard
from batchmix.store.run_folder import Layout

LEVEL = 0.05
"""The significance level: the highest probability that a comparison reports a change although there is none."""
DRIFTS = ("answered", "refused", "response_chars", "cost_usd", "latency_s")
"""The metrics that are compared in addition to the scores."""
_FIELDS = ("row", "sample", "ok", "request", *DRIFTS[1:])
_DEFAULT_GUARDS = (Guard(),)
VERDICTS = ("worse", "better", "same")
_MAX_CHARS = 2_000


class Comparison(msgspec.Struct, frozen=True):
    """One metric of one model in both runs."""

    model: str
    metric: str
    scorer: str
    """The name of the scorer. Empty for metrics other than `score`."""
    paired: Paired
    adjusted_p: float | None = None
    """The one-sided p-value of getting worse, adjusted for all guarded metrics (Holm). None if it is not guarded."""
    verdict: str = ""
    """`worse`, `better` or `same`. Empty if the metric is not guarded."""


class ScoreChange(msgspec.Struct, frozen=True):
    """A result whose score differs between the runs."""

    model: str
    scorer: str
    row: int
    sample: int
    before: float
    after: float


class Diff(msgspec.Struct, frozen=True):
    """The differences between two runs.

    >>> _ = bm.evaluate(run, [{"kind": "regex", "pattern": "[a-z]"}])
    >>> [(one.metric, one.model, one.paired.difference) for one in bm.diff(run, run).comparisons][:2]
    [('score', 'gpt-4o-mini', 0.0), ('answered', 'gpt-4o-mini', 0.0)]
    """

    before: str
    """The folder of the earlier run."""
    after: str
    """The folder of the later run."""
    paired: int
    """The number of results that were compared."""
    changed: int
    """The number of results that are left out because their request or target has changed."""
    unpaired: int
    """The number of results that only one run has."""
    left_out: tuple[str, ...]
    """A message for each scorer and model that can't be compared."""
    comparisons: tuple[Comparison, ...]
    missed: tuple[str, ...]
    """A message for each threshold that the later run misses."""
    moved: tuple[ScoreChange, ...]

    @property
    def worse(self) -> list[Comparison]:
        """The guarded metrics that are significantly worse."""
        return self._with_verdict("worse")

    @property
    def better(self) -> list[Comparison]:
        """The guarded metrics that are significantly better."""
        return self._with_verdict("better")

    @property
    def same(self) -> list[Comparison]:
        """The guarded metrics of which no change is significant."""
        return self._with_verdict("same")

    def _with_verdict(self, verdict: str) -> list[Comparison]:
        return [comparison for comparison in self.comparisons if comparison.verdict == verdict]

    def _repr_html_(self) -> str:
        """Return the comparison as HTML, which a notebook shows at the end of a cell."""
        from batchmix.evaluation.notebook_tables import diff_html

        return diff_html(self)

    def __repr__(self) -> str:
        verdicts = (f"{name}: {', '.join(map(_shown, getattr(self, name))) or 'none'}" for name in VERDICTS)
        missed = (f"missed: {message}" for message in self.missed)
        changed = [f"{self.changed:,} left out: their request or target has changed"] if self.changed else []
        details = "; ".join([*changed, *verdicts, *missed])
        text = f"{self.before} → {self.after}: {self.paired:,} results in pairs; {details}"
        return clean(f"<Diff {text}>", _MAX_CHARS)


def _shown(comparison: Comparison) -> str:
    what = comparison.scorer or comparison.metric
    return f"{what} of {comparison.model} {comparison.paired.difference:+.3g}"


class _EvaluatedRun(msgspec.Struct):
    """One of the two runs, with the arrays that the comparison needs."""

    layout: Layout
    metrics: Metrics
    results: ResultArrays

    def keys(self, chosen: Ints) -> Ints:
        """Return a key for each result at these positions: one number made of its row and its sample."""
        row, sample = (self.results.fields[name][chosen] for name in ("row", "sample"))
        keys: Ints = row.astype(np.int64) * 10_000 + sample  # a job has at most 10,000 samples
        return keys

    def scores(self, scorer: str) -> Floats:
        """Return one scorer's scores of all results."""
        return read_scores(self.layout, self.metrics.settings, scorer, self.results.count)

    def targets(self, scorer: str) -> Ints:
        """Return a hash of each result's target for a scorer. The hashes of two runs can be compared."""
        return read_targets(self.layout, self.metrics.settings, scorer, self.results.count)


def compare_runs(before: Path, after: Path) -> Diff:
    """Compare two evaluated runs. Raises `RunError` if one of them has not been evaluated."""
    set_up_arrow()
    old, new = _evaluated_run(before), _evaluated_run(after)
    scorers, models, left_out = _common(old.metrics, new.metrics)
    counts = _PairCounts()
    targets = {scorer: (old.targets(scorer), new.targets(scorer)) for scorer in scorers}
    pairs = {model: _pairs(old, new, model, list(targets.values()), counts) for model in models}
    del targets
    scored: dict[tuple[str, str], list[Comparison]] = {}
    changes: list[ScoreChange] = []
    for scorer in scorers:
        scores = old.scores(scorer), new.scores(scorer)
        for model, pair in pairs.items():
            values = scores[0][pair.old], scores[1][pair.new]
            scored[model, scorer] = list(_compared(model, "score", scorer, values, pair.rows(new)))
            changes += _score_changes(model, scorer, values, new.keys(pair.new))
    comparisons: list[Comparison] = []
    for model, pair in pairs.items():
        comparisons += [comparison for scorer in scorers for comparison in scored[model, scorer]]
        for metric in DRIFTS:
            values = _values(old, metric, pair.old), _values(new, metric, pair.new)
            comparisons += _compared(model, metric, "", values, pair.rows(new))
    return Diff(
        before=str(before),
        after=str(after),
        paired=counts.paired,
        changed=counts.changed,
        unpaired=counts.unpaired,
        left_out=tuple(left_out),
        comparisons=tuple(with_verdicts(comparisons, new.metrics.settings.guards or _DEFAULT_GUARDS)),
        missed=tuple(missed_thresholds(new.metrics)),
        moved=tuple(sorted(changes, key=lambda change: (change.after - change.before, change.row))),
    )


def with_verdicts(comparisons: list[Comparison], guards: tuple[Guard, ...]) -> Iterator[Comparison]:
    """Yield the comparisons, and add a verdict to those of guarded metrics.

    Each guarded metric is tested for getting worse. The p-values are adjusted (Holm), so `LEVEL` applies to all tests
    together. Each is also tested for getting better, at the same level and only for information.
    """
    scorers = list(dict.fromkeys(compared.scorer for compared in comparisons if compared.scorer))
    models = list(dict.fromkeys(compared.model for compared in comparisons))
    guard_of = {(str(guard.metric), model, scorer): guard for guard, model, scorer in guarded(guards, scorers, models)}
    tested = [
        at for at, compared in enumerate(comparisons) if (compared.metric, compared.model, compared.scorer) in guard_of
    ]
    worse = dict(zip(tested, holm([_p(comparisons[at], worse=True) for at in tested]), strict=True))
    better = dict(zip(tested, holm([_p(comparisons[at], worse=False) for at in tested]), strict=True))
    for at, compared in enumerate(comparisons):
        if at not in worse:
            yield compared
            continue
        allowed = guard_of[compared.metric, compared.model, compared.scorer].no_worse_by
        verdict = "better" if better[at] <= LEVEL else "same"
        if worse[at] <= LEVEL and abs(compared.paired.difference) > allowed:
            verdict = "worse"
        yield msgspec.structs.replace(compared, adjusted_p=worse[at], verdict=verdict)


def _p(compared: Comparison, *, worse: bool) -> float:
    """Return the one-sided p-value of a metric's getting worse, or of its getting better if `worse` is False."""
    return compared.paired.p_rise if (compared.metric in LESS_IS_BETTER) == worse else compared.paired.p_fall


def _evaluated_run(folder: Path) -> _EvaluatedRun:
    layout = Layout(folder)
    metrics = read_metrics(layout)
    results = read_result_arrays(folder, _FIELDS)
    if results.lost:
        raise RunError(
            f"{results.lost[0]}; a diff of the rest would be misleading: restore a good copy, or run it with --update"
        )
    return _EvaluatedRun(layout, metrics, results)


def _common(old: Metrics, new: Metrics) -> tuple[list[str], list[str], list[str]]:
    """Return the scorers and the models that both runs have, and messages about those that can't be compared."""
    before = {scorer.name: scorer for scorer in old.settings.scorers}
    scorers, left_out = [], []
    for scorer in new.settings.scorers:
        if scorer.name not in before:
            left_out.append(f"scorer {scorer.name}: the earlier run has no such scores")
        elif scorer != before[scorer.name]:
            left_out.append(f"scorer {scorer.name}: has changed since; score the earlier run again with batchmix eval")
        else:
            scorers.append(scorer.name)
    earlier = {metrics.model for metrics in old.models}
    models = [metrics.model for metrics in new.models]
    left_out += [f"model {model}: the earlier run has no such model" for model in models if model not in earlier]
    return scorers, [model for model in models if model in earlier], left_out


class _PairCounts(msgspec.Struct):
    paired: int = 0
    changed: int = 0
    unpaired: int = 0


class _Pairs(msgspec.Struct):
    """The results of one model that can be compared, as positions in the arrays of each run."""

    old: Ints
    new: Ints

    def rows(self, new: _EvaluatedRun) -> Ints:
        """Return the input row of each pair of results."""
        rows: Ints = new.results.fields["row"][self.new]
        return rows


def _pairs(
    old: _EvaluatedRun, new: _EvaluatedRun, model: str, targets: list[tuple[Ints, Ints]], counts: _PairCounts
) -> _Pairs:
    old_positions, new_positions = old.results.positions(model), new.results.positions(model)
    in_old, in_new = old_positions, new_positions
    keys = old.keys(old_positions), new.keys(new_positions)
    if not np.array_equal(*keys):
        _, at_old, at_new = np.intersect1d(*keys, assume_unique=True, return_indices=True)
        in_old, in_new = old_positions[at_old], new_positions[at_new]
    counts.unpaired += len(old_positions) + len(new_positions) - 2 * len(in_new)
    same = old.results.fields["request"][in_old] == new.results.fields["request"][in_new]
    for before, after in targets:
        same &= before[in_old] == after[in_new]
    counts.changed += int((~same).sum())
    counts.paired += int(same.sum())
    return _Pairs(in_old[same], in_new[same])


def _compared(model: str, metric: str, scorer: str, values: tuple[Floats, Floats], rows: Ints) -> Iterator[Comparison]:
    before, after = values
    both = ~(np.isnan(before) | np.isnan(after))
    paired = compare(before[both], after[both], rows[both])
    if paired is not None:
        yield Comparison(model, metric, scorer, paired)


def _values(run: _EvaluatedRun, metric: str, chosen: Ints) -> Floats:
    return run.results.fields["ok" if metric == "answered" else metric][chosen].astype(np.float64)


def _score_changes(model: str, scorer: str, values: tuple[Floats, Floats], keys: Ints) -> Iterator[ScoreChange]:
    before, after = values
    for at in np.flatnonzero(np.abs(after - before) > 0):  # leaves out NaN
        row, sample = divmod(int(keys[at]), 10_000)
        yield ScoreChange(model, scorer, row, sample, float(before[at]), float(after[at]))
