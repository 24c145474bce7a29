"""Throttles at random, as from a gateway whose channels differ: told apart from those that a rate limit explains."""

from __future__ import annotations

import collections
import math

import msgspec

_RECENT = 100
"""Throttles among this many last requests are compared with what is expected.

Halved: "shared, seconds, 60 s apart"; double passes.
"""
_REMEMBERED = 1000.0
"""Requests over which the share of random throttles is averaged. Halved: "shared, seconds, 5 s apart"."""
_FEWEST = 3
"""Throttles far from any limit before they count as random at all."""
_OVERLOAD, _OVERLOAD_RECENT = 0.3, 40
"""More than this share throttled among the last 40 requests is a limit, whatever was seen before."""
_SIGMAS = 4.0
"""Standard deviations of a Poisson count (its root) that chance is allowed."""
_TOGETHER_S, _WITNESSES, _MAX_THROTTLED = 0.05, 20, 0.3
"""If 20 requests that left within 50 ms of a throttled one have an outcome and at most this share of them is throttled
too, no limit was the reason: to accept the others so soon, its budget had to be far from used up.
"""


class SentCount(msgspec.Struct):
    """How many requests have left. The governor counts them; `RandomThrottles` only reads."""

    total: int = 0
    far: int = 0
    """Those that left while no known limit was near."""


class RandomThrottles:
    """Learns what share of requests is throttled where no known limit is near, and expects the same share everywhere.

    A limit throttles nothing far below it, so what is throttled there must be random. More throttles than chance makes
    of that share come from a limit again.
    """

    def __init__(self, sent: SentCount) -> None:
        self.is_watching = False
        """Whether outcomes of requests that left together with the last throttled one are still of interest."""
        self._sent = sent
        self._since = 0  # the request after which the present count begins
        self._throttled: collections.deque[int] = collections.deque()
        self._suspect: tuple[int, float] | None = None  # number and time of the last throttled request
        self._outcomes = [0, 0]  # of those that left with it: accepted, throttled
        self._cleared_at = 0
        self._far = FadingShare(_REMEMBERED)
        self._all = FadingShare(_REMEMBERED)

    def is_expected(self, number: int, *, far: bool) -> bool:
        """Record that a request was throttled; return whether random throttles explain it.

        `far`: no known limit was near when it left.
        """
        self._throttled.append(number)
        sent = self._sent
        self._all.add(sent.total)
        if far:
            self._far.add(sent.far)
        while self._throttled and self._throttled[0] <= sent.total - _RECENT:
            self._throttled.popleft()
        if self.is_overloaded:
            self.forget()
            return False
        share, count = self._far.value(sent.far)
        if count < _FEWEST:
            return False
        expected = min(share, self._all.value(sent.total)[0]) * min(_RECENT, sent.total - self._since)
        return len(self._throttled) <= max(1.0, expected + _SIGMAS * math.sqrt(expected))

    @property
    def is_overloaded(self) -> bool:
        """Whether more of the last requests were throttled than could be by chance."""
        sent = self._sent.total
        late = sum(number > sent - _OVERLOAD_RECENT for number in self._throttled)
        return late > _OVERLOAD * min(_OVERLOAD_RECENT, max(sent, 20))

    def restart(self, number: int, sent_at: float) -> None:
        """Start a new count at a throttled request: the pace was lowered for all throttles so far."""
        sent = self._sent.total
        if self._cleared_at and self.is_overloaded and sent < self._cleared_at + _RECENT:
            self._cleared_at = -1  # others prove nothing here: requests that leave together arrive in any order
        self._suspect = (number, sent_at) if self._cleared_at >= 0 else None
        self.is_watching = self._suspect is not None
        self._outcomes = [0, 0]
        self._since = sent
        self._throttled.clear()

    def forget(self) -> None:
        """Drop the learnt share: a limit was nearer than it seemed."""
        self._far = FadingShare(_REMEMBERED, self._sent.far)

    def is_cleared_by(self, number: int, sent_at: float, *, throttled: bool) -> bool:
        """Record the outcome of another request; return whether the last throttle is now known to be random."""
        if self._suspect is None or number <= self._suspect[0] or sent_at > self._suspect[1] + _TOGETHER_S:
            return False
        self._outcomes[throttled] += 1
        count = sum(self._outcomes)
        if count < _WITNESSES or self._outcomes[True] > _MAX_THROTTLED * count:
            return False
        self._far.add(self._sent.far, self._outcomes[True] + 1, of=count + 1)
        self._suspect = None
        self.is_watching = False
        self._cleared_at = self._sent.total
        return True


class FadingShare:
    """The share of requests with some event, as an exponential average over about `remembered` requests.

    Requests are counted by the caller: each method is given how many have left so far.
    """

    def __init__(self, remembered: float, sent: int = 0) -> None:
        self._keep = 1 - 1 / remembered
        self._sent = sent  # the number that had left when the two below were last faded
        self._requests = 0.0
        self._events = 0.0

    def add(self, sent: int, events: int = 1, *, of: int = 0) -> None:
        """Count events; `of` requests are counted in addition to those that have left."""
        self._fade(sent)
        self._requests += of
        self._events += events

    def value(self, sent: int) -> tuple[float, float]:
        """Return the share, and the faded number of events."""
        self._fade(sent)
        return self._events / max(self._requests, 1.0), self._events

    def _fade(self, sent: int) -> None:
        fade = self._keep ** (sent - self._sent)
        self._requests = self._requests * fade + (1 - fade) / (1 - self._keep)
        self._events *= fade
        self._sent = sent
