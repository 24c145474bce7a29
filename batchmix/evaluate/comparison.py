"""Compares two evaluated runs: pairs their results by row and sample, and tests each guarded metric for a change."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np

from batchmix.errors import RunError
from batchmix.evaluate.measure import Metrics, guarded, missed_thresholds, read_metrics, read_scores, read_targets
from batchmix.evaluate.metrics import Floats, Ints
from batchmix.evaluate.paired import Paired, compare, holm
from batchmix.evaluate.result_arrays import ResultArrays, read_result_arrays
from batchmix.formats.pyarrow_setup import set_up_arrow
from batchmix.job.eval_table import LESS_IS_BETTER, Guard
from batchmix.store.run_folder import Layout

LEVEL = 0.05
"""The significance level: the highest probability that a comparison reports a change although there is none."""
DRIFTS = ("answered", "refused", "response_chars", "cost_usd", "latency_s")
_FIELDS = ("row", "sample", "ok", "request", *DRIFTS[1:])
_DEFAULT_GUARDS = (Guard(),)


class Comparison(msgspec.Struct, frozen=True):
    """One metric of one model in both runs."""

    model: str
    metric: str
    scorer: str
    """Empty for metrics other than `score`."""
    paired: Paired
    adjusted_p: float | None = None
    """The one-sided p-value of getting worse, adjusted for all guarded metrics (Holm); None: the metric is not guarded.
    """
    verdict: str = ""
    """`worse`, `better` or `same`; empty if the metric is not guarded."""


class ScoreChange(msgspec.Struct, frozen=True):
    """A result whose score differs between the runs."""

    model: str
    scorer: str
    row: int
    sample: int
    before: float
    after: float


class Diff(msgspec.Struct, frozen=True):
    """The differences between two runs."""

    before: str
    after: str
    """The run folders."""
    paired: int
    """The number of results that were compared."""
    changed: int
    """The number of results left out because their request or their target has changed."""
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
        return [comparison for comparison in self.comparisons if comparison.verdict == "worse"]


class _EvaluatedRun(msgspec.Struct):
    """One of the two runs, with the arrays that the comparison needs."""

    layout: Layout
    metrics: Metrics
    results: ResultArrays

    def keys(self, chosen: Ints) -> Ints:
        """Return a number for each result at these positions; results of different rows or samples differ in it."""
        row, sample = (self.results.fields[name][chosen] for name in ("row", "sample"))
        keys: Ints = row.astype(np.int64) * 10_000 + sample  # a job has at most 10,000 samples
        return keys

    def scores(self, scorer: str) -> Floats:
        """Return the scores of all results by one scorer."""
        return read_scores(self.layout, self.metrics.settings, scorer, self.results.count)

    def targets(self, scorer: str) -> Ints:
        """Return a scorer's targets for all results as hashes, so that those of two runs can be compared."""
        return read_targets(self.layout, self.metrics.settings, scorer, self.results.count)


def diff(before: Path, after: Path) -> Diff:
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
        comparisons += [one for scorer in scorers for one in scored[model, scorer]]
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
        moved=tuple(sorted(changes, key=lambda one: (one.after - one.before, one.row))),
    )


def with_verdicts(comparisons: list[Comparison], guards: tuple[Guard, ...]) -> Iterator[Comparison]:
    """Yield the comparisons, with a verdict for those that are guarded.

    Each guarded metric is tested for getting worse. The p-values are adjusted (Holm) so that `LEVEL` holds for all
    tests together. Getting better is tested at the same level, only for information.
    """
    scorers = list(dict.fromkeys(one.scorer for one in comparisons if one.scorer))
    models = list(dict.fromkeys(one.model for one in comparisons))
    guard_of = {(str(guard.metric), model, scorer): guard for guard, model, scorer in guarded(guards, scorers, models)}
    tested = [at for at, one in enumerate(comparisons) if (one.metric, one.model, one.scorer) in guard_of]
    worse = dict(zip(tested, holm([_p(comparisons[at], worse=True) for at in tested]), strict=True))
    better = dict(zip(tested, holm([_p(comparisons[at], worse=False) for at in tested]), strict=True))
    for at, one in enumerate(comparisons):
        if at not in worse:
            yield one
            continue
        allowed = guard_of[one.metric, one.model, one.scorer].no_worse_by
        verdict = "better" if better[at] <= LEVEL else "same"
        if worse[at] <= LEVEL and abs(one.paired.difference) > allowed:
            verdict = "worse"
        yield msgspec.structs.replace(one, adjusted_p=worse[at], verdict=verdict)


def _p(one: Comparison, *, worse: bool) -> float:
    """Return the one-sided p-value for a metric getting worse (`worse`), or getting better."""
    return one.paired.p_rise if (one.metric in LESS_IS_BETTER) == worse else one.paired.p_fall


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
    """Return the scorers and the models that both runs have, and a message for each that only the later run has."""
    before = {scorer.name: scorer for scorer in old.settings.scorers}
    scorers, left_out = [], []
    for scorer in new.settings.scorers:
        if scorer.name not in before:
            left_out.append(f"scorer {scorer.name}: the earlier run has no such scores")
        elif scorer != before[scorer.name]:
            left_out.append(f"scorer {scorer.name}: has changed since; score the earlier run again with batchmix eval")
        else:
            scorers.append(scorer.name)
    earlier = {found.model for found in old.models}
    models = [found.model for found in new.models]
    left_out += [f"model {model}: the earlier run has no such model" for model in models if model not in earlier]
    return scorers, [model for model in models if model in earlier], left_out


class _PairCounts(msgspec.Struct):
    paired: int = 0
    changed: int = 0
    unpaired: int = 0


class _Pairs(msgspec.Struct):
    """The results of one model that can be compared, as positions in each run."""

    old: Ints
    new: Ints

    def rows(self, side: _EvaluatedRun) -> Ints:
        """Return the input row of each pair of results."""
        found: Ints = side.results.fields["row"][self.new]
        return found


def _pairs(
    old: _EvaluatedRun, new: _EvaluatedRun, model: str, targets: list[tuple[Ints, Ints]], counts: _PairCounts
) -> _Pairs:
    theirs, mine = old.results.of(model), new.results.of(model)
    in_old, in_new = theirs, mine
    keys = old.keys(theirs), new.keys(mine)
    if not np.array_equal(*keys):
        _, at_old, at_new = np.intersect1d(*keys, assume_unique=True, return_indices=True)
        in_old, in_new = theirs[at_old], mine[at_new]
    counts.unpaired += len(mine) + len(theirs) - 2 * len(in_new)
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


def _values(side: _EvaluatedRun, metric: str, chosen: Ints) -> Floats:
    return side.results.fields["ok" if metric == "answered" else metric][chosen].astype(np.float64)


def _score_changes(model: str, scorer: str, values: tuple[Floats, Floats], keys: Ints) -> Iterator[ScoreChange]:
    before, after = values
    for at in np.flatnonzero(np.abs(after - before) > 0):  # NaN is not
        row, sample = divmod(int(keys[at]), 10_000)
        yield ScoreChange(model, scorer, row, sample, float(before[at]), float(after[at]))
