"""How one run differs from another: paired by row and sample, guarded metrics held against chance."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np

from batchmix.errors import RunError
from batchmix.evaluate.guards import guarded, missed
from batchmix.evaluate.measure import Metrics, read_metrics, read_scores, read_targets
from batchmix.evaluate.metrics import Floats, Ints
from batchmix.evaluate.paired import Paired, compare, holm
from batchmix.evaluate.results import Results, gathered
from batchmix.formats.pyarrow_setup import set_up_arrow
from batchmix.job.eval_table import LESS_IS_BETTER, Guard
from batchmix.store.run_folder import Layout

LEVEL = 0.05
"""How often, at most, a diff finds anything in its guarded metrics where nothing has changed."""
DRIFTS = ("answered", "refused", "response_chars", "cost_usd", "latency_s")
_FIELDS = ("row", "sample", "ok", "request", *DRIFTS[1:])
_DEFAULT_GUARDS = (Guard(),)


class Comparison(msgspec.Struct, frozen=True):
    """One metric of one model in both runs."""

    model: str
    metric: str
    scorer: str
    """Empty for metrics that need none."""
    paired: Paired
    adjusted_p: float | None = None
    """Of a guarded metric: that it is worse by chance, after Holm over all of them; None: not guarded, no verdict."""
    verdict: str = ""
    """Of a guarded metric: `worse`, `better` or `same`."""


class Moved(msgspec.Struct, frozen=True):
    """A result whose score has changed."""

    model: str
    scorer: str
    row: int
    sample: int
    before: float
    after: float


class Diff(msgspec.Struct, frozen=True):
    """Two runs beside each other."""

    before: str
    after: str
    """The run folders."""
    paired: int
    """Results that both have."""
    changed: int
    """Results left out because their request or their target is another now."""
    unpaired: int
    """Results that only one of them has."""
    left_out: tuple[str, ...]
    """Scorers and models that can't be compared, and why."""
    comparisons: tuple[Comparison, ...]
    missed: tuple[str, ...]
    """Thresholds that the later run misses."""
    moved: tuple[Moved, ...]

    @property
    def worse(self) -> list[Comparison]:
        """The guarded metrics that are significantly worse."""
        return [comparison for comparison in self.comparisons if comparison.verdict == "worse"]


class _Side(msgspec.Struct):
    """One run, as it is compared."""

    layout: Layout
    metrics: Metrics
    results: Results

    def keys(self, chosen: Ints) -> Ints:
        """Return one number for each row and sample."""
        row, sample = (self.results.fields[name][chosen] for name in ("row", "sample"))
        keys: Ints = row.astype(np.int64) * 10_000 + sample  # a job has at most 10,000 samples
        return keys

    def scores(self, scorer: str) -> Floats:
        """Return a scorer's scores."""
        return read_scores(self.layout, self.metrics.asked, scorer, self.results.count)

    def targets(self, scorer: str) -> Ints:
        """Return a number for each of a scorer's targets, the same in both runs."""
        return read_targets(self.layout, self.metrics.asked, scorer, self.results.count)


def diff(before: Path, after: Path) -> Diff:
    """Compare two evaluated runs. Raises `RunError` where one of them is not evaluated."""
    set_up_arrow()
    old, new = _side(before), _side(after)
    scorers, models, left_out = _common(old.metrics, new.metrics)
    counted = _Counted()
    same_targets = {scorer: (old.targets(scorer), new.targets(scorer)) for scorer in scorers}
    pairs = {model: _pairs(old, new, model, list(same_targets.values()), counted) for model in models}
    del same_targets
    scored: dict[tuple[str, str], list[Comparison]] = {}
    moved: list[Moved] = []
    for scorer in scorers:
        given = old.scores(scorer), new.scores(scorer)
        for model, pair in pairs.items():
            values = given[0][pair.old], given[1][pair.new]
            scored[model, scorer] = list(_compared(model, "score", scorer, values, pair.rows(new)))
            moved += _moved(model, scorer, values, new.keys(pair.new))
    comparisons: list[Comparison] = []
    for model, pair in pairs.items():
        comparisons += [one for scorer in scorers for one in scored[model, scorer]]
        for metric in DRIFTS:
            values = _values(old, metric, pair.old), _values(new, metric, pair.new)
            comparisons += _compared(model, metric, "", values, pair.rows(new))
    return Diff(
        before=str(before),
        after=str(after),
        paired=counted.paired,
        changed=counted.changed,
        unpaired=counted.unpaired,
        left_out=tuple(left_out),
        comparisons=tuple(judged(comparisons, new.metrics.asked.guards or _DEFAULT_GUARDS)),
        missed=tuple(missed(new.metrics)),
        moved=tuple(sorted(moved, key=lambda one: (one.after - one.before, one.row))),
    )


