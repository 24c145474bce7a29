"""Compares the scores of the same rows in two runs, pair by pair. All functions are pure and work on arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np

from batchmix.evaluation.metrics import Z95, Floats, Ints, clustered_stderr, row_sums

_EXACT = 1_000
"""The most rows with a difference for which the test is exact. With more, the normal approximation is as good."""
_DRAWS = 10_000
"""The number of random sign flips."""
_CHUNK = 500
"""The number of random sign flips that are drawn at once. This bounds the memory."""


class Paired(msgspec.Struct, frozen=True):
    """The difference of one metric between two runs, over the results that both have."""

    n: int
    rows: int
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


def compare(before: Floats, after: Floats, rows: Ints) -> Paired | None:
    """Return the mean difference of paired values with its interval and p-values. None if there are no pairs.

    The interval is the normal one, from the standard error of the paired differences, clustered by row, as in Miller,
    "Adding Error Bars to Evals" (2024), section 4.2. The p-values are those of Fisher's sign-flip test on the sum of
    each row's differences (see `sign_flip_p`).
    """
    if not len(rows):
        return None
    differences = after - before
    clusters, error = clustered_stderr(differences, rows)
    mean = float(differences.mean())
    sums = row_sums(differences, rows)
    fall, rise = sign_flip_p(sums), sign_flip_p(-sums)
    margin = None if error is None else Z95 * error
    return Paired(
        n=len(rows),
        rows=clusters,
        before=float(before.mean()),
        after=float(after.mean()),
        difference=mean,
        low=None if margin is None else mean - margin,
        high=None if margin is None else mean + margin,
        p=min(1.0, 2 * min(fall, rise)),
        p_fall=fall,
        p_rise=rise,
        wins=int((differences > 0).sum()),
        losses=int((differences < 0).sum()),
        ties=int((differences == 0).sum()),
    )


def sign_flip_p(differences: Floats) -> float:
    """Return the probability that the sum of the differences is this small, or smaller, if their signs are random.

    This is the one-sided test of Fisher (1935) for a fall. If all differences have the same size (scores of 0 and 1,
    for example), it equals the exact test of McNemar (1947), which is binomial on the rows that differ. Otherwise
    10,000 sign flips are drawn, with a fixed seed, and the observed signs are counted as one more (Phipson and Smyth
    2010). With more than 1,000 differing rows, the normal approximation of both tests is used.
    """
    moved = differences[np.abs(differences) > 1e-12]
    count = len(moved)
    if not count:
        return 1.0
    total, size = float(moved.sum()), float(np.abs(moved).max())
    equal = bool(np.all(np.abs(np.abs(moved) - size) <= 1e-9 * size))
    if count > _EXACT:
        step = size if equal else 0.0  # the total moves in steps of two sizes
        return math.erfc(-(total + step) / math.sqrt(2 * float(moved @ moved))) / 2
    if equal:
        rises = int((moved > 0).sum())
        return float(sum(math.comb(count, k) for k in range(rises + 1)) / 2**count)
    draw = np.random.default_rng(0)
    as_far = 0
    for _ in range(0, _DRAWS, _CHUNK):
        signs = draw.integers(0, 2, size=(_CHUNK, count), dtype=np.int8) * 2.0 - 1.0
        as_far += int((signs @ np.abs(moved) <= total + 1e-9 * size).sum())
    return (as_far + 1) / (_DRAWS + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm-adjusted p-values (Holm 1979), which control the family-wise error rate."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted = [1.0] * len(p_values)
    lower_bound = 0.0
    for rank, at in enumerate(order):
        lower_bound = max(lower_bound, min(1.0, p_values[at] * (len(p_values) - rank)))
        adjusted[at] = lower_bound
    return adjusted
