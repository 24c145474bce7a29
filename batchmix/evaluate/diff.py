"""How one run differs from another: paired by row and sample, guarded metrics held against chance."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from batchmix.arrow import set_up_arrow
from batchmix.errors import RunError
from batchmix.eval_table import LESS_IS_BETTER, Guard
from batchmix.evaluate.guards import guarded, missed
from batchmix.evaluate.measure import Metrics, equals, floats, read_metrics, read_results, refused
from batchmix.evaluate.metrics import Floats, Ints
from batchmix.evaluate.paired import Paired, compare, holm
from batchmix.evaluate.scoring import scores_path
from batchmix.store.rundir import Layout

LEVEL = 0.05
"""How often, at most, a diff finds anything in its guarded metrics where nothing has changed."""
DRIFTS = ("answered", "refused", "response_chars", "cost_usd", "latency_s")
_COLUMNS = [
    "row", "model", "sample", "status", "response", "refusal", "finish_reason", "cost_usd", "latency_s", "request_hash",
]  # fmt: skip
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

    metrics: Metrics
    results: pa.Table
    scores: pa.Table

    def of(self, model: str) -> Any:
        """Return where a model's results stand, in the order of row and sample."""
        return np.flatnonzero(equals(self.results["model"], model))

    def keys(self, chosen: Any) -> Ints:
        """Return one number for each row and sample."""
        columns = (self.results[name].to_numpy().astype(np.int64)[chosen] for name in ("row", "sample"))
        row, sample = columns
        keys: Ints = row * 10_000 + sample  # a job has at most 10,000 samples
        return keys

    def score(self, scorer: str, chosen: Any) -> tuple[Floats, Any]:
        """Return a scorer's scores and targets of some results."""
        names = [asked.name for asked in self.metrics.asked.scorers]
        at = chosen * len(names) + names.index(scorer)
        return floats(self.scores["score"])[at], self.scores["target"].take(pa.array(at))


def diff(before: Path, after: Path) -> Diff:
    """Compare two evaluated runs. Raises `RunError` where one of them is not evaluated."""
    set_up_arrow()
    old, new = _side(before), _side(after)
    scorers, models, left_out = _common(old.metrics, new.metrics)
    counted = _Counted()
    comparisons: list[Comparison] = []
    moved: list[Moved] = []
    for model in models:
        pairs = _pairs(old, new, model, scorers, counted)
        for scorer in scorers:
            comparisons += _compared(model, "score", scorer, pairs.scores[scorer], pairs.rows)
            moved += _moved(model, scorer, pairs)
        for metric in DRIFTS:
            values = (_values(old, metric, pairs.old), _values(new, metric, pairs.new))
            comparisons += _compared(model, metric, "", values, pairs.rows)
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
    scores = pq.read_table(scores_path(layout), columns=["score", "target"])
    results = read_results(folder, _COLUMNS)
    if scores.num_rows != results.num_rows * len(metrics.asked.scorers):
        raise RunError(f"{folder}: has gone on since it was evaluated; batchmix eval {folder} scores it anew")
    return _Side(metrics, results, scores)


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

    old: Any
    new: Any
    rows: Ints
    samples: Ints
    scores: dict[str, tuple[Floats, Floats]]


def _pairs(old: _Side, new: _Side, model: str, scorers: list[str], counted: _Counted) -> _Pairs:
    mine, theirs = new.of(model), old.of(model)
    _, at_old, at_new = np.intersect1d(old.keys(theirs), new.keys(mine), assume_unique=True, return_indices=True)
    counted.unpaired += len(mine) + len(theirs) - 2 * len(at_new)
    in_old, in_new = theirs[at_old], mine[at_new]
    same = _same(old.results["request_hash"].take(pa.array(in_old)), new.results["request_hash"].take(pa.array(in_new)))
    scores = {}
    for scorer in scorers:
        (before, wanted_then), (after, wanted) = old.score(scorer, in_old), new.score(scorer, in_new)
        same &= _same(wanted_then, wanted)
        scores[scorer] = (before, after)
    counted.changed += int((~same).sum())
    counted.paired += int(same.sum())
    keys = new.keys(in_new)[same]
    return _Pairs(
        old=in_old[same],
        new=in_new[same],
        rows=keys // 10_000,
        samples=keys % 10_000,
        scores={scorer: (before[same], after[same]) for scorer, (before, after) in scores.items()},
    )


def _same(one: Any, other: Any) -> Any:
    """Return where two columns of text are the same; nulls are."""
    texts = [column.cast(pa.string()).combine_chunks() for column in (one, other)]
    nulls = pc.and_(texts[0].is_null(), texts[1].is_null())
    equal = pc.fill_null(pc.equal(*texts), False)  # noqa: FBT003
    return pc.or_(nulls, equal).to_numpy(zero_copy_only=False)


def _compared(model: str, metric: str, scorer: str, values: tuple[Floats, Floats], rows: Ints) -> Iterator[Comparison]:
    before, after = values
    both = ~(np.isnan(before) | np.isnan(after))
    paired = compare(before[both], after[both], rows[both])
    if paired is not None:
        yield Comparison(model, metric, scorer, paired)


def _values(side: _Side, metric: str, chosen: Any) -> Floats:
    picked = side.results.take(pa.array(chosen))
    if metric == "answered":
        return equals(picked["status"], "ok").astype(np.float64)
    if metric == "refused":
        return floats(refused(picked).cast(pa.int8()))
    return floats(picked["response" if metric == "response_chars" else metric])


def _moved(model: str, scorer: str, pairs: _Pairs) -> Iterator[Moved]:
    before, after = pairs.scores[scorer]
    for at in np.flatnonzero(np.abs(after - before) > 0):  # NaN is not
        yield Moved(model, scorer, int(pairs.rows[at]), int(pairs.samples[at]), float(before[at]), float(after[at]))
