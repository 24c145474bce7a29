"""Refusals at random, as of a gateway whose channels differ: told apart from those that a limit explains."""

from __future__ import annotations

import collections
import math

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


class Strays:
    """Learns what share of requests is refused where no limit that was found is near, and expects as many elsewhere.

    A limit refuses nothing below it; what is refused there none the less, is refused everywhere alike. More than chance
    makes of that share is a limit again.
    """

    def __init__(self) -> None:
        self._sent = 0
        self._since = 0  # the request after which the present count begins
        self._refused: collections.deque[int] = collections.deque()
        self._suspect: tuple[int, float] | None = None
        self._seen = [0, 0]  # of the witnesses: let in, refused
        self._lifted_at = 0
        self._far = Share(_REMEMBERED)
        self._all = Share(_OVERALL)

    def sent(self, *, far: bool) -> int:
        """Count a request, sent `far` from any limit or not, and return its number."""
        self._sent += 1
        self._all.sent()
        if far:
            self._far.sent()
        return self._sent

    def explains(self, number: int, *, far: bool) -> bool:
        """Take note that a request was refused, and return whether that is no more than was to be expected."""
        self._refused.append(number)
        self._all.happened()
        if far:
            self._far.happened()
        while self._refused and self._refused[0] <= self._sent - _LATELY:
            self._refused.popleft()
        if self.overloaded:
            self.unlearn()
            return False
        if self._far.count < _FEWEST:
            return False
        expected = min(self._far.value, self._all.value) * min(_LATELY, self._sent - self._since)
        return len(self._refused) <= max(1.0, expected + _SIGMAS * math.sqrt(expected))

    @property
    def overloaded(self) -> bool:
        """Whether more is refused than could be by chance."""
        late = sum(number > self._sent - _OVERLOAD_LATELY for number in self._refused)
        return late > _OVERLOAD * min(_OVERLOAD_LATELY, max(self._sent, 20))

    def restart(self, number: int, sent_at: float) -> None:
        """Count anew from a refusal: what was refused so far has been acted upon."""
        if self._lifted_at and self.overloaded and self._sent < self._lifted_at + _LATELY:
            self._lifted_at = -1  # witnesses are no use here: what arrives at once comes in any order
        self._suspect = (number, sent_at) if self._lifted_at >= 0 else None
        self._seen = [0, 0]
        self._since = self._sent
        self._refused.clear()

    def unlearn(self) -> None:
        """Forget what share was refused: it was by a limit that was nearer than it seemed."""
        self._far = Share(_REMEMBERED)

    def witness(self, number: int, sent_at: float, *, refused: bool) -> bool:
        """Hear how another request ended; return whether now it is clear that the last refusal was a stray."""
        if self._suspect is None or number <= self._suspect[0] or sent_at > self._suspect[1] + _AT_ONCE_S:
            return False
        self._seen[refused] += 1
        heard = sum(self._seen)
        if heard < _WITNESSES or self._seen[True] > _MOST_REFUSED * heard:
            return False
        self._far.add(heard + 1, self._seen[True] + 1)
        self._suspect = None
        self._lifted_at = self._sent
        return True


class Share:
    """The share of the last so many requests that something happened to; they fade."""

    def __init__(self, remembered: float) -> None:
        self.count = 0.0
        """How often it happened, of late."""
        self._keep = 1 - 1 / remembered
        self._sent = 0.0

    def sent(self) -> None:
        """Count a request."""
        self._sent = self._sent * self._keep + 1
        self.count *= self._keep

    def happened(self) -> None:
        """Count one of them."""
        self.count += 1

    def add(self, sent: int, happened: int) -> None:
        """Count many."""
        self._sent += sent
        self.count += happened

    @property
    def value(self) -> float:
        """The share."""
        return self.count / max(self._sent, 1.0)
