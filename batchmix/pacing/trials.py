"""Trials: a far higher rate for a moment, to see whether it is a limit that throttles.

A search that lowers its rate after each hit can't tell strays from a limit: if one request in twenty is throttled
however slowly we send, the rate falls and falls. Another client of the key looks the same, because it takes what this
one leaves. A higher rate tells them apart: a limit, shared or not, throttles many more requests then; of strays there
are as few as before. So a trial is due when the rate fell far below an earlier one, and after many hits. It begins
right after a hit, when the provider has saved nothing.

    rate │      hit                                        hit
         │       │  ┌──┐ few are throttled                  │  ┌┐ many are throttled: back
         │   _ ─ │  │  │           ┌─ the way is free       │  ││
         │ ‾     └──┘  │           │                        └──┘└───────
         │             └───────────┘ only strays are throttled here: count them
         └──────────────────────────────────────────────────────────── time

The higher rate ends with a sequential probability ratio test (Wald, Sequential Analysis, 1947), of which the evidence
for strays is bounded, as in CUSUM: a provider that has saved something throttles late. `now` is seconds of a monotonic
clock.
"""

from __future__ import annotations

import math

from batchmix.pacing.ramp import Ramp
from batchmix.pacing.rates import Rates
from batchmix.pacing.strays import Strays

_UP, _DOWN = 3.0, 0.7
"""The shares of the rate to try: first the higher, then the lower one."""
_BY_LIMIT, _BY_CHANCE, _SURE = 0.3, 0.06, 4.0
"""At the higher rate, a limit throttles about the first share of the requests, strays about the second. They are told
apart once the logarithm of the ratio of their likelihoods is as large as the third.
"""
_MIN_UP_S = 0.6
"""The higher rate lasts so many seconds at least."""
_PART_S = 3.0
"""The higher rate lasts so many seconds at most, and the lower one as long: too short for another client to take up
what this one leaves.
"""
_DUE, _MAX_DUE = 36, 576
"""A trial is due after so many hits. Each trial that shows a limit doubles them, up to the second."""


class Trials:
    """Decides when a trial is due, and what it shows."""

    def __init__(self, rates: Rates, ramp: Ramp, strays: Strays) -> None:
        self._rates, self._ramp, self._strays = rates, ramp, strays
        self._share = 1.0  # of the rate, which is tried now
        self._hits = 0  # since the last trial
        self._due = _DUE
        self._is_free = False  # no limit was hit at the higher rate
        self._evidence = 0.0  # above 0 if it speaks for a limit
        self._began_at = -math.inf
        self._confirmed = 0  # requests that had been confirmed when the evidence was brought up to date
        self._throttled = 0

    @property
    def is_on(self) -> bool:
        """Whether a trial goes on."""
        return self._share != 1.0

    def hit(self, now: float) -> None:
        """Count a hit after which nothing pauses; begin a trial if one is due."""
        self._hits += 1
        if self._rates.is_reliable and (self._rates.has_fallen or self._hits >= self._due):
            self._hits, self._due = 0, min(2 * self._due, _MAX_DUE)
            self._try(now, _UP)
            self._ramp.restart(math.ceil(_UP * self._ramp.unconfirmed))

    def throttled(self, now: float, sent_at: float) -> bool:
        """Count a throttled request; return whether it ended the trial because there is a limit."""
        if sent_at >= self._began_at:
            self._throttled += 1
            self._evidence += math.log(_BY_LIMIT / _BY_CHANCE)
        self.advance(now)
        return not self.is_on

    def advance(self, now: float) -> None:
        """Go on to the lower rate or end the trial, if it is time to."""
        accepted = self._ramp.total - self._confirmed
        if self._share == _DOWN:
            self._count(now, accepted)
            return
        self._confirmed = self._ramp.total
        self._evidence = max(-_SURE, self._evidence + accepted * math.log((1 - _BY_LIMIT) / (1 - _BY_CHANCE)))
        lasts_s = now - self._began_at
        self._is_free = self._evidence == -_SURE and lasts_s >= _MIN_UP_S
        if not self._is_free and self._evidence < _SURE and lasts_s < _PART_S:
            return
        if self._is_free or self._strays.share:
            self._try(now, _DOWN)
            self._ramp.restart(self._ramp.unconfirmed)
        else:
            self._end(now)

    def _count(self, now: float, accepted: int) -> None:
        """Count the strays at the lower rate, unless they are too many."""
        if self._strays.are_too_many(accepted, self._throttled):
            self._is_free = False
            self._end(now)
        elif now >= self._began_at + _PART_S:
            self._strays.learn(accepted, self._throttled)
            if self._is_free:
                self._hits = self._due = _DUE
            self._end(now)

    def _try(self, now: float, share: float) -> None:
        self._share, self._began_at = share, now
        self._confirmed, self._throttled, self._evidence = self._ramp.total, 0, 0.0
        self._rates.try_share(share)

    def _end(self, now: float) -> None:
        self._share = 1.0
        self._rates.end_trial(now, is_free=self._is_free)
