"""Limits that nobody tells: found where they were hit, and tried again."""

from __future__ import annotations

import math
from collections.abc import Collection

_DEPTH = 0.15
"""How far below the place where it was hit the curve begins, as a share: the deeper, the sooner two share a limit."""
_BELOW = 0.6
"""For that share of a period what is tried is clearly less than what was refused."""
_LEFT = 0.9
"""So many periods after the curve came back to that place, a tenth above it, it is left for good."""
_DOUBLING_S, _QUICKLY = 3.0, 3
"""It is doubled quickly three times; then what had been saved up may hide that the limit is still there."""
_STEP_S = 0.7
"""Longer than a refusal takes to be heard."""


def spread(values: Collection[float], grain: float) -> float:
    """Return by what share values differ that are known to within `grain`."""
    return (max(values) - min(values) + grain) / max(1e-9, sum(values) / len(values))


class _Limit:
    """The most that is tried now; infinite until it was hit once."""

    def __init__(self) -> None:
        self.base = math.inf
        """Where it was hit."""
        self._period_s = 1.0
        self._age_s = 0.0

    @property
    def found(self) -> bool:
        """Whether it was ever hit."""
        return self.base < math.inf

    def hit(self, base: float, period_s: float) -> None:
        """Begin again at `base`; it is tried again in `period_s`."""
        self.base = base
        self._period_s = period_s
        self._age_s = 0.0

    def grow(self, seconds: float) -> None:
        """Go on for so long; only time in which it was the limit counts."""
        self._age_s += seconds

    def forget(self) -> None:
        """It was no limit after all."""
        self.base = math.inf


class Curve(_Limit):
    """A rate that nobody tells.

    The curve is CUBIC's (RFC 9438, 4.2): from a little under the place where it was hit last it comes back to it
    quickly, stays near it for long, and then, if nothing has happened, leaves it faster and faster. Where it was left
    well behind it is not there any more, and what is tried doubles, as in slow start.
    """

    @property
    def is_below(self) -> bool:
        """Whether what is tried now is clearly less than what was refused."""
        return self._age_s < _BELOW * self._period_s

    @property
    def value(self) -> float:
        """What to try now."""
        periods = self._age_s / self._period_s - 1
        more = self.base * (1 + _DEPTH * min(periods, _LEFT) ** 3)
        doublings = max(0.0, periods - _LEFT) * self._period_s / max(_DOUBLING_S, self._period_s / 2)
        if doublings > _QUICKLY:
            doublings = _QUICKLY + (doublings - _QUICKLY) / 2
        return float(more * 2.0 ** min(doublings, 60.0))


class Climb(_Limit):
    """A number that nobody tells, tried again above where it was hit: after a while one more, then two, four, eight."""

    @property
    def is_held(self) -> bool:
        """Whether no more than what was let in is tried yet."""
        return self.found and self._age_s < self._period_s

    @property
    def value(self) -> float:
        """What to try now."""
        steps = (self._age_s - self._period_s) / _STEP_S
        return self.base if steps < 0 else self.base + 2.0 ** min(math.floor(steps), 60)
