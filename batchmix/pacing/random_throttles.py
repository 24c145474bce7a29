"""Refusals at random, as of a gateway whose channels differ: told apart from those that a limit explains."""

from __future__ import annotations

import collections
import math

import msgspec

_LATELY = 100
"""The last so many requests are looked at."""
_REMEMBERED, _OVERALL = 1000.0, 1000.0
"""Requests that the shares are taken of."""
_FEWEST = 3
_OVERLOAD, _OVERLOAD_LATELY = 0.3, 40
"""That share refused of the last so many is a limit, whatever was seen before."""
_SIGMAS = 4.0
_AT_ONCE_S, _WITNESSES, _MOST_REFUSED = 0.05, 20, 0.3
"""Where most of so many requests that left so soon after a refused one were let in, it was no limit that refused it: to
let them in so quickly it would have had to be far from used up.
"""


class Sent(msgspec.Struct):
    """How many requests have left. The governor counts them; `RandomThrottles` only reads."""

    total: int = 0
    far: int = 0
    """Those that left while no known limit was near."""


class RandomThrottles:
    """Learns what share of requests is refused where no limit that was found is near, and expects as many elsewhere.

    A limit refuses nothing below it; what is refused there none the less, is refused everywhere alike. More than chance
    makes of that share is a limit again.
    """

    def __init__(self, sent: Sent) -> None:
        self.is_watching = False
        """Whether the outcome of requests that left with the last refused one is still of interest."""
        self._sent = sent
        self._since = 0  # the request after which the present count begins
        self._refused: collections.deque[int] = collections.deque()
        self._suspect: tuple[int, float] | None = None
        self._seen = [0, 0]  # of the witnesses: let in, refused
        self._lifted_at = 0
        self._far = FadingShare(_REMEMBERED)
        self._all = FadingShare(_OVERALL)

    def explains(self, number: int, *, far: bool) -> bool:
        """Take note that a request was refused, and return whether that is no more than was to be expected."""
        self._refused.append(number)
        sent = self._sent
        self._all.add(sent.total)
        if far:
            self._far.add(sent.far)
        while self._refused and self._refused[0] <= sent.total - _LATELY:
            self._refused.popleft()
        if self.overloaded:
            self.unlearn()
            return False
        share, count = self._far.value(sent.far)
        if count < _FEWEST:
            return False
        expected = min(share, self._all.value(sent.total)[0]) * min(_LATELY, sent.total - self._since)
        return len(self._refused) <= max(1.0, expected + _SIGMAS * math.sqrt(expected))

    @property
    def overloaded(self) -> bool:
        """Whether more is refused than could be by chance."""
        sent = self._sent.total
        late = sum(number > sent - _OVERLOAD_LATELY for number in self._refused)
        return late > _OVERLOAD * min(_OVERLOAD_LATELY, max(sent, 20))

    def restart(self, number: int, sent_at: float) -> None:
        """Count anew from a refusal: what was refused so far has been acted upon."""
        sent = self._sent.total
        if self._lifted_at and self.overloaded and sent < self._lifted_at + _LATELY:
            self._lifted_at = -1  # witnesses are no use here: what arrives at once comes in any order
        self._suspect = (number, sent_at) if self._lifted_at >= 0 else None
        self.is_watching = self._suspect is not None
        self._seen = [0, 0]
        self._since = sent
        self._refused.clear()

    def unlearn(self) -> None:
        """Forget what share was refused: it was by a limit that was nearer than it seemed."""
        self._far = FadingShare(_REMEMBERED, self._sent.far)

    def witness(self, number: int, sent_at: float, *, refused: bool) -> bool:
        """Hear how another request ended; return whether now it is clear that the last refusal was a stray."""
        if self._suspect is None or number <= self._suspect[0] or sent_at > self._suspect[1] + _AT_ONCE_S:
            return False
        self._seen[refused] += 1
        heard = sum(self._seen)
        if heard < _WITNESSES or self._seen[True] > _MOST_REFUSED * heard:
            return False
        self._far.add(self._sent.far, self._seen[True] + 1, of=heard + 1)
        self._suspect = None
        self.is_watching = False
        self._lifted_at = self._sent.total
        return True


class FadingShare:
    """The share of the last so many requests that something happened to; they fade.

    Requests are counted elsewhere: each method takes how many have left so far.
    """

    def __init__(self, remembered: float, sent: int = 0) -> None:
        self._keep = 1 - 1 / remembered
        self._sent = sent  # so many had left when the two below were last faded
        self._requests = 0.0
        self._count = 0.0

    def add(self, sent: int, count: int = 1, *, of: int = 0) -> None:
        """Count what happened, `of` so many requests beside those that are counted anyway."""
        self._fade(sent)
        self._requests += of
        self._count += count

    def value(self, sent: int) -> tuple[float, float]:
        """Return the share, and how often it happened of late."""
        self._fade(sent)
        return self._count / max(self._requests, 1.0), self._count

    def _fade(self, sent: int) -> None:
        fade = self._keep ** (sent - self._sent)
        self._requests = self._requests * fade + (1 - fade) / (1 - self._keep)
        self._count *= fade
        self._sent = sent
