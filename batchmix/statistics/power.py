"""How small a change a comparison could find at all. All functions are pure."""

from __future__ import annotations

import math

from batchmix.statistics.paired import Paired
from batchmix.statistics.student import t_quantile

POWER = 0.8
"""The probability with which a change of the smallest detectable size is found."""


def detectable(paired: Paired, level: float) -> float | None:
    """Return the smallest worsening that the comparison would have found with a probability of 80 %.

    `level` is that of the one-sided test. None with fewer than two rows, if no worsening is possible, and if a shared
    pace was taken out, since how well the test sees beyond it does not follow from one model's own latencies.
    """
    if paired.stderr is None or paired.without_pace:
        return None
    # Where most results stay as they are, a worsening is more results that change, and their number varies. Where all
    # change, it is a shift of all of them.
    per_change = paired.change / paired.n * paired.ties / paired.n
    return _smallest(paired.stderr**2, per_change, (paired.n, paired.df), level) or None


def detectable_in_rows(rows: int, level: float, stderr: float | None = None) -> float | None:
    """Return the smallest fall of a score of 0 and 1 that a comparison of two runs with so many rows could find.

    `stderr` is that of the difference between two runs, for so many rows. Without it, half of the answers are taken to
    be right, and which ones by chance: no score has a larger one. None with fewer than two rows.
    """
    if rows < 2:
        return None
    if stderr is None:
        return _smallest(0.5 / rows, 0.0, (rows, rows - 1), level, step=1 / rows)
    return _smallest(stderr**2, 1 / rows, (rows, rows - 1), level)


def _smallest(variance: float, per_change: float, size: tuple[int, float], level: float, step: float = 0.0) -> float:
    """Return the smallest difference that is found, by the formula of Connor (1987) for paired shares.

    `variance` is that of the difference if nothing gets worse, and a worsening adds `per_change` for each unit. `size`
    is the number of results and the degrees of freedom; `step` is that of an exact test's sum.
    """
    count, df = size
    of_level, of_power = t_quantile(1 - level, df), t_quantile(POWER, df)

    def needed(difference: float) -> float:
        whole = variance + per_change * difference
        rest = max(0.0, whole - difference**2 / count)
        return (step or per_change) + of_level * math.sqrt(whole) + of_power * math.sqrt(rest)

    low, high = 0.0, 1.0
    while needed(high) > high:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if needed(middle) > middle else (low, middle)
    return high if needed(0.0) > 0 else 0.0
