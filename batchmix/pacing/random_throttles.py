"""Recognizes random throttles, which no rate limit explains.

A gateway that spreads requests over several upstream channels may throttle, say, 1 % of them however slowly we send.
Lowering the rate does not help then. The model: a `far` request is one that was sent while all known limits were far
from used up. The share of `far` requests that are throttled is the random share. The same share of all requests is
expected to be throttled at random. If more are throttled than chance (Poisson) explains, a limit is the reason.

All counts are in requests. The constants were tuned with the simulated providers of tests/pacing/test_simulation.py.
"""

from __future__ import annotations

import collections
import math

import msgspec

_RECENT_REQUESTS = 100
"""The number of throttles among this many last requests is compared with the expected number.

Halved, simulation "shared, seconds, 60 s apart" fails; double passes.
"""
_REMEMBERED = 1000.0
"""How many requests the random share is averaged over. Halved, simulation "shared, seconds, 5 s apart" fails."""
_FEWEST = 3
"""How many `far` requests must have been throttled before any throttle counts as random.

Doubled, simulation "3000 requests" with random throttles fails; half passes.
"""
_OVERLOAD, _OVERLOAD_RECENT = 0.3, 40
"""If more than this share of so many last requests is throttled, a limit is the reason in any case.

With either halved, simulation "shared, seconds, 60 s apart" fails; with either doubled, "shared, ms, 60 s apart" does.
"""
_FEWEST_RECENT = 20
"""At the start of a run, the share above is taken of at least so many requests.

No simulation changes its result between 10 and 40.
"""
_SIGMAS = 4.0
"""How many standard deviations above the expected number still count as chance.

The standard deviation is the square root of that number (Poisson). Halved, simulation "no limit" fails; doubled,
"shared, seconds, 60 s apart" does.
"""
_TOGETHER_S, _WITNESSES, _MAX_THROTTLED = 0.05, 20, 0.3
"""Proof that a throttle was random: of 20 requests that were sent within 50 ms after the throttled one, at most 30 %
are throttled too. With a used-up limit, the provider could not have accepted the others so soon.

Simulations pass with half and double of each. Without the proof, simulation "3000 requests" with random throttles fails
(seed 4), but "halved after 75 s" keeps its bound with one seed more (2).
"""


class SentCount(msgspec.Struct):
    """The number of requests sent. The governor counts them; `RandomThrottles` only reads the counts."""

    total: int = 0
    far: int = 0
    """Requests that were sent while all known limits were far from used up."""


class RandomThrottles:
    """Learns the share of requests that is throttled at random, and decides which throttles that share explains."""

    def __init__(self, sent: SentCount) -> None:
        self.is_watching = False
        """Whether outcomes of requests that were sent right after the last throttled one may still prove it random."""
        self._sent = sent
        self._since = 0  # how many requests had been sent when `_throttled` was last emptied
        self._throttled: collections.deque[int] = collections.deque()  # numbers of throttled requests
        self._suspect: tuple[int, float] | None = None  # number and time of sending of the last throttled request
        self._outcomes = [0, 0]  # of requests sent right after it: accepted, throttled
        self._cleared_at = 0  # how many had been sent when a throttle was last proved random; -1: don't trust proofs
        self._far = FadingShare(_REMEMBERED)
        self._all = FadingShare(_REMEMBERED)

    def is_expected(self, number: int, *, far: bool) -> bool:
        """Record the throttled request with this number; return whether the random share explains the throttle.

        `far` says whether all known limits were far from used up when the request was sent.
        """
        self._throttled.append(number)
        sent = self._sent
        self._all.add(sent.total)
        if far:
            self._far.add(sent.far)
        while self._throttled and self._throttled[0] <= sent.total - _RECENT_REQUESTS:
            self._throttled.popleft()
        if self.is_overloaded:
            self.forget()
            return False
        share, count = self._far.value(sent.far)
        if count < _FEWEST:
            return False
        expected = min(share, self._all.value(sent.total)[0]) * min(_RECENT_REQUESTS, sent.total - self._since)
        return len(self._throttled) <= max(1.0, expected + _SIGMAS * math.sqrt(expected))

    @property
    def is_overloaded(self) -> bool:
        """Whether so many of the last 40 requests were throttled that a limit must be the reason."""
        sent = self._sent.total
        late = sum(number > sent - _OVERLOAD_RECENT for number in self._throttled)
        return late > _OVERLOAD * min(_OVERLOAD_RECENT, max(sent, _FEWEST_RECENT))

    def restart(self, number: int, sent_at: float) -> None:
        """Begin to check whether a request was throttled at random, by the outcomes of requests sent right after it.

        Earlier throttles are forgotten, because the pace is lowered in response to them. `number` is the request's
        number in the order of sending.
        """
        sent = self._sent.total
        if self._cleared_at and self.is_overloaded and sent < self._cleared_at + _RECENT_REQUESTS:
            self._cleared_at = -1  # the last proof was wrong: requests that are sent together may arrive in any order
        self._suspect = (number, sent_at) if self._cleared_at >= 0 else None
        self.is_watching = self._suspect is not None
        self._outcomes = [0, 0]
        self._since = sent
        self._throttled.clear()

    def forget(self) -> None:
        """Forget the learned share of random throttles, because a limit turned out to be closer than assumed."""
        self._far = FadingShare(_REMEMBERED, self._sent.far)

    def is_cleared_by(self, number: int, sent_at: float, *, throttled: bool) -> bool:
        """Record the outcome of another request; return whether it proves that the last throttle was random."""
        if self._suspect is None or number <= self._suspect[0] or sent_at > self._suspect[1] + _TOGETHER_S:
            return False
        self._outcomes[throttled] += 1
        count = sum(self._outcomes)
        if count < _WITNESSES or self._outcomes[True] > _MAX_THROTTLED * count:
            return False
        self._far.add(self._sent.far, self._outcomes[True] + 1, extra_requests=count + 1)
        self._suspect = None
        self.is_watching = False
        self._cleared_at = self._sent.total
        return True


class FadingShare:
    """The share of requests that had some event, as an exponential average over about `remembered` requests.

    The caller counts the requests, and passes the number sent so far as `sent`.
    """

    def __init__(self, remembered: float, sent: int = 0) -> None:
        self._keep = 1 - 1 / remembered
        self._sent = sent  # how many requests had been sent when the two sums below were last faded
        self._requests = 0.0
        self._events = 0.0

    def add(self, sent: int, events: int = 1, *, extra_requests: int = 0) -> None:
        """Add events. `extra_requests` is a number of requests to add to those in `sent`."""
        self._fade(sent)
        self._requests += extra_requests
        self._events += events

    def value(self, sent: int) -> tuple[float, float]:
        """Return the share, and the weighted number of events that it is based on."""
        self._fade(sent)
        return self._events / max(self._requests, 1.0), self._events

    def _fade(self, sent: int) -> None:
        fade = self._keep ** (sent - self._sent)
        self._requests = self._requests * fade + (1 - fade) / (1 - self._keep)
        self._events *= fade
        self._sent = sent
