"""Takes a pace that all models have in common out of their latencies. All functions are pure and work on arrays.

Some nights a gateway is slow with every model. That is no reason to say that a model has become slower: it has only if
it has also become slower than the other models have.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec
import numpy as np

from batchmix.statistics.metrics import Floats, Ints, mean_spread
from batchmix.statistics.paired import Paired, compare, compare_percentile

_SHORTEST_S = 1e-6
"""The shortest latency. Shorter ones have no useful logarithm."""


class Latencies(msgspec.Struct, frozen=True):
    """The latencies of one model in two runs, pair by pair."""

    before: Floats
    after: Floats
    rows: Ints
    """The input row of each pair."""
    clusters: Ints
    """The cluster of each pair: mostly its row."""


def beyond_pace(models: Mapping[str, Latencies], percent: float | None = None) -> dict[str, Paired]:
    """Return for each model how its latencies have changed beyond those of the other models.

    The measure is the log ratio of after to before, less the mean one of the other models in the same row, or that of
    all rows where no other model has the row. With `percent` it is that percentile of the latencies, and what is taken
    out of them is the other models' mean over all rows: row by row, their noise would widen the distribution. A model
    without others is left out.
    """
    filled = {name: pairs for name, pairs in models.items() if len(pairs.rows)}
    if len(filled) < 2:
        return {}
    paces = _paces(filled)
    compared = {
        name: _without(pairs, paces[name]) if percent is None else _percentile_without(pairs, paces[name], percent)
        for name, pairs in filled.items()
    }
    return {name: paired for name, paired in compared.items() if paired}


def _without(pairs: Latencies, pace: Floats) -> Paired | None:
    return compare(np.zeros(len(pace)), _log_ratios(pairs) - pace, pairs.clusters)


def _percentile_without(pairs: Latencies, pace: Floats, percent: float) -> Paired | None:
    """Return the comparison of a percentile without the pace, whose own error is on the side of no change."""
    found = mean_spread(pace, pairs.clusters)
    error = found.stderr or 0.0
    faster, slower = (
        compare_percentile(pairs.before * half, pairs.after / half, pairs.clusters, percent)
        for half in (math.exp((found.mean + error) / 2), math.exp((found.mean - error) / 2))
    )
    if faster is None or slower is None:
        return None
    p_rise, p_fall = faster.p_rise, slower.p_fall
    return msgspec.structs.replace(slower, p_rise=p_rise, p_fall=p_fall, p=min(1.0, 2 * min(p_rise, p_fall)))


def _paces(models: Mapping[str, Latencies]) -> dict[str, Floats]:
    """Return for each model and pair the mean log ratio of the other models."""
    rows, places = np.unique(np.concatenate([pairs.rows for pairs in models.values()]), return_inverse=True)
    ends = np.cumsum([len(pairs.rows) for pairs in models.values()])
    places_of = dict(zip(models, np.split(places, ends[:-1]), strict=True))
    counts = {name: np.bincount(places, minlength=len(rows)) for name, places in places_of.items()}
    means = {
        name: np.bincount(places_of[name], _log_ratios(pairs), len(rows)) / np.maximum(counts[name], 1)
        for name, pairs in models.items()
    }
    total, having = np.sum(list(means.values()), axis=0), np.sum([found > 0 for found in counts.values()], axis=0)
    return {name: _pace(total - means[name], having - (counts[name] > 0))[places_of[name]] for name in models}


def with_pace(own: Paired, relative: Paired) -> Paired:
    """Return a model's comparison, with the p-values of having changed both by itself and beyond the other models.

    Both must be significant, so the larger p-value counts (the intersection-union test of Berger 1982).
    """
    return msgspec.structs.replace(
        own,
        p=max(own.p, relative.p),
        p_fall=max(own.p_fall, relative.p_fall),
        p_rise=max(own.p_rise, relative.p_rise),
        least_p=max(own.least_p, relative.least_p),
        without_pace=True,
    )


def _log_ratios(pairs: Latencies) -> Floats:
    ratios: Floats = np.log(np.maximum(pairs.after, _SHORTEST_S) / np.maximum(pairs.before, _SHORTEST_S))
    return ratios


def _pace(total: Floats, count: Ints) -> Floats:
    """Return the mean log ratio of the other models in each row, given its sum and their number."""
    shared = count > 0
    means = total / np.maximum(count, 1)
    pace: Floats = np.where(shared, means, means[shared].mean() if shared.any() else 0.0)
    return pace
