"""Computes metrics from arrays of scores, without any input or output.

`scores` are float64, one for each result, without NaN. `rows` are the numbers of the input rows that the scores belong
to, in ascending order. Samples of the same row are not independent, so standard errors are clustered by row, as in
Miller, "Adding Error Bars to Evals" (2024), section 2.2.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Z95 = 1.959963984540054
"""The 97.5 % quantile of the normal distribution, for 95 % intervals."""
_PASS_AT = (1, 2, 5, 10, 20, 50, 100)
"""The k for which pass@k is reported, up to the number of samples. That number itself is added."""


class Estimate(msgspec.Struct, frozen=True):
    """A mean with its standard error and its 95 % interval."""

    n: int
    """The number of scores."""
    rows: int
    """The number of input rows that the scores belong to."""
    mean: float | None
    stderr: float | None
    """The standard error of the mean. None if there are fewer than two rows."""
    low: float | None
    """The lower end of the 95 % interval."""
    high: float | None
    """The upper end of the 95 % interval."""


def estimate(scores: Floats, rows: Ints) -> Estimate:
    """Return the mean of the scores with its standard error and its 95 % interval.

    The interval is the normal one, as in Miller (2024). If all scores are 0 or 1, it is Wilson's (1927), which stays
    inside [0, 1] and has a width even if all scores are 1. The n of its formula is then the number of independent
    scores that would have the same standard error.
    """
    if not len(scores):
        return Estimate(0, 0, None, None, None, None)
    mean = float(scores.mean())
    clusters, error = clustered_stderr(scores, rows)
    if error is None:
        return Estimate(len(scores), clusters, mean, None, None, None)
    if all_zero_or_one(scores):
        low, high = _wilson(mean, _effective(scores, mean, clusters, error))
    else:
        low, high = mean - Z95 * error, mean + Z95 * error
    return Estimate(len(scores), clusters, mean, error, low, high)


def clustered_stderr(scores: Floats, rows: Ints) -> tuple[int, float | None]:
    """Return the number of clusters and the standard error of the mean, which is None for fewer than two clusters.

    A cluster is the scores of one row. The formula is equation 4 of Miller (2024) with the usual correction G / (G - 1)
    for few clusters (Cameron and Miller 2015, equation 11). If each row has one score, it is the usual standard error.
    """
    sums = row_sums(scores - scores.mean(), rows)
    clusters = len(sums)
    if clusters < 2:
        return clusters, None
    return clusters, math.sqrt(clusters / (clusters - 1) * float(sums @ sums)) / len(scores)


def row_sums(scores: Floats, rows: Ints) -> Floats:
    """Return the sum of each row's scores."""
    firsts = _firsts(rows)
    return scores if len(firsts) == len(rows) else np.add.reduceat(scores, firsts)


def _firsts(rows: Ints) -> Ints:
    """Return the position of the first score of each row."""
    return np.flatnonzero(np.diff(rows, prepend=-1))


def all_zero_or_one(scores: Floats) -> bool:
    """Return whether all scores are 0 or 1."""
    return bool(np.all((scores == 0) | (scores == 1)))


def _effective(scores: Floats, mean: float, clusters: int, error: float) -> float:
    """Return the number of independent scores of 0 or 1 that would have this standard error."""
    n = len(scores)
    if clusters == n or error == 0:
        return clusters
    return min(float(n), n * (mean * (1 - mean) / (n - 1)) / error**2)


def _wilson(mean: float, n: float) -> tuple[float, float]:
    z2 = Z95**2
    middle = (mean + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * math.sqrt(mean * (1 - mean) / n + z2 / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def pass_at(scores: Floats, rows: Ints) -> dict[int, float]:
    """Return pass@k for several k: the probability that at least one of k samples is right.

    Empty if rows have only one sample, or if a score is neither 0 nor 1. The estimate is the unbiased one of Chen et
    al., "Evaluating Large Language Models Trained on Code" (2021), equation 1: the mean over rows of
    1 - C(n - c, k) / C(n, k), if c of n samples are right. Rows with fewer than k samples are left out of pass@k.
    """
    if not len(scores) or not all_zero_or_one(scores):
        return {}
    samples = np.diff(np.append(_firsts(rows), len(rows)))
    max_samples = int(samples.max())
    if max_samples < 2:
        return {}
    right = row_sums(scores, rows).astype(np.int64)
    kinds, counts = np.unique(np.stack([samples, right]), axis=1, return_counts=True)
    rows_of = [(int(n), int(c), int(count)) for (n, c), count in zip(kinds.T, counts, strict=True)]
    return {k: _mean_pass_at(rows_of, k) for k in sorted({k for k in _PASS_AT if k <= max_samples} | {max_samples})}


def _mean_pass_at(rows_of: list[tuple[int, int, int]], k: int) -> float:
    """Return pass@k, given tuples (n, c, count): in `count` rows, c of n samples are right."""
    enough = [(n, c, count) for n, c, count in rows_of if n >= k]
    return sum(_pass_at(n, c, k) * count for n, c, count in enough) / sum(count for _, _, count in enough)


def _pass_at(n: int, c: int, k: int) -> float:
    return 1 - math.comb(n - c, k) / math.comb(n, k)


def percentiles(values: Floats, points: tuple[int, ...] = (50, 90, 99)) -> dict[str, float] | None:
    """Return the `mean` and the percentiles, named `p50` and so on, with linear interpolation. None without values."""
    if not len(values):
        return None
    at_points = np.percentile(values, points)
    named = {f"p{point}": float(value) for point, value in zip(points, at_points, strict=True)}
    return {"mean": float(values.mean()), **named}
