"""Curves that search for an unknown limit: they start at or below the throttled value, then carefully try more.

`CubicSearch` serves rates (units per second) and follows CUBIC (RFC 9438). `StepSearch` serves the number of requests
in flight. Both advance only by the time in which it was the searched limit that made requests wait.

The constants of this package were tuned with the simulated providers ("simulations") of
tests/pacing/test_simulation.py. A note that names a simulation says which one fails when the constant is halved or
doubled. "Simulations pass with a–b" means that all tried ones pass with both ends of that range. A trial ran those that
the constant may concern, with the seeds 3 and 7; most that send more than 3,000 requests per minute were left out.

A constant whose note names no source was chosen, and then tuned by such trials.
"""

from __future__ import annotations

import math
from collections.abc import Collection

FAR = 0.85
"""A value below this share of the highest value that was accepted lately counts as far from the limit.

Doubled, simulation "60 requests" fails; half passes.
"""
COMPARED = 3
"""How many throttles are compared to find out which limit caused them. With 2 or 6, "half of 50 at once" fails."""
_DEPTH = 0.15
"""How far below the throttled rate the curve begins, as a share of that rate. In CUBIC it is 0.3 (RFC 9438, 4.6).

A larger share lets two clients share a limit sooner; a smaller one uses more of the limit. Halved, simulation "shared,
ms, 60 s apart" fails.
"""
_BELOW = 0.6
"""For this share of its first period, the curve counts as below the throttled rate. Simulations pass with 0.3–1.2."""
_LEFT = 0.9
"""This many periods after the curve has come back to the throttled rate, the old limit counts as gone. By then, the
curve is a tenth above it.

Halved, simulation "60 requests" fails; double passes.
"""
_DOUBLING_S, _QUICKLY = 3.0, 3
"""Once the old limit counts as gone, the rate doubles every 3 s (every half period, if that is longer), three times.

Then it doubles half as fast, because a full bucket at the provider may hide its limit for a while. Simulations pass
with 1.5–6 s and 2–6 times, and if it then doubles as fast or a quarter as fast. If the rate
doubles every period, simulation "halved after 75 s" fails; if every quarter period, "shared, ms, 60 s apart" does.
"""
_STEP_S = 0.7
"""Seconds between two steps of a `StepSearch`: longer than a throttled response takes. Simulations pass
with 0.35–1.4 s.
"""


def relative_spread(values: Collection[float], grain: float) -> float:
    """Return the range of the values as a share of their mean. `grain`, their uncertainty, is added to the range."""
    return (max(values) - min(values) + grain) / max(1e-9, sum(values) / len(values))


class _Search:
    """The common part of both searches.

    A subclass adds `value`, the limit to try now. It is infinite until the limit is hit for the first time, and grows
    with time between two hits.
    """

    def __init__(self) -> None:
        self.is_found = False
        """Whether the limit was ever hit."""
        self.base = math.inf
        """The value at which the limit was last hit."""
        self._period_s = 1.0
        self._age_s = 0.0

    def hit(self, base: float, period_s: float) -> None:
        """Restart the curve because the limit was hit at `base`. After `period_s`, the curve tries more than `base`."""
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
    """A search for a rate along CUBIC's curve (RFC 9438, 4.2).

    The curve begins a little below the throttled rate, quickly comes back to it, stays near it for long, and then rises
    faster and faster. Once it is well above the throttled rate, the old limit counts as gone, and the rate doubles as
    in slow start (RFC 5681, 3.1).
    """

    @property
    def is_below(self) -> bool:
        """Whether the curve is so early in its period that its rate is taken to be below the throttled one."""
        return self._age_s < _BELOW * self._period_s

    @property
    def value(self) -> float:
        """The rate to try now."""
        periods = self._age_s / self._period_s - 1
        more = self.base * (1 + _DEPTH * min(periods, _LEFT) ** 3)
        doublings = max(0.0, periods - _LEFT) * self._period_s / max(_DOUBLING_S, self._period_s / 2)
        if doublings > _QUICKLY:
            doublings = _QUICKLY + (doublings - _QUICKLY) / 2
        return float(more * 2.0 ** min(doublings, 60.0))  # 60: a float must not overflow


class StepSearch(_Search):
    """A search for a number in flight: hold the accepted number for a period, then try 1, 2, 4, 8 … more."""

    @property
    def is_held(self) -> bool:
        """Whether a limit was found, and the search does not try more than the accepted number yet."""
        return self.is_found and self._age_s < self._period_s

    @property
    def value(self) -> float:
        """The number to try now."""
        steps = (self._age_s - self._period_s) / _STEP_S
        return self.base if steps < 0 else self.base + 2.0 ** min(math.floor(steps), 60)
