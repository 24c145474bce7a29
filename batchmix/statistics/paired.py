"""Compares the values of the same rows in two runs, pair by pair. All functions are pure and work on arrays."""

from __future__ import annotations

import msgspec
import numpy as np

from batchmix.statistics.metrics import Floats, Ints, cluster_sums, mean_spread
from batchmix.statistics.sign_flips import least_p, moved_of, sign_flip_p


class Paired(msgspec.Struct, frozen=True):
    """The difference of one metric between two runs, over the results that both have."""

    n: int
    rows: int
    """The number of rows, or of clusters of rows (`eval.cluster`)."""
    before: float
    after: float
    difference: float
    """After minus before."""
    low: float | None
    """The lower end of the difference's 95 % interval. None if there are fewer than two rows."""
    high: float | None
    """The upper end of the difference's 95 % interval. None if there are fewer than two rows."""
    p: float
    """The two-sided p-value."""
    p_fall: float
    """The one-sided p-value of a fall."""
    p_rise: float
    """The one-sided p-value of a rise."""
    wins: int
    """The number of results whose value rose."""
    losses: int
    """The number of results whose value fell."""
    ties: int
    """The number of results whose value stayed the same."""
    stderr: float | None = None
    """The standard error of the difference. None if there are fewer than two rows."""
    df: float = 0.0
    """The degrees of freedom of the standard error."""
    change: float = 0.0
    """The typical size of a change of one result that changes: 1 for scores of 0 and 1. 0 for a percentile."""
    least_p: float = 0.0
    """The smallest one-sided p-value that the rows that changed could have, if all had changed to the same side."""
    without_pace: bool = False
    """Whether the p-values are those of a change beyond the pace that all models share."""
    can_change: int = 0
    """How many rows, or clusters of rows, could change to the same side: of a percentile, those that can exceed it.

    Those of uneven weight or size count as fewer: as many equal ones as have the same spread of weights (Kish 1965)."""


def compare(before: Floats, after: Floats, clusters: Ints, weights: Floats | None = None) -> Paired | None:
    """Return the mean difference of paired values with its interval and p-values. None if there are no pairs.

    The interval is Student's, from the standard error of the paired differences, clustered by row or as `clusters`
    says, as in Miller, "Adding Error Bars to Evals" (2024), section 4.2. The p-values are those of Fisher's sign-flip
    test on the sum of each cluster's differences (see `sign_flip_p`): all results of a cluster flip together. Pairs
    that weigh 0 are left out.
    """
    if weights is not None:
        counts = weights > 0
        before, after, clusters, weights = before[counts], after[counts], clusters[counts], weights[counts]
    if not len(clusters):
        return None
    means = [float(np.average(values, weights=weights)) for values in (before, after)]
    return _paired(means, (before, after), after - before, clusters, weights)


def compare_percentile(before: Floats, after: Floats, clusters: Ints, percent: float) -> Paired | None:
    """Return the difference of a percentile of paired values with its interval and p-values. None without pairs.

    The later percentile is larger if more of the later values than of the earlier ones exceed the percentile of all.
    These are paired values of 0 and 1, so this is tested as for scores: the median test of Mood (1954), in pairs.
    The interval is found as by Woodruff (1952): that of the share of values is read off the distribution of all values.
    """
    if not len(clusters):
        return None
    everything = np.concatenate([before, after])
    bound = np.percentile(everything, percent)
    shares = (before > bound).astype(np.float64), (after > bound).astype(np.float64)
    ends = [float(np.percentile(values, percent)) for values in (before, after)]
    found = _paired(ends, (before, after), shares[1] - shares[0], clusters, None)
    found = msgspec.structs.replace(found, can_change=min(found.can_change, int(sum(share.sum() for share in shares))))
    margin = mean_spread(shares[1] - shares[0], clusters).margin
    if margin is None:
        return found
    low, high = (
        float(np.percentile(everything, min(100.0, max(0.0, percent + side * 100 * margin))) - bound)
        for side in (-1, 1)
    )
    return msgspec.structs.replace(
        found,
        low=found.difference + low,
        high=found.difference + high,
        stderr=(high - low) / (2 * margin) * (found.stderr or 0.0) if margin else 0.0,
        change=0.0,
    )


def _paired(
    ends: list[float], values: tuple[Floats, Floats], differences: Floats, clusters: Ints, weights: Floats | None
) -> Paired:
    """Return the comparison whose values before and after are `ends`, given the differences to test."""
    found = mean_spread(differences, clusters, weights)
    sums = cluster_sums(differences if weights is None else differences * weights, clusters)
    fall, rise = sign_flip_p(sums), sign_flip_p(-sums)
    difference, margin = ends[1] - ends[0], found.margin
    changes = values[1] - values[0]
    return Paired(
        n=len(clusters),
        rows=found.clusters,
        before=ends[0],
        after=ends[1],
        difference=difference,
        low=None if margin is None else difference - margin,
        high=None if margin is None else difference + margin,
        p=min(1.0, 2 * min(fall, rise)),
        p_fall=fall,
        p_rise=rise,
        wins=int((changes > 0).sum()),
        losses=int((changes < 0).sum()),
        ties=int((changes == 0).sum()),
        stderr=found.stderr,
        df=found.df,
        change=_typical_change(values, np.abs(changes)),
        least_p=least_p(len(moved_of(sums))),
        can_change=round(found.df) + 1,
    )


def _typical_change(values: tuple[Floats, Floats], changes: Floats) -> float:
    """Return the mean size of the changes, large ones weighing more. If nothing changed: the largest value."""
    if changes.any():
        return float(changes @ changes / changes.sum())
    return float(np.abs(values[0]).max()) or 1.0  # all are 0: shares, each of which may become 1
