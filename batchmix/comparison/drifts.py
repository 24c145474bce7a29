"""Compares what needs no scorer in the paired results of all models: answers, refusals, length, cost, latency."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import msgspec
import numpy as np

from batchmix.comparison.lost_pairs import why_fewer
from batchmix.comparison.pair_comparisons import compared_values, most_to_pair
from batchmix.comparison.pairing import ComparedRun, ModelPairs
from batchmix.comparison.verdicts import Comparison
from batchmix.job.guards import LATENCY_POINTS
from batchmix.statistics.metrics import Bools, Floats
from batchmix.statistics.pace import Latencies, beyond_pace, with_pace

_ALWAYS = ("answered", "refused", "empty", "response_chars", "cost_usd", "latency_s")
"""The metrics that are compared whether guarded or not."""
_OF_ANSWERS = frozenset({"response_chars", "latency_s", *LATENCY_POINTS})
"""The metrics of which only answers have a value."""
_WHAT = {"cost_usd": "a known price", **dict.fromkeys(_OF_ANSWERS, "an answer")}
"""What a result must have so that it has a metric."""


class Drifts:
    """The comparisons of the metrics that need no scorer."""

    def __init__(
        self, pairs: Sequence[ModelPairs], old: ComparedRun, new: ComparedRun, guarded: Collection[str]
    ) -> None:
        """`guarded` are the metrics that a guard names. Percentiles of the latency are only compared if they are."""
        self._pairs = pairs
        self._runs = old, new
        self._metrics = [*_ALWAYS, *(metric for metric in LATENCY_POINTS if metric in guarded)]
        self._comparisons: dict[str, list[Comparison]] = {pair.model: [] for pair in pairs}
        for metric in self._metrics:
            for compared in self._of_metric(metric):
                self._comparisons[compared.model].append(compared)

    def of(self, model: str) -> list[Comparison]:
        """Return the comparisons of a model."""
        return self._comparisons[model]

    def _of_metric(self, metric: str) -> Iterator[Comparison]:
        old, new = (_values(run, metric) for run in self._runs)
        compared = [self._compared(metric, pair, old, new) for pair in self._pairs]
        if not metric.startswith("latency"):
            yield from compared
            return
        own = {pair.model: self._latencies(pair, old, new) for pair in self._pairs if pair.before_model == pair.model}
        relative = beyond_pace(own, LATENCY_POINTS.get(metric))
        for one in compared:
            paired, beyond = one.paired, relative.get(one.model)
            yield msgspec.structs.replace(one, paired=with_pace(paired, beyond)) if paired and beyond else one

    def _compared(self, metric: str, pair: ModelPairs, old: Floats, new: Floats) -> Comparison:
        known = _known(old[pair.in_before]), _known(new[pair.in_after])
        rows = most_to_pair(self._runs, *(int(found.sum()) for found in known))
        compared = Comparison(pair.model, metric, "", None, {}, pair.before_model, rows)
        values = old[pair.before], new[pair.after]
        lost = {f"without {_WHAT.get(metric, 'it')} in one of the runs": _known(values[0]) ^ _known(values[1])}
        why = why_fewer(pair, rows, lost) if rows else f"no result has {_WHAT.get(metric, 'it')}"
        design = self._runs[1].design.at(pair.after).unweighted
        return compared_values(compared, values, design, why, LATENCY_POINTS.get(metric))

    def _latencies(self, pair: ModelPairs, old: Floats, new: Floats) -> Latencies:
        both = _known(old[pair.before]) & _known(new[pair.after])
        rows = self._runs[1].results.fields["row"][pair.after].astype(np.int64)
        clusters = self._runs[1].design.clusters[pair.after]
        return Latencies(old[pair.before][both], new[pair.after][both], rows[both], clusters[both])


def _values(run: ComparedRun, metric: str) -> Floats:
    name = {"answered": "ok", **dict.fromkeys(LATENCY_POINTS, "latency_s")}.get(metric, metric)
    values = run.results.fields[name].astype(np.float64)
    return np.where(run.results.fields["ok"], values, np.nan) if metric in _OF_ANSWERS else values


def _known(values: Floats) -> Bools:
    known: Bools = ~np.isnan(values)
    return known
