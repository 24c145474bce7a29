"""Tests many metrics at once, so that all of them together raise few false alarms. All functions are pure."""

from __future__ import annotations

from collections.abc import Sequence

GROUPS_SHARE = 0.2
"""The share of the level that the scores of groups have together. The guarded metrics of all rows have the rest.

With it, a score of all rows loses next to nothing (2,000 rows: a fall of 3 points is found in 93 % of pairs instead of
94 %), and a group of 50 rows that falls by 40 points is found as surely as with the whole level.
"""


def holm(
    p_values: Sequence[float],
    weights: Sequence[float] | None = None,
    least: Sequence[float] | None = None,
    level: float = 0.05,
) -> list[float]:
    """Return Holm-adjusted p-values, which control the family-wise error rate (Holm 1979).

    `weights` say which part of the level each test has, in relation to the others; by default all have the same.
    `least` are the smallest p-values that the tests could have, given how few rows changed. A test that could not be
    significant in any case takes no part of the `level` (Tarone 1990; step by step, Hommel and Krummenauer 1998).
    """
    shares = [1.0] * len(p_values) if weights is None else list(weights)
    possible = _possible(least, shares, level) if least is not None else list(range(len(p_values)))
    left = sum(shares[at] for at in possible)
    adjusted = [min(1.0, p * left / share) for p, share in zip(p_values, shares, strict=True)]
    lower_bound = 0.0
    for at in sorted(possible, key=lambda at: p_values[at] / shares[at]):
        lower_bound = max(lower_bound, min(1.0, p_values[at] / shares[at] * left))
        adjusted[at] = lower_bound
        left -= shares[at]
    return adjusted


def _possible(least: Sequence[float], shares: Sequence[float], level: float) -> list[int]:
    """Return which tests could be significant: the fewest ones, so that no other could be even beside only these."""
    order = sorted(range(len(least)), key=lambda at: least[at] / shares[at])
    whole = 0.0
    for count, at in enumerate(order):
        if count and least[at] / shares[at] > level / whole:
            return order[:count]
        whole += shares[at]
    return order
