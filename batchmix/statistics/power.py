"""How small a change a comparison could find at all. All functions are pure."""

from __future__ import annotations

import math
from typing import NamedTuple

from batchmix.statistics.paired import Paired
from batchmix.statistics.student import t_quantile

POWER = 0.8
"""The probability with which a change of the smallest detectable size is found."""


class _Hurdle(NamedTuple):
    """What a worsening must pass so that it is found."""

    results: float
    """Their number, of equal weight."""
    df: float
    level: float
    """That of the one-sided test."""
    margin: float
    """The largest worsening that is let pass."""


def detectable(paired: Paired, level: float, margin: float = 0.0) -> float | None:
    """Return the smallest worsening that the comparison would have found with a probability of 80 %.

    `level` is that of the one-sided test. A worsening of up to `margin` is let pass. None with fewer than two rows, if
    no worsening is possible, and if a shared pace was taken out, since how well the test sees beyond it does not follow
    from one model's own latencies.
    """
    if paired.stderr is None or paired.without_pace:
        return None
    # Where most results stay as they are, a worsening is more results that change, and their number varies. Where all
    # change, it is a shift of all of them.
    # Rows of uneven weight count as fewer equal ones: it may be few heavy ones that get worse.
    equal = max(1.0, paired.n * paired.can_change / paired.rows)
    per_change = paired.change / equal * paired.ties / paired.n
    return _smallest(paired.stderr**2, per_change, _Hurdle(equal, paired.df, level, margin)) or None


def detectable_in_rows(rows: int, level: float, stderr: float | None = None, margin: float = 0.0) -> float | None:
    """Return the smallest fall of a score of 0 and 1 that a comparison of two runs with so many rows could find.

    `stderr` is that of the difference between two runs, for so many rows. Without it, half of the answers are taken to
    be right, and which ones by chance: no score has a larger one. A fall of up to `margin` is let pass. None with fewer
    than two rows.
    """
    if rows < 2:
        return None
    hurdle = _Hurdle(rows, rows - 1, level, margin)
    if stderr is None:
        return _smallest(0.5 / rows, 0.0, hurdle, step=1 / rows)
    return _smallest(stderr**2, 1 / rows, hurdle)


def _smallest(variance: float, per_change: float, hurdle: _Hurdle, step: float = 0.0) -> float:
    """Return the smallest difference that is found, by the formula of Connor (1987) for paired shares.

    `variance` is that of the difference if nothing gets worse, and a worsening adds `per_change` for each unit. `step`
    is that of an exact test's sum.
    """
    of_level, of_power = t_quantile(1 - hurdle.level, hurdle.df), t_quantile(POWER, hurdle.df)
    is_shift = not (per_change or step)  # which leaves the variance as it is

    def needed(difference: float) -> float:
        whole = variance + per_change * difference
        rest = whole if is_shift else max(0.0, whole - difference**2 / hurdle.results)
        significant = (step or per_change) + of_level * math.sqrt(whole)
        return max(significant, hurdle.margin) + of_power * math.sqrt(rest)

    low, high = 0.0, 1.0
    while needed(high) > high:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if needed(middle) > middle else (low, middle)
    return high if needed(0.0) > 0 else 0.0
