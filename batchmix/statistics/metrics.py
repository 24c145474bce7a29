"""Computes metrics from arrays of scores, without any input or output.

`scores` are float64, one for each result, without NaN. `clusters` say which of them belong together: results with equal
numbers are not independent, in whatever order they are. Mostly these are the numbers of the input rows, since samples
of the same row are alike; with `eval.cluster`, they are codes of a column's values. Standard errors are clustered by
them, as in Miller, "Adding Error Bars to Evals" (2024), section 2.2. `weights` say how much each result counts.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
import numpy.typing as npt

from batchmix.statistics.student import t_quantile

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Z95 = 1.959963984540054
"""The 97.5 % quantile of the normal distribution, for 95 % intervals."""


class Estimate(msgspec.Struct, frozen=True):
    """A mean with its standard error and its 95 % interval."""

    n: int
    """The number of scores."""
    rows: int
    """The number of input rows that the scores belong to, or of clusters of rows (`eval.cluster`)."""
    mean: float | None
    stderr: float | None
    """The standard error of the mean. None if there are fewer than two rows or clusters."""
    low: float | None
    """The lower end of the 95 % interval."""
    high: float | None
    """The upper end of the 95 % interval."""


class Spread(msgspec.Struct, frozen=True):
    """A mean, and how far it may be off."""

    mean: float
    clusters: int
    stderr: float | None
    """The standard error of the mean. None if there are fewer than two clusters."""
    df: float
    """The degrees of freedom of the standard error: one less than the effective number of clusters."""

    @property
    def margin(self) -> float | None:
        """Half the width of the mean's 95 % interval, by Student's t. None if there are fewer than two clusters."""
        return None if self.stderr is None else t_quantile(0.975, self.df) * self.stderr


def estimate(scores: Floats, clusters: Ints, weights: Floats | None = None) -> Estimate:
    """Return the mean of the scores with its standard error and its 95 % interval.

    The interval is Student's. If all scores are 0 or 1, it is Wilson's (1927), which stays inside [0, 1] and has a
    width even if all scores are 1. The n of its formula is then the number of independent scores that would have the
    same standard error. Scores that weigh 0 are left out.
    """
    if weights is not None:
        counts = weights > 0
        scores, clusters, weights = scores[counts], clusters[counts], weights[counts]
    if not len(scores):
        return Estimate(0, 0, None, None, None, None)
    found = mean_spread(scores, clusters, weights)
    margin = found.margin
    if margin is None:
        return Estimate(len(scores), found.clusters, found.mean, None, None, None)
    if all_zero_or_one(scores):
        low, high = _wilson(found, len(scores), weights)
    else:
        low, high = found.mean - margin, found.mean + margin
    return Estimate(len(scores), found.clusters, found.mean, found.stderr, low, high)


def mean_spread(values: Floats, clusters: Ints, weights: Floats | None = None) -> Spread:
    """Return the weighted mean of values, which are at least one, with its standard error, clustered.

    The formula is equation 4 of Miller (2024) with the usual correction G / (G - 1) for few clusters (Cameron and
    Miller 2015, equation 11). With one value per cluster and equal weights, it is the usual standard error. Clusters of
    different sizes count as fewer ones: as many equal ones as would have the same spread of sizes (Kish 1965; Carter,
    Schnepel and Steigerwald 2017).
    """
    weighted = np.ones(len(values)) if weights is None else weights
    whole = float(weighted.sum())
    mean = float(values @ weighted) / whole
    sums = cluster_sums((values - mean) * weighted, clusters)
    count = len(sums)
    if count < 2:
        return Spread(mean, count, None, 0.0)
    sizes = cluster_sums(weighted, clusters)
    effective = whole**2 / float(sizes @ sizes)
    error = math.sqrt(count / (count - 1) * float(sums @ sums)) / whole
    return Spread(mean, count, error, max(1.0, min(float(count), effective) - 1))


def cluster_sums(values: Floats, clusters: Ints) -> Floats:
    """Return the sum of each cluster's values."""
    firsts = first_positions(clusters)
    if len(firsts) == len(clusters) and bool(np.all(np.diff(clusters) > 0)):
        return values
    _, codes = np.unique(clusters, return_inverse=True)
    sums: Floats = np.bincount(codes, values).astype(np.float64)
    return sums


def first_positions(rows: Ints) -> Ints:
    """Return the position of the first score of each row, given the rows in ascending order."""
    return np.flatnonzero(np.diff(rows, prepend=-1))


def all_zero_or_one(scores: Floats) -> bool:
    """Return whether all scores are 0 or 1."""
    return bool(np.all((scores == 0) | (scores == 1)))


def _wilson(found: Spread, count: int, weights: Floats | None) -> tuple[float, float]:
    """Return Wilson's interval of a mean of `count` scores of 0 and 1."""
    plain = found.clusters == count and weights is None
    n = float(count) if plain else _effective(found, count)
    mean, z = found.mean, Z95 if plain else t_quantile(0.975, found.df)
    middle = (mean + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(mean * (1 - mean) / n + z * z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def _effective(found: Spread, count: int) -> float:
    """Return the number of independent scores of 0 or 1 that would have this standard error."""
    if not found.stderr or not 0 < found.mean < 1:
        return found.df + 1
    return min(float(count), count / (count - 1) * found.mean * (1 - found.mean) / found.stderr**2)


def percentiles(values: Floats, points: tuple[int, ...] = (50, 90, 99)) -> dict[str, float] | None:
    """Return the `mean` and the percentiles, named `p50` and so on, with linear interpolation. None without values."""
    if not len(values):
        return None
    at_points = np.percentile(values, points)
    named = {f"p{point}": float(value) for point, value in zip(points, at_points, strict=True)}
    return {"mean": float(values.mean()), **named}
