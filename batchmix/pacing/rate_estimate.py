"""Measures the refill rate of a provider's token bucket from its throttles.

A throttle shows that the provider's bucket is empty. So the amount that the provider accepted between two throttles was
refilled in between. That amount divided by the time is the rate, in requests or tokens per second, whatever the size of
the bucket. Time in which the bucket was full and did not refill is left out. After the first throttle, only a guess is
possible, because the bucket's level at the start is unknown.

The constants were tuned with the simulated providers of tests/pacing/test_simulation.py.
"""

from __future__ import annotations

import collections
import math

import msgspec

from batchmix.pacing.limit_search import COMPARED, relative_spread

ROUNDING_S = 1.0
"""Seconds of a pause that may be due to rounding, since `Retry-After` is in whole seconds (RFC 9110, 10.2.3).

Halved, simulation "shared, ms, 5 s apart" fails; doubled, "halved after 75 s" fails.
"""
AGREE = 0.3
"""Values with a smaller relative spread count as equal. Halved, simulation "halved after 75 s" fails."""
_COUNTED, _MANY = 20, 40
"""How many accepted requests make a measured rate reliable, and how many make it certain.

With 40 for the first, simulation "shared, ms, 60 s apart" fails. With 20 for the second, "200k reserved tokens, uneven,
reported" fails with configured limits.
"""
_PERIOD_REQUESTS, _MIN_PERIOD_REQUESTS = 25, 12
"""How many requests should be accepted before the search for a higher rate leads to the next throttle.

The second is the minimum, for a rate that was measured over few requests. With the first halved or doubled, simulation
"shared, ms, 5 s apart" fails. Simulations pass with 6–24 for the second.
"""
_PERIOD_TO_COUNT = 2
"""A rate that was measured over few requests is kept for this many times their number. Simulations pass with 1–4."""
_PERIOD_TO_LOSS = 10
"""The search for a higher rate takes at least this many times the seconds of throughput that the last pause cost.

Doubled, simulation "1200 requests in a sliding minute" fails.
"""
_MIN_PERIOD_S = 4.0
"""The shortest time in seconds until the search tries more.

Halved, simulation "shared, ms, 0 s apart" fails; double passes.
"""
_PERIOD_TO_PAUSE = 2
"""Until the search tries more, at least this many times the last pause passes.

Doubled, simulation "1200 requests in a sliding minute" fails; half passes.
"""
_MAX_LOST = 0.5
"""At most this share of the time between two throttles is left out as time in which a full bucket did not refill.

Halved, simulation "half of 50 at once" fails; double passes.
"""
_FIRST_GUESS = 0.5
"""The share of the accepted rate that is tried after the first throttle. A full bucket allowed that rate until then.

Doubled, simulation "60 requests" fails; halved, "1200 requests, a second saved up" fails with configured limits.
"""
_GUESS_PERIOD_S = 1.0
"""Seconds until the search tries more than the first guess.

Halved, simulation "shared, seconds, 60 s apart" fails; double passes.
"""
_SECOND_CUT, _SECOND_PERIOD_S = 0.1, 2.0
"""The second throttle may lower the guessed rate to this share of itself. It takes so many seconds to try more again.

With the share halved, simulation "shared, ms, 60 s apart" fails; doubled, "shared, ms, 0 s apart" does. With the
seconds halved, "shared, seconds, 5 s apart" fails; doubled, "shared, ms, 5 s apart" does.
"""
_DEEPEST_CUT, _OVERLOADED_CUT = 0.7, 0.3
"""One throttle may lower the rate to this share of itself: usually, and while many requests are throttled.

A rate that was measured over more than `_MANY` requests may be lowered further. With the first above 1, simulation
"60 requests" fails. Simulations pass with 0.15–0.6 for the second.
"""
_HALF_LIFE_S, _HALF_LIFE = 60.0, 300
"""The half-life of the highest measured rate, in seconds and in accepted requests. The slower decay applies.

With 30 s, simulation "halved after 75 s" fails; with 120 s, "shared, ms, 60 s apart" does. Simulations pass with
150–600 requests.
"""
_RECENT_RATE_S, _RECENT_MARKS = 2.0, 3
"""The recent rate is averaged over two to three times this many seconds: since the oldest of so many marks.

Simulations pass with 1–4 s. With 2 marks, simulation "shared, ms, 60 s apart" fails; with 6, all pass.
"""
_THROTTLES = 32
"""How many throttles are remembered, to bound the memory. No simulation changes its result between 16 and 64."""
_AS_MEASURED = 1.02
"""A rate up to this multiple of the measured one does not count as raised. Simulations pass with 1.01–1.04."""
_LOWERED = 0.8
"""A measured limit below this share of the former one shows that the provider has lowered its limit.

Halved or doubled, "halved after 75 s" fails.
"""


