"""How fast a provider's budget refills, found from its throttles.

Between two throttles the provider's bucket went from empty to empty. What it accepted in between is what was refilled:
the rate, in our own units, however large the bucket is and however we sent.
"""

from __future__ import annotations

import collections
import math

import msgspec

from batchmix.pacing.limit_search import COMPARED, relative_spread

ROUNDING_S = 1.0
"""`Retry-After` comes in whole seconds (RFC 9110, 10.2.3): this much of a pause may be rounding.

Halved: "shared, ms, 5 s apart"; doubled: "halved after 75 s".
"""
AGREE = 0.3
"""Values with a smaller relative spread may be the same. Halved: "halved after 75 s"."""
_COUNTED, _MANY = 20, 40
"""Requests accepted in between that make a rate reliable, and that make it certain.

Reliable at 40: "shared, ms, 60 s apart". Certain at 20: "200k reserved tokens, uneven, reported", configured.
"""
_SPACED, _FEW = 25, 12
"""Requests to be accepted for one that is throttled in the search for more; at least so few after a short count.

25 halved or doubled: "shared, ms, 5 s apart". Any of 6–24 passes for the second.
"""
_COST = 10
"""The search for more takes at least this many times the throughput time that the last pause cost.

Doubled: "1200 requests in a sliding minute".
"""
_FIRST_GUESS = 0.5
"""Share of the accepted rate that is tried first: until the first throttle, saved-up budget was accepted too.

Doubled: "60 requests"; halved: "1200 requests, a second saved up", configured.
"""
_DEEPEST_CUT, _OVERLOADED_CUT = 0.7, 0.3
"""A certain rate may lower the throttled one to this share at once; the second where most requests are throttled.

First above 1: "60 requests". Any of 0.15–0.6 passes for the second.
"""
_HALF_LIFE_S, _HALF_LIFE = 60.0, 300
"""Seconds and requests after which only half of the highest rate is still believed.

30 s: "halved after 75 s"; 120 s: "shared, ms, 60 s apart". Any of 150–600 requests passes.
"""
_RECENT_S = 2.0
"""The rate at which requests left lately is taken over two to three times this long. Any of 1–4 s passes."""
_LOWERED = 0.8
"""A limit below this share of what it was is a new one. Halved or doubled: "halved after 75 s"."""


class NextRate(msgspec.Struct, frozen=True):
    """A rate to try after a throttle."""

    per_s: float
    period_s: float
    """How soon to be back at it, and then to try more."""
    is_reliable: bool = False
    """Whether enough was counted, and nothing above the measured rate is tried."""


class Accepted(msgspec.Struct):
    """What the provider has accepted so far. The bucket counts; the estimate only reads."""

    requests: int = 0
    amount: float = 0.0


class _Mark(msgspec.Struct):
    """What the provider had accepted at a moment."""

    clock_s: float
    requests: int
    amount: float


