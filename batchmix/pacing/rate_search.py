"""The search for a rate that the provider does not tell.

A throttled request shows that a limit was *hit*. Each hit lowers the rate by a *step*, and in each *interval* without
one the rate rises by a step. So it comes to rest where it is hit about once in an interval, however the provider
counts: this is the weighted up-down method of psychophysics (Kaernbach, Perception & Psychophysics 49, 1991). As in
PEST (Taylor and Creelman, J. Acoust. Soc. Am. 41, 1967), the step adapts: it shrinks while hits come as expected, and
doubles when they come early. Without a hit, the rate rises faster and faster.

    rate │      hit      hit                        ╱ no hit: doubles
         │ hit   ╱│     ╱│     hit                ╱
         │  │  ╱  │   ╱  │    ╱│   hit        _─
         │  │╱    │ ╱    │  ╱  │  ╱│     _ ─ ‾
         │        ╱      │╱    │╱  │ _ ‾        steps shrink from 25 % to 3 %
         └──────────────────────────────────────────────────────────── time in which the rate made requests wait

What was accepted from one hit to the next, divided by the time, bounds the rate from above: a bucket or a minute that
is used up accepts no more than that. Rates are in units (requests or tokens) per second; `now` is seconds of a
monotonic clock.
"""

from __future__ import annotations

import collections
import math

import msgspec

