"""A limit that nobody tells: found where it was hit, and tried again from below.

The curve is CUBIC's (RFC 9438, 4.2): from a little under the place where it was hit last it comes back to it quickly,
stays near it for long, and then, if nothing has happened, leaves it faster and faster: it is not there any more.
"""

from __future__ import annotations

import math

_DEPTH = 0.04
"""How far below the place where it was hit the curve begins, as a share."""


class Probe:
    """The most that is tried now; infinite until a limit was hit once."""

    def __init__(self) -> None:
        self.base = math.inf
        """Where it was hit."""
        self._period_s = 1.0
        self._age_s = 0.0

    @property
    def found(self) -> bool:
        """Whether it was ever hit."""
        return self.base < math.inf

    @property
    def value(self) -> float:
        """What to try now."""
        return self.base * (1 + _DEPTH * (self._age_s / self._period_s - 1) ** 3)

    def hit(self, base: float, period_s: float, *, under: bool = True) -> None:
        """Begin again from `base`, or from `under` it and come back to it in `period_s`."""
        self.base = base
        self._period_s = period_s
        self._age_s = 0.0 if under else period_s

    def grow(self, seconds: float) -> None:
        """Go on for so long; only time in which it was the limit counts."""
        self._age_s += seconds

    def forget(self) -> None:
        """It was no limit after all."""
        self.base = math.inf
