"""Failures that may mean that the job itself is wrong, as long as nothing speaks against it.

A web page, a redirect, a certificate that nobody trusts, a host that is not there: at the start of a run with a wrong
address each request ends so. But one of many servers behind an address may be broken too, and a server that is just
being started answers nobody for a while. So no single reply decides, and none as long as others are on their way.
"""

from __future__ import annotations

import math

import msgspec

from batchmix.errors import Next
from batchmix.records import Board, Exchange, Failure

_FEW = 3
"""So many replies are heard before it is decided."""
_NOBODY_S, _NOBODY_EVERY_S = 10.0, 1.0
"""So long a host that never answered is tried, before it is taken for one that is not there; and so often."""
_NOBODY = frozenset({"connection", "timeout"})
"""Types of failures that say no more than that nobody answered."""


class Seen(msgspec.Struct):
    """What speaks for the job's address; of all lanes of a start."""

    board: Board = msgspec.field(default_factory=Board)
    """Counts the good answers, those of earlier starts too as far as the folder has been looked through."""
    replies: int = 0
    """Of the provider by HTTP, good or bad, in this start."""

    def hear(self, exchange: Exchange) -> None:
        """Take note of what came back."""
        self.replies += exchange.status is not None and exchange.fault != "proxy"


class Doubts:
    """Decides for one lane whether the failures that came so far are the job's own."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen
        self._answers = 0
        self._failures: list[tuple[float, Failure]] = []

    def good(self) -> None:
        """Take note of an answer."""
        self._answers += 1
        self._failures.clear()

    def cover(self, failure: Failure) -> bool:
        """Return whether a failure may be the job's own, as far as is known."""
        if failure.at_first is None or self._answers:
            return False
        if failure.at_first is not Next.STOP_RUN:
            return True
        return not (self._seen.board.ok or (failure.type in _NOBODY and self._seen.replies))

    def note(self, now: float, failure: Failure) -> bool:
        """Take note of a failure, at a time on the monotonic clock; return whether it may be the job's own."""
        if not self.cover(failure):
            return False
        self._failures.append((now, failure))
        del self._failures[1:-_FEW]
        return True

    def wait_s(self, now: float, in_flight: int) -> float:
        """Return how long the next request has to wait: infinity until one of those in flight has ended."""
        if not self._open():
            return 0.0
        last_at, last = self._failures[-1]
        if last.type in _NOBODY:
            return math.inf if in_flight else max(0.0, last_at + _NOBODY_EVERY_S - now)
        return 0.0 if len(self._failures) + in_flight < _FEW else math.inf

    def decided(self, in_flight: int) -> Failure | None:
        """Return the failure that every request ends with, once that is clear."""
        if in_flight or not self._open() or len(self._failures) < _FEW:
            return None
        (first_at, _), (last_at, last) = self._failures[0], self._failures[-1]
        return last if last.type not in _NOBODY or last_at - first_at >= _NOBODY_S else None

    def _open(self) -> bool:
        if self._failures and not self.cover(self._failures[-1][1]):
            self._failures.clear()
        return bool(self._failures)