_INTERVAL, _MIN_INTERVAL_S = 42, 4.0
"""A hit is expected in so many requests, or in so many seconds if that is longer. The first keeps the share of
throttled requests below 3 %; the second lets several clients of one key rise equally fast, and come to equal shares.
"""
_MAX_STEP, _MIN_STEP = 0.25, 0.03
"""The step, as a share of the rate: the first and largest one, and the smallest."""
_TOLD, _TOLD_STEP = 0.98, 0.06
"""The highest share of a told rate at which requests are sent if the provider saves nothing, for then all that arrive a
little early are throttled; and the first step below it.
"""
_SHRINK = 0.7
"""The step shrinks to this share of it with a hit that comes as expected."""
_EARLY = 0.5
"""Two hits in succession after less than so many intervals are early. Without a hit for longer than one interval, the
rise doubles in each further one.
"""
_DOUBLING_S = 3.0
"""The rate doubles in so many seconds at most, and at first, until it was measured."""
_MOST = 0.5
"""A hit leaves at least this share of the rate."""
_COUNTED = 20
"""So many accepted requests make a measured rate reliable: to ±5 %."""
_FEWEST = 4
"""A rate is set once so many requests were accepted."""
_DEBT = 4
"""Each further throttled request delays the next rise as long as the first did, up to so many intervals in all."""
_FADE = 0.96
"""The weight of the highest rate before, in the scale of the rise, after each hit."""
_FALLEN, _FREE = 0.7, 1.3
"""Below this share of the rate that was accepted before, it has fallen. By this factor it rises if the way is free."""
_WINDOWED_S = 10.0
"""If nothing is accepted for so many seconds after the first hit, the provider has no bucket, which would refill
sooner: the first requests used up a minute.
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

    def __init__(self, accepted: Accepted, now: float, most: float = math.inf) -> None:
        self._most = most  # the told rate
        self.base = math.inf
        """The rate, outside of trials; infinite while none was found."""
        self.is_reliable = False
        """Whether that rate was measured over enough requests."""
        self.share = 1.0
        """The share of the rate that is tried for a moment; 1 outside of trials."""
        self.began_at = now
        """When the first request was sent."""
        self._accepted = accepted
        self._hits: collections.deque[_Hit] = collections.deque(maxlen=32)  # bounds the memory
        self._blocked_s = 0.0  # for how long nothing was accepted after the first hit
        self._tried = math.inf  # the rate at the last hit
        self._step = _MAX_STEP
        self._was_early = False
        self._age_s = 0.0  # the time since the last hit in which this rate made requests wait
        self._scale = 0.0  # the highest rate lately: all clients of a key saw about the same one
        self._proven = 0.0  # the rate that was accepted before

    @property
    def value(self) -> float:
        """The rate to try now; infinite while none was found."""
        return self.share * self.base

    @property
    def was_accepted(self) -> bool:
        """Whether any request was accepted since the last hit. Without one, another hit says nothing new."""
        return not self._hits or self._accepted.requests > self._hits[-1].requests

    @property
    def has_fallen(self) -> bool:
        """Whether the rate is far below the one that was accepted before: the limit was lowered, or strays lower it."""
        return self.base < _FALLEN * self._proven

    def end_trial(self, now: float, *, is_free: bool) -> None:
        """Go back to the rate, or to a higher one if the way is free. What was accepted is measured from now on."""
        self.share = 1.0
        if self.base == math.inf:
            return
        if is_free:
            self.base = max(_FREE * self.base, self._proven)
        self._proven = self.base
        self._hits.clear()
        self._hits.append(_Hit(now, self._accepted.requests, self._accepted.amount))

    def grow(self, seconds: float) -> None:
        """Rise for the seconds in which this rate made requests wait."""
        if self.share != 1.0:
            return
        if self._age_s >= 0:
            doublings = max(0.0, self._age_s / self._interval_s - 1)
            by = self._step * 2.0 ** min(doublings, 60.0) / self._interval_s  # 60: no overflow
            by = min(by, math.log(2) / _DOUBLING_S) if self.is_reliable else math.log(2) / _DOUBLING_S
            self.base = min(self.base + max(self.base, self._scale) * math.expm1(by * seconds), self._most)
        self._age_s += seconds

    def hit(self, now: float, pause_s: float) -> None:
        """Record that this limit was hit. A pause begins. Call `set_rate` afterwards."""
        if self.base < math.inf:
            is_early = self._age_s < _EARLY * self._interval_s
            if not is_early:
                self._step = max(_SHRINK * self._step, _MIN_STEP)
            elif self._was_early:
                self._step = min(2 * self._step, _MAX_STEP)
            self._was_early = is_early
            self._scale = max(self.base, _FADE * self._scale)
        self._tried, self._age_s = min(self.base, self._most), 0.0
        self.other_hit(now, pause_s)

    def other_hit(self, now: float, pause_s: float) -> None:
        """Record that another limit was hit: only what was accepted is measured."""
        if len(self._hits) > 1:
            rate, count = self._measured()  # now that the block after the last hit is over
            if count >= _COUNTED:
                self._proven = max(self._proven, rate)
        self._hits.append(_Hit(now + pause_s, self._accepted.requests, self._accepted.amount))
        self._block(pause_s)

    def still_hit(self, now: float, pause_s: float) -> None:
        """Record that nothing was accepted since the last hit. Another pause begins."""
        if self._hits:
            self._block(now + pause_s - self._hits[-1].at)
            self._hits[-1].at = now + pause_s
            self._owe()

    def hit_earlier(self, amount: float) -> None:
        """Record another throttled request, which was sent before the last hit was known: less had been accepted."""
        if self._hits:
            self._hits[-1].requests -= 1
            self._hits[-1].amount -= amount
            self._owe()

    def set_rate(self, least: float) -> None:
        """Set the rate after a hit; leave it as it is if too little was accepted, or at least `least`."""
        if len(self._hits) < 2:
            return
        rate, count = self._measured()
        if count < _FEWEST and self.base == math.inf > self._most:  # nothing was saved
            self._most *= _TOLD
            self._step = _TOLD_STEP
            self.base, self.is_reliable = (1 - _TOLD_STEP) * self._most, True
        if count < _FEWEST or (least < math.inf and rate >= least):
            return
        was_reliable, self.is_reliable = self.is_reliable, count >= _COUNTED
        self.base = (1 - self._step) * self._tried
        if was_reliable or self._tried == math.inf:
            self.base = min(self.base, rate)
        if self._tried < math.inf:
            self.base = max(self.base, _MOST * self._tried)

    def take_over(self, other: RateSearch) -> None:
        """Go on from the rate that was found in another unit, if none was found in this one."""
        if self.base == math.inf > other.base:
            by = self._accepted.mean / other._accepted.mean
            self.base, self._scale, self._proven = by * other.base, by * other._scale, by * other._proven
            self.is_reliable, self._step = other.is_reliable, other._step
            self._was_early, self._age_s = other._was_early, other._age_s

    def undo(self) -> None:
        """Go back to the rate before the last hit, which something else explains."""
        self.base = self._tried
        if self.base == math.inf:
            self.forget()

    def forget(self) -> None:
        """Drop the rate: the provider does not limit it."""
        self.base = math.inf
        self.is_reliable = False
        self.share = 1.0
        self._proven = 0.0

    @property
    def _interval_s(self) -> float:
        if not self.is_reliable:
            return _MIN_INTERVAL_S
        return max(_INTERVAL * self._accepted.mean / max(self.base, self._scale), _MIN_INTERVAL_S)

    def _owe(self) -> None:
        if self.is_reliable:
            delay_s = _INTERVAL * self._accepted.mean / self.base
            self._age_s = max(self._age_s - delay_s, -_DEBT * self._interval_s)

    def _block(self, pause_s: float) -> None:
        self._blocked_s += pause_s
        if len(self._hits) == 1 and self._blocked_s > _WINDOWED_S:
            self._hits.appendleft(_Hit(self.began_at, 0, 0.0))

    def _measured(self) -> tuple[float, int]:
        """Return the rate up to the last hit, and the number of accepted requests over which it was measured.

        It is measured from the newest earlier hit since which enough requests were accepted, or from the oldest one.
        """
        last = self._hits[-1]
        enough = (hit for hit in reversed(self._hits) if last.requests - hit.requests >= _COUNTED)
        since = next(enough, self._hits[0])
        count = last.requests - since.requests
        # At least half the usual amount: estimates of earlier requests may have been corrected since.
        amount = max(last.amount - since.amount, max(count, 1) * self._accepted.mean / 2)
        return amount / max(last.at - since.at, 0.01), count  # 0.01: no division by zero