def judged(comparisons: list[Comparison], guards: tuple[Guard, ...]) -> Iterator[Comparison]:
    """Yield the comparisons; those that are guarded with a verdict.

    What is asked of each is whether it is worse, so the tests are one-sided, and the level holds for all of them
    together (Holm). `better` is told at the same level, and starts no alarm.
    """
    scorers = list(dict.fromkeys(one.scorer for one in comparisons if one.scorer))
    models = list(dict.fromkeys(one.model for one in comparisons))
    asked = {(str(guard.metric), model, scorer): guard for guard, model, scorer in guarded(guards, scorers, models)}
    tested = [at for at, one in enumerate(comparisons) if (one.metric, one.model, one.scorer) in asked]
    worse = dict(zip(tested, holm([_p(comparisons[at], worse=True) for at in tested]), strict=True))
    better = dict(zip(tested, holm([_p(comparisons[at], worse=False) for at in tested]), strict=True))
    for at, one in enumerate(comparisons):
        if at not in worse:
            yield one
            continue
        allowed = asked[one.metric, one.model, one.scorer].no_worse_by
        verdict = "better" if better[at] <= LEVEL else "same"
        if worse[at] <= LEVEL and abs(one.paired.difference) > allowed:
            verdict = "worse"
        yield msgspec.structs.replace(one, adjusted_p=worse[at], verdict=verdict)


def _p(one: Comparison, *, worse: bool) -> float:
    """Return how likely chance alone makes a metric as much worse, or better."""
    return one.paired.p_rise if (one.metric in LESS_IS_BETTER) == worse else one.paired.p_fall


def _side(folder: Path) -> _Side:
    layout = Layout(folder)
    metrics = read_metrics(layout)
    results = gathered(folder, _FIELDS)
    if results.lost:
        raise RunError(
            f"{results.lost[0]}; a diff of the rest would mislead: put a good copy back, or run it with --update"
        )
    return _Side(layout, metrics, results)


def _common(old: Metrics, new: Metrics) -> tuple[list[str], list[str], list[str]]:
    """Return the scorers and models that both runs have, and what is left out."""
    before = {scorer.name: scorer for scorer in old.asked.scorers}
    scorers, left_out = [], []
    for scorer in new.asked.scorers:
        if scorer.name not in before:
            left_out.append(f"scorer {scorer.name}: the earlier run has no such scores")
        elif scorer != before[scorer.name]:
            left_out.append(f"scorer {scorer.name}: was another one then; batchmix eval scores the earlier run anew")
        else:
            scorers.append(scorer.name)
    known = {found.model for found in old.models}
    models = [found.model for found in new.models]
    left_out += [f"model {model}: the earlier run has none of that name" for model in models if model not in known]
    return scorers, [model for model in models if model in known], left_out


class _Counted(msgspec.Struct):
    paired: int = 0
    changed: int = 0
    unpaired: int = 0


class _Pairs(msgspec.Struct):
    """The results of one model that can be compared: where they stand in each run."""

    old: Ints
    new: Ints

    def rows(self, side: _Side) -> Ints:
        """Return the row of each pair."""
        found: Ints = side.results.fields["row"][self.new]
        return found


def _pairs(old: _Side, new: _Side, model: str, targets: list[tuple[Ints, Ints]], counted: _Counted) -> _Pairs:
    theirs, mine = old.results.of(model), new.results.of(model)
    in_old, in_new = theirs, mine
    keys = old.keys(theirs), new.keys(mine)
    if not np.array_equal(*keys):
        _, at_old, at_new = np.intersect1d(*keys, assume_unique=True, return_indices=True)
        in_old, in_new = theirs[at_old], mine[at_new]
    counted.unpaired += len(mine) + len(theirs) - 2 * len(in_new)
    same = old.results.fields["request"][in_old] == new.results.fields["request"][in_new]
    for before, after in targets:
        same &= before[in_old] == after[in_new]
    counted.changed += int((~same).sum())
    counted.paired += int(same.sum())
    return _Pairs(in_old[same], in_new[same])


def _compared(model: str, metric: str, scorer: str, values: tuple[Floats, Floats], rows: Ints) -> Iterator[Comparison]:
    before, after = values
    both = ~(np.isnan(before) | np.isnan(after))
    paired = compare(before[both], after[both], rows[both])
    if paired is not None:
        yield Comparison(model, metric, scorer, paired)


def _values(side: _Side, metric: str, chosen: Ints) -> Floats:
    return side.results.fields["ok" if metric == "answered" else metric][chosen].astype(np.float64)


def _moved(model: str, scorer: str, values: tuple[Floats, Floats], keys: Ints) -> Iterator[Moved]:
    before, after = values
    for at in np.flatnonzero(np.abs(after - before) > 0):  # NaN is not
        row, sample = divmod(int(keys[at]), 10_000)
        yield Moved(model, scorer, row, sample, float(before[at]), float(after[at]))