class NextRate(msgspec.Struct, frozen=True):
    """A rate to try after a throttle."""

    per_s: float
    period_s: float
    """Seconds until the search curve has come back to this rate. After that, it tries more."""
    is_reliable: bool = False
    """Whether the rate was measured over enough requests, and not raised above the measurement."""


class Accepted(msgspec.Struct):
    """The requests that the provider accepted so far, and their amount.

    `Bucket` counts them; `RateEstimate` only reads the counts.
    """

    requests: int = 0
    amount: float = 0.0


class _Snapshot(msgspec.Struct):
    """The number of requests that the provider had accepted by the time `clock_s`, and their amount.

    The amount is counted in requests or in tokens, depending on the limit.
    """

    clock_s: float
    requests: int
    amount: float


class RateEstimate:
    """Measures a provider's rate from what it accepts between throttles. Times are seconds; `now` is monotonic."""

    def __init__(self, now: float, accepted: Accepted) -> None:
        self.mark_at = now + _RECENT_RATE_S
        """From this time on, the bucket calls `mark` when a request leaves."""
        self._began_at = now
        self._accepted = accepted
        self._empties: collections.deque[_Snapshot] = collections.deque(maxlen=_THROTTLES)  # at the throttles
        self._is_informative = False  # the last throttle says something about the rate
        self._guessed = False  # the first guess was made
        self._request_amount = 1.0  # the amount of the last throttled request
        self._pause_s = 0.0  # the last pause
        self._lost_s = 0.0  # the part of the last pause in which the provider's full bucket did not refill
        self._lost_total_s = 0.0  # the sum of these parts; left out of the time between throttles
        self._lost_at = now
        self._peak = (0.0, now, 0)  # the highest rate, when it was measured, and requests accepted by then
        self._is_peak_reliable = False  # the rates measured around that time agreed
        self._rates: collections.deque[tuple[float, int]] = collections.deque(maxlen=COMPARED)
        self._marks = collections.deque([_Snapshot(now, 0, 0.0)] * _RECENT_MARKS, maxlen=_RECENT_MARKS)

    @property
    def is_found(self) -> bool:
        """Whether there were two informative throttles, between which a rate can be measured."""
        return len(self._empties) > 1

    def begin(self, now: float) -> None:
        """Start the clock at the first request."""
        self._began_at = now

    def mark(self, now: float) -> None:
        """Remember how much was accepted so far, if at least 20 requests were accepted since the last mark."""
        if self._accepted.requests >= self._marks[-1].requests + _COUNTED:
            self._marks.append(_Snapshot(now, self._accepted.requests, self._accepted.amount))
            self.mark_at = now + _RECENT_RATE_S

    def recent_per_s(self, now: float) -> float:
        """Return the rate that was accepted over the last few seconds, in units per second."""
        mark = self._marks[0]
        return (self._accepted.amount - mark.amount) / max(now - mark.clock_s, _RECENT_RATE_S)

    def peak(self, now: float) -> float:
        """Return the highest measured rate, lowered by the time and the requests since then."""
        value, at, requests = self._peak
        return float(value * 0.5 ** min((now - at) / _HALF_LIFE_S, (self._accepted.requests - requests) / _HALF_LIFE))

    def throttled(self, now: float, amount: float, pause_s: float, capacity_s: float) -> bool:
        """Record a throttled request. Return whether this throttle says something about the rate.

        It does if any request was accepted since the last throttle. `amount` no longer counts as accepted; a pause of
        `pause_s` begins. The provider's bucket is assumed to hold the units of `capacity_s` seconds.
        """
        self._is_informative = not self._empties or self._accepted.requests > self._empties[-1].requests
        if self._is_informative:
            self._request_amount = max(amount, 1.0)
            self._pause_s = pause_s
            self._empties.append(_Snapshot(now - self._lost_total_s, self._accepted.requests, self._accepted.amount))
            self._lost_s = max(0.0, min(pause_s, ROUNDING_S) - capacity_s)
            self._lost_total_s += min(self._lost_s, _MAX_LOST * max(0.0, now - self._lost_at))
            self._lost_at = now
            if self.is_found:
                self._rates.append(self._per_s())
        return self._is_informative

    def throttled_earlier(self, amount: float) -> bool:
        """Record another throttled request, which was sent before the last throttle was known.

        So the provider had accepted less by then. Return whether this changes the estimate.
        """
        if self._is_informative:
            self._empties[-1].requests -= 1
            self._empties[-1].amount -= amount
        return self._is_informative

    def first_guess(self) -> NextRate:
        """Return a rate to try after the first throttle, for a short period because it is only a guess."""
        self._guessed = True
        last = self._empties[-1]
        passed_s = last.clock_s - self._began_at + self._pause_s
        return NextRate(_FIRST_GUESS * max(last.amount, self._request_amount) / max(passed_s, 0.01), _GUESS_PERIOD_S)

    @property
    def spread(self) -> float:
        """The relative spread of the rates measured at the last throttles, plus the uncertainty of their counts."""
        if len(self._rates) < COMPARED:
            return math.inf
        grain = 1 / max(1, min(count for _, count in self._rates))
        return relative_spread([rate for rate, _ in self._rates], 0.0) + grain

    @property
    def is_lowered(self) -> bool:
        """Whether the limit was lowered: the last rates agree, and are far below an equally reliable earlier rate."""
        return self._is_peak_reliable and self.spread < AGREE and self._highest_rate() < _LOWERED * self._peak[0]

    def _highest_rate(self) -> float:
        return max(rate for rate, _ in self._rates)

    def restart(self) -> None:
        """Forget all throttles so far, because a rate measured from them to a later one would be wrong."""
        self._empties.clear()
        self._is_informative = False

    def forget_peak(self) -> None:
        """Forget the highest rate."""
        self._peak, self._is_peak_reliable = (0.0, self._began_at, 0), False

    @property
    def is_reliable(self) -> bool:
        """Whether at least 20 requests were accepted between the two throttles that give the rate."""
        return self.is_found and self._per_s()[1] >= _COUNTED

    def next_rate(self, now: float, throttled_per_s: float, *, overloaded: bool) -> NextRate:
        """Return the rate to try after a throttle at `throttled_per_s`.

        `overloaded` means that so many requests are throttled that a deeper cut is allowed.
        """
        per_s, requests = self._per_s()
        if self._guessed and len(self._empties) == 2:
            return NextRate(min(throttled_per_s, max(per_s, _SECOND_CUT * throttled_per_s)), _SECOND_PERIOD_S)
        measured = per_s
        if requests >= _COUNTED:
            self._peak = (max(per_s, self.peak(now)), now, self._accepted.requests)
            self._is_peak_reliable |= self.spread < AGREE and self._highest_rate() > _LOWERED * self._peak[0]
        if throttled_per_s < math.inf:
            cut = _OVERLOADED_CUT if overloaded else _DEEPEST_CUT
            per_s = min(throttled_per_s, max(per_s, throttled_per_s * cut ** max(1.0, requests / _MANY)))
        # A rate that was measured over few requests is raised sooner.
        spaced = min(_PERIOD_REQUESTS, max(_MIN_PERIOD_REQUESTS, _PERIOD_TO_COUNT * requests))
        spaced_s = spaced * self._request_amount / per_s
        pauses_s = max(_PERIOD_TO_PAUSE * self._pause_s, _PERIOD_TO_LOSS * self._lost_s)
        is_reliable = requests >= _COUNTED and per_s <= _AS_MEASURED * measured
        return NextRate(per_s, max(_MIN_PERIOD_S, spaced_s, pauses_s), is_reliable)

    def _per_s(self) -> tuple[float, int]:
        """Return the rate up to the last throttle, and the number of accepted requests over which it was measured.

        It is measured from the newest earlier throttle with at least 20 accepted requests since then; if there is none,
        from the oldest.
        """
        last, first = self._empties[-1], self._empties[0]
        for empty in reversed(self._empties):
            if last.requests - empty.requests >= _COUNTED:
                first = empty
                break
        passed_s = max(last.clock_s - first.clock_s, 0.01)  # 0.01: no division by zero
        amount = max(last.amount - first.amount, 0.01 * self._request_amount)
        return amount / passed_s, last.requests - first.requests
