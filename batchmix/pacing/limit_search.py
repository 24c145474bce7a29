"""Search for a limit that is not published: start at the value where it was last hit, then carefully try more.

The constants in this package were tuned on the profiles in tests/pacing/test_simulation.py. Where a docstring names a
profile, it fails when the constant is halved or doubled; "any of a–b passes" means that no profile notices. Profiles of
more than 3,000 requests per minute were mostly left out of these trials.
"""

from __future__ import annotations

import math
from collections.abc import Collection

FAR = 0.85
"""A rate or a number in flight below this share of the highest one accepted lately counts as far from the limit.

Doubled: "60 requests"; half passes.
"""
COMPARED = 3
"""How many throttles are compared to see what they have in common. Two or six: "half of 50 at once"."""
_DEPTH = 0.15
"""How far below the throttled value the curve begins, as a share. CUBIC's own is 0.3 (RFC 9438, 4.6).

Deeper lets two clients share a limit sooner; shallower uses more of it. Halved: "shared, ms, 60 s apart".
"""
_BELOW = 0.6
"""For this share of a period the curve is clearly below the throttled value. Any of 0.3–1.2 passes."""
_LEFT = 0.9
"""This many periods after the curve came back to that value, a tenth above it, the old limit counts as gone.

Halved: "60 requests"; double passes.
"""
_DOUBLING_S, _QUICKLY = 3.0, 3
"""Then the rate doubles every 3 s, three times; after that at half the pace, as saved-up budget may hide a limit.

Any of 1.5–6 s and of 2–6 times passes.
"""
_STEP_S = 0.7
"""Seconds between two steps of a `StepSearch`: longer than a throttled response takes. Any of 0.35–1.4 s passes."""


def relative_spread(values: Collection[float], grain: float) -> float:
    """Return the range of values that are known to within `grain`, as a share of their mean."""
    return (max(values) - min(values) + grain) / max(1e-9, sum(values) / len(values))


class _Search:
    """The most that is tried now; there is no limit until it was hit once."""

    def __init__(self) -> None:
        self.is_found = False
        """Whether the limit was ever hit."""
        self.base = math.inf
        """Where it was hit."""
        self._period_s = 1.0
        self._age_s = 0.0

    def hit(self, base: float, period_s: float) -> None:
        """Start again from `base`, and be back at it in `period_s`."""
        self.is_found = True
        self.base = base
        self._period_s = period_s
        self._age_s = 0.0

    def grow(self, seconds: float) -> None:
        """Advance by the time during which this was what held requests back."""
        self._age_s += seconds

    def forget(self) -> None:
        """Drop the limit: there is none after all."""
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
        """Whether the rate tried now is clearly below the throttled one."""
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
    """Search for a whole number: stay for a period, then try one more, two more, four, eight …"""

    @property
    def is_held(self) -> bool:
        """Whether nothing above the accepted number is tried yet."""
        return self.is_found and self._age_s < self._period_s

    @property
    def value(self) -> float:
        """The number to try now."""
        steps = (self._age_s - self._period_s) / _STEP_S
        return self.base if steps < 0 else self.base + 2.0 ** min(math.floor(steps), 60)