class RateEstimate:
    """Finds a provider's rate from what it accepts between throttles."""

    def __init__(self, now: float, accepted: Accepted) -> None:
        self.mark_at = now + _RECENT_S
        """From then on `mark` is called when a request leaves."""
        self._began_at = now
        self._accepted = accepted
        self._empties: collections.deque[_Mark] = collections.deque(maxlen=32)  # when the bucket was empty
        self._is_informative = False  # the last throttle told something about the rate
        self._guessed = False
        self._each = 1.0
        self._rest_s = 0.0
        self._lost_s = 0.0  # of the last pause, as the provider saves up less
        self._lost_all_s = 0.0
        self._lost_at = now
        self._peak = (0.0, now, 0)
        self._is_peak_reliable = False  # the rates found then agreed
        self._found: collections.deque[tuple[float, int]] = collections.deque(maxlen=COMPARED)
        self._marks = collections.deque([_Mark(now, 0, 0.0)] * 3, maxlen=3)

    @property
    def is_found(self) -> bool:
        """Whether the bucket was empty twice, which takes a rate."""
        return len(self._empties) > 1

    def begin(self, now: float) -> None:
        """Start the clock: nothing was accepted before."""
        self._began_at = now

    def mark(self, now: float) -> None:
        """Remember what was accepted by now, if that is enough since the last mark."""
        if self._accepted.requests >= self._marks[-1].requests + _COUNTED:
            self._marks.append(_Mark(now, self._accepted.requests, self._accepted.amount))
            self.mark_at = now + _RECENT_S

    def recent_per_s(self, now: float) -> float:
        """Return the rate accepted over the last seconds."""
        mark = self._marks[0]
        return (self._accepted.amount - mark.amount) / max(now - mark.clock_s, _RECENT_S)

    def peak(self, now: float) -> float:
        """Return the highest rate found lately."""
        value, at, requests = self._peak
        return float(value * 0.5 ** min((now - at) / _HALF_LIFE_S, (self._accepted.requests - requests) / _HALF_LIFE))

    def throttled(self, now: float, amount: float, rest_s: float, capacity_s: float) -> bool:
        """Record a throttled request of `amount`, which no longer counts as accepted; a pause of `rest_s` begins.

        The provider saves up `capacity_s` at most. Return whether anything was accepted since the last throttle; if
        not, this one tells nothing about the rate.
        """
        self._is_informative = not self._empties or self._accepted.requests > self._empties[-1].requests
        if self._is_informative:
            self._each = max(amount, 1.0)
            self._rest_s = rest_s
            self._empties.append(_Mark(now - self._lost_all_s, self._accepted.requests, self._accepted.amount))
            self._lost_s = max(0.0, min(rest_s, ROUNDING_S) - capacity_s)
            self._lost_all_s += min(self._lost_s, 0.5 * max(0.0, now - self._lost_at))
            self._lost_at = now
            if self.is_found:
                self._found.append(self._per_s())
        return self._is_informative

    def throttled_earlier(self, amount: float) -> bool:
        """Record a throttled request that left before the last throttle was known: so much less was accepted by then.

        Return whether that changes the estimate.
        """
        if self._is_informative:
            self._empties[-1].requests -= 1
            self._empties[-1].amount -= amount
        return self._is_informative

    def first_guess(self) -> NextRate:
        """Return what to try after the first throttle: the bucket's first level is unknown, so try again soon."""
        self._guessed = True
        last = self._empties[-1]
        passed_s = last.clock_s - self._began_at + self._rest_s
        return NextRate(_FIRST_GUESS * max(last.amount, self._each) / max(passed_s, 0.01), 1.0)

    @property
    def spread(self) -> float:
        """The relative spread of the rates found at the last throttles, with the uncertainty of their counts."""
        if len(self._found) < COMPARED:
            return math.inf
        grain = 1 / max(1, min(count for _, count in self._found))
        return relative_spread([found for found, _ in self._found], 0.0) + grain

    @property
    def is_lowered(self) -> bool:
        """Whether the last rates agree and are far below an equally reliable one: the limit has changed."""
        return self._is_peak_reliable and self.spread < AGREE and self._highest_found() < _LOWERED * self._peak[0]

    def _highest_found(self) -> float:
        return max(found for found, _ in self._found)

    def restart(self) -> None:
        """Forget when the bucket was empty: rates across what happens now would be wrong."""
        self._empties.clear()
        self._is_informative = False

    def forget_peak(self) -> None:
        """Forget the highest rate."""
        self._peak, self._is_peak_reliable = (0.0, self._began_at, 0), False

    @property
    def is_reliable(self) -> bool:
        """Whether enough was accepted between two moments when the bucket was empty."""
        return self.is_found and self._per_s()[1] >= _COUNTED

    def next_rate(self, now: float, throttled_per_s: float, *, overloaded: bool) -> NextRate:
        """Return what to try after a throttle at a rate; much less where most requests are throttled."""
        found, requests = self._per_s()
        if self._guessed and len(self._empties) == 2:
            return NextRate(min(throttled_per_s, max(found, 0.1 * throttled_per_s)), 2.0)
        measured = found
        if requests >= _COUNTED:
            self._peak = (max(found, self.peak(now)), now, self._accepted.requests)
            self._is_peak_reliable |= self.spread < AGREE and self._highest_found() > _LOWERED * self._peak[0]
        if throttled_per_s < math.inf:
            cut = _OVERLOADED_CUT if overloaded else _DEEPEST_CUT
            found = min(throttled_per_s, max(found, throttled_per_s * cut ** max(1.0, requests / _MANY)))
        # After a short count, more is tried sooner.
        spaced_s = min(_SPACED, max(_FEW, 2 * requests)) * self._each / found
        pauses_s = max(2 * self._rest_s, _COST * self._lost_s)
        is_reliable = requests >= _COUNTED and found <= 1.02 * measured
        return NextRate(found, max(4.0, spaced_s, pauses_s), is_reliable)

    def _per_s(self) -> tuple[float, int]:
        """Return the rate between the last empty moment and the newest earlier one with enough requests in between.

        The second value is the number of these requests.
        """
        last, first = self._empties[-1], self._empties[0]
        for empty in reversed(self._empties):
            if last.requests - empty.requests >= _COUNTED:
                first = empty
                break
        passed_s = max(last.clock_s - first.clock_s, 0.01)
        amount = max(last.amount - first.amount, 0.01 * self._each)
        return amount / passed_s, last.requests - first.requests
