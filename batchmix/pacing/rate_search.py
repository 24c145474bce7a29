"""The search for a rate that the provider does not tell.

A throttled request shows that the provider's bucket, or minute, is used up: a *hit*. What it accepted from one hit to
the next, divided by the time, is its rate, however it counts. From then on the rate follows CUBIC's curve (RFC 9438,
4.2): it begins a little below the measured rate, comes back to it after one *period*, stays near it for a while, and
then rises faster and faster until the next hit. Once it is well above, the old limit counts as gone, and the rate
doubles as in slow start (RFC 5681, 3.1).

    rate                                        ╱ doubles
         measured ────────────────╮  ╭─────────╱──
                        ╭─────────╯──╯
         0.85 × ────────╯
                        0         1 period   1.9     time in which this rate made requests wait

Rates are in units (requests or tokens) per second; `now` is seconds of a monotonic clock.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Collection

import msgspec

COMPARED = 3
"""How many hits are compared to find out which limit caused them."""
_DEPTH = 0.15
"""How far below the measured rate the curve begins, as a share of it. In CUBIC it is 0.3 (RFC 9438, 4.6)."""
_GONE = 0.9
"""This many periods after the curve has come back to the measured rate, the old limit counts as gone. Chosen."""
_DOUBLING_S = 3.0
"""Once the old limit counts as gone, the rate doubles in so many seconds, or in half a period if that is longer."""
_COUNTED = 20
"""So many accepted requests make a measured rate reliable: to ±5 %. Chosen."""
_PERIOD, _MIN_PERIOD_S = 25, 4.0
"""A period lasts for so many requests at the measured rate, and at least so many seconds. Shorter ones bring more
throttles, longer ones find a raised limit later. Chosen.
"""
_MIN_GUESS_S, _MAX_GUESS_S = 1.0, 5.0
"""The shortest and the longest period, in seconds, after a rate that was measured over few requests. Chosen."""
_EARLY, _SURPRISING = 0.5, 1.2
"""A hit after less than so many periods shows that the limit is lower than measured; after less than the second, it is
at least surprising. Chosen.
"""
_DEEPEST, _TRIAL = 0.7, 0.6
"""The lowest rate after an early hit, and during a trial, as a share of the measured one. A trial lasts for the second
share of a period. Chosen.
"""
_SAVED = 1.15
"""A bucket that saved what was not used explains hits at rates of up to this multiple of the measured one. Chosen."""
_SKIPPED = 8
"""After so many hits, it is tried anew whether the provider saves nothing. Chosen."""
_WINDOWED_S, _BLOCKED_S = 10.0, 2.0
"""If nothing is accepted for longer than the first after the first hit, the provider counts by minutes and has no
bucket, which would refill sooner. If nothing is for longer than the second after any hit, it is no bucket without
savings. Seconds, chosen.
"""


class Accepted(msgspec.Struct):
    """The requests that the provider accepted so far, and their amount."""

    requests: int = 0
    amount: float = 0.0

    @property
    def mean(self) -> float:
        """The mean amount of a request."""
        return max(self.amount / max(1, self.requests), 1e-6)


class _Hit(msgspec.Struct):
    """What the provider had accepted by the end of the pause after a hit. From then on, it accepts more."""

    at: float
    requests: int
    amount: float


class RateSearch:
    """Finds a rate from hits. `accepted` is kept up to date by the caller."""

    def __init__(self, accepted: Accepted, now: float) -> None:
        self.base = math.inf
        """The rate at the last hit; infinite while none was found."""
        self.is_reliable = False
        """Whether that rate was measured over enough requests."""
        self.began_at = now
        """When the first request was sent."""
        self._accepted = accepted
        self._hits: collections.deque[_Hit] = collections.deque(maxlen=32)  # bounds the memory
        self._rates: collections.deque[tuple[float, int]] = collections.deque(maxlen=COMPARED)
        self._age_s, self._period_s = 0.0, 1.0
        self._before = (math.inf, 0.0, 1.0)  # base, age and period before the last hit
        self._hit_at = now
        self._blocked_s = 0.0  # for how long nothing was accepted after the first hit
        self._is_trial = False  # the curve begins with a deep dip
        self._is_doubtful = False  # the last hit may have been a stray
        self._was_early = False  # so was the hit before the last one
        self._was_raised = False  # the rate was set above the measured one
        self._skipped = 0

    @property
    def value(self) -> float:
        """The rate to try now; infinite while none was found."""
        if self.base == math.inf:
            return math.inf
        return _DEEPEST * self.base if self.is_trial else self._curve(self.base, self._age_s, self._period_s)

    @property
    def is_trial(self) -> bool:
        """Whether the rate is kept far below the measured one for a moment: requests throttled now are strays."""
        return self._is_trial and self._age_s < _TRIAL * self._period_s

    @property
    def was_accepted(self) -> bool:
        """Whether any request was accepted since the last hit. Without one, another hit says nothing new."""
        return not self._hits or self._accepted.requests > self._hits[-1].requests

    @property
    def spread(self) -> float:
        """The relative spread of the rates measured at the last hits, plus the uncertainty of their counts."""
        if len(self._rates) < COMPARED:
            return math.inf
        return relative_spread([rate for rate, _ in self._rates], 0.0) + 1 / max(1, min(n for _, n in self._rates))

    def grow(self, seconds: float) -> None:
        """Advance along the curve by the seconds in which this rate made requests wait."""
        self._age_s += seconds

    def hit(self, now: float, pause_s: float, *, is_doubtful: bool) -> None:
        """Record that the limit was hit, and go on below the rate that is measured now. A pause begins.

        `is_doubtful` says that the throttle may have been a stray.
        """
        _, age_s, period_s = self._before
        self._was_early = age_s < _EARLY * period_s
        is_early = self._age_s < _EARLY * self._period_s
        self._skipped = _SKIPPED if is_early and self._was_raised else max(0, self._skipped - 1)
        self._before = (self.base, self._age_s, self._period_s)
        self._is_trial = self.base < math.inf and self._age_s < _SURPRISING * self._period_s
        self._is_doubtful = is_doubtful and not (is_early and self._skipped == _SKIPPED)
        self._hit_at = now
        self._hits.append(_Hit(now + pause_s, self._accepted.requests, self._accepted.amount))
        self._block(pause_s)
        if len(self._hits) > 1:
            self._rates.append(self._measured(self._span()))

    def still_hit(self, now: float, pause_s: float) -> None:
        """Record that nothing was accepted since the last hit. Another pause begins."""
        if self._hits:
            if now > self._hit_at + _BLOCKED_S:
                self._skipped = _SKIPPED
            self._block(now + pause_s - self._hits[-1].at)
            self._hits[-1].at = now + pause_s

    def hit_earlier(self, amount: float) -> None:
        """Record another throttled request, which was sent before the last hit was known: less had been accepted."""
        if self._hits:
            self._hits[-1].requests -= 1
            self._hits[-1].amount -= amount

    def _block(self, pause_s: float) -> None:
        self._blocked_s += pause_s
        if len(self._hits) == 1 and self._blocked_s > _WINDOWED_S:
            self._hits.appendleft(_Hit(self.began_at, 0, 0.0))  # so the first requests used up a minute

    def set_rate(self, least: float) -> None:
        """Set the rate after a hit; leave it as it is if less than enough was measured, or at least `least`."""
        self._was_raised = False
        if len(self._hits) < 2:
            return
        base, age_s, period_s = self._before
        rate, count = self._measured(self._span())
        if least < math.inf and (count < _COUNTED or rate >= least):
            return
        self.is_reliable = count >= _COUNTED
        tried = self._curve(base, age_s, period_s)
        if self._was_early and age_s < _EARLY * period_s and base < math.inf:  # the limit was lowered
            rate = max(_DEEPEST * base, self._measured(self._hits[-2])[0])
            self.is_reliable = False
        elif self._is_trial and self._is_doubtful:
            rate = tried
        elif _SAVED * rate < tried < math.inf and not self._skipped:
            rate = math.sqrt(rate * tried)  # too fast for what a bucket saves: the provider may save nothing
            self._was_raised = True
        self.base = rate = min(tried, rate)
        self._age_s = 0.0
        self._period_s = min(_PERIOD, max(4, count)) * self._accepted.mean / rate
        if self.is_reliable:
            self._period_s = max(_MIN_PERIOD_S, self._period_s)
        else:
            self._period_s = max(_MIN_GUESS_S, min(_MAX_GUESS_S, self._period_s))

    def begin_trial(self) -> None:
        """Go far below the present rate for a moment."""
        if self.base < math.inf:
            self.base, self._age_s = max(self.base, self.value), 0.0
            self._is_trial = True

    def forget(self) -> None:
        """Drop the rate: the provider does not limit it."""
        self.base = math.inf
        self.is_reliable = False

    def _span(self) -> _Hit:
        """Return the newest earlier hit since which enough requests were accepted, or the oldest one."""
        last = self._hits[-1]
        enough = (hit for hit in reversed(self._hits) if last.requests - hit.requests >= _COUNTED)
        return next(enough, self._hits[0])

    def _measured(self, since: _Hit) -> tuple[float, int]:
        """Return the rate from a hit to the last one, and the number of requests over which it was measured."""
        last = self._hits[-1]
        count = last.requests - since.requests
        # At least half the usual amount: estimates of earlier requests may have been corrected since.
        amount = max(last.amount - since.amount, max(count, 1) * self._accepted.mean / 2)
        return amount / max(last.at - since.at, 0.01), count  # 0.01: no division by zero

    @staticmethod
    def _curve(base: float, age_s: float, period_s: float) -> float:
        if base == math.inf:
            return math.inf
        periods = age_s / period_s - 1
        doublings = max(0.0, periods - _GONE) * period_s / max(_DOUBLING_S, period_s / 2)
        return float(base * (1 + _DEPTH * min(periods, _GONE) ** 3) * 2.0 ** min(doublings, 60.0))  # 60: no overflow


def relative_spread(values: Collection[float], grain: float) -> float:
    """Return the range of the values as a share of their mean. `grain`, their uncertainty, is added to the range."""
    return (max(values) - min(values) + grain) / max(1e-9, sum(values) / len(values))
