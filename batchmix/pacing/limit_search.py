"""Curves that search for an unknown limit: start at or below the value that was throttled, then carefully try more.

`CubicSearch` serves rates (units per second) and follows CUBIC (RFC 9438). `StepSearch` serves the number of requests
in flight. Both advance only by the time during which the searched value was what made requests wait.

The constants of this package were tuned with the simulated providers ("simulations") of
tests/pacing/test_simulation.py. A note that names a simulation says which one fails when the constant is halved or
doubled. "Simulations pass with a–b" means that all pass with both ends of that range. Simulations of more than 3,000
requests per minute were mostly left out of these trials.
"""

from __future__ import annotations

import math
from collections.abc import Collection

FAR = 0.85
"""A rate or a number in flight below this share of the highest one accepted lately counts as far from the limit.

Doubled, simulation "60 requests" fails; half passes.
"""
COMPARED = 3
"""How many throttles are compared to see what they have in common. With 2 or 6, "half of 50 at once" fails."""
_DEPTH = 0.15
"""How far below the throttled rate the curve begins, as a share of that rate. CUBIC's own is 0.3 (RFC 9438, 4.6).

Deeper lets two clients share a limit sooner; shallower uses more of it. Halved, simulation "shared, ms, 60 s
apart" fails.
"""
_BELOW = 0.6
"""For this share of a period the curve counts as below the throttled rate. Simulations pass with 0.3–1.2."""
_LEFT = 0.9
"""This many periods after the curve came back to that rate, it is a tenth above, and the old limit counts as gone.

Halved, simulation "60 requests" fails; double passes.
"""
_DOUBLING_S, _QUICKLY = 3.0, 3
"""Then the rate doubles every 3 s, three times. After that it doubles half as fast, since a full bucket at the provider
may hide its limit for a while. Simulations pass with 1.5–6 s and 2–6 times.
"""
_STEP_S = 0.7
"""Seconds between two steps of a `StepSearch`: longer than a throttled response takes. Simulations pass
with 0.35–1.4 s.
"""


def relative_spread(values: Collection[float], grain: float) -> float:
    """Return the range of values plus `grain`, the uncertainty of each, as a share of their mean."""
    return (max(values) - min(values) + grain) / max(1e-9, sum(values) / len(values))


class _Search:
    """The common part of both searches.

    A subclass has a `value`, the limit to try now. It is infinite until the limit is hit for the first time. After each
    hit it grows with time until the next.
    """

    def __init__(self) -> None:
        self.is_found = False
        """Whether the limit was ever hit."""
        self.base = math.inf
        """The value at which it was last hit."""
        self._period_s = 1.0
        self._age_s = 0.0

    def hit(self, base: float, period_s: float) -> None:
        """Restart the curve because the limit was hit at `base`. The curve tries more than that after `period_s`."""
        self.is_found = True
        self.base = base
        self._period_s = period_s
        self._age_s = 0.0

    def grow(self, seconds: float) -> None:
        """Advance along the curve by the seconds during which this limit made requests wait."""
        self._age_s += seconds

    def forget(self) -> None:
        """Drop the limit because there is none."""
        self.is_found = False
        self.base = math.inf


class CubicSearch(_Search):
    """Search for a rate along CUBIC's curve (RFC 9438, 4.2).

    The curve begins a little below the throttled rate, comes back to it quickly, stays near it for long, and then
    leaves it faster and faster. Once it is well above, the old limit counts as gone, and the rate doubles as in slow
    start (RFC 5681, 3.1).
    """

    @property
    def is_below(self) -> bool:
        """Whether the curve is still in the part that counts as below the throttled rate."""
        return self._age_s < _BELOW * self._period_s

    @property
    def value(self) -> float:
        """The rate to try now."""
        periods = self._age_s / self._period_s - 1
        more = self.base * (1 + _DEPTH * min(periods, _LEFT) ** 3)
        doublings = max(0.0, periods - _LEFT) * self._period_s / max(_DOUBLING_S, self._period_s / 2)
        if doublings > _QUICKLY:
            doublings = _QUICKLY + (doublings - _QUICKLY) / 2
        return float(more * 2.0 ** min(doublings, 60.0))


class StepSearch(_Search):
    """Search for a number in flight: hold it for a period, then try 1, 2, 4, 8 … more."""

    @property
    def is_held(self) -> bool:
        """Whether a limit is known and no more than the accepted number is tried yet."""
        return self.is_found and self._age_s < self._period_s

    @property
    def value(self) -> float:
        """The number to try now."""
        steps = (self._age_s - self._period_s) / _STEP_S
        return self.base if steps < 0 else self.base + 2.0 ** min(math.floor(steps), 60)
