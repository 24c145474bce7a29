"""Failures that may mean that the job itself is wrong, as long as nothing speaks against it.

A web page, a redirect, a certificate that nobody trusts, a host that is not there: at the start of a run with a wrong
address each request ends so. But one of many servers behind an address may be broken too, and a server that is just
being started answers nobody for a while. So no single reply decides, and none as long as others are on their way.
"""

from __future__ import annotations

import math
from collections.abc import Collection

import msgspec

from batchmix.engine.retries import OpenRequest
from batchmix.engine.status import RunStatus
from batchmix.errors import FailureAction
from batchmix.records import Exchange, Failure, Request

_FEW = 3
"""So many replies are heard before it is decided."""
_STUCK_S = 10.0
"""So long those on their way are waited for, where they are few: they may hang. Then another one is tried."""
_NOBODY_S, _NOBODY_EVERY_S = 10.0, 1.0
"""So long a host that never answered is tried, before it is taken for one that is not there; and so often."""
_NOBODY = frozenset({"connection", "timeout"})
"""Types of failures that say no more than that nobody answered."""
_OF_THE_HOST = _NOBODY | {"tls", "proxy"}
"""Types of failures that say nothing of a path."""
_OF_A_PATH = (FailureAction.STOP_PATH, FailureAction.STOP_RUN)


class Seen(msgspec.Struct):
    """What speaks for the job's address; of all lanes of a start."""

    run_status: RunStatus = msgspec.field(default_factory=RunStatus)
    """Counts the good answers, those of earlier starts too as far as the folder has been looked through."""
    replies: int = 0
    """Of the provider by HTTP, good or bad, in this start."""

    def hear(self, exchange: Exchange) -> None:
        """Take note of what came back."""
        self.replies += exchange.status is not None and exchange.fault != "proxy"


class EarlyFailures:
    """Decides for one lane, or for one of several paths of it, whether the failures that came are the job's own."""

    def __init__(self, seen: Seen, *, of_a_path: bool = False) -> None:
        self._seen = seen
        self._of_a_path = of_a_path
        self._answers = 0
        self._count = 0
        self._failures: list[tuple[float, Failure]] = []  # the first and the last ones
        self._tried_at = -math.inf  # though others may hang

    @property
    def are_open(self) -> bool:
        """Whether there are any."""
        if self._failures and not self._covers(self._failures[-1][1]):
            self._clear()
        return bool(self._failures)

    def good(self) -> None:
        """Take note of an answer."""
        self._answers += 1
        self._clear()

    def note(self, sent_at: float, now: float, failure: Failure) -> bool:
        """Take note of a failure, by the monotonic clock; return whether it may be the job's own."""
        if not self._covers(failure):
            return False
        self._count += 1
        self._failures.append((now if self._failures else sent_at, failure))
        del self._failures[1:-_FEW]
        return True

    def wait_s(self, now: float, in_flight: int) -> float:
        """Return how long the next request has to wait while they are open; infinity: till one in flight has ended."""
        last_at, last = self._failures[-1]
        if last.type in _NOBODY:
            return math.inf if in_flight else max(0.0, last_at + _NOBODY_EVERY_S - now)
        if self._count + in_flight < _FEW:
            return 0.0
        wait_s = max(last_at, self._tried_at) + (_STUCK_S if in_flight else _NOBODY_EVERY_S) - now
        if wait_s <= 0:
            self._tried_at = now
        return max(0.0, wait_s)

    def decided(self, in_flight: int, elsewhere: int) -> Failure | None:
        """Return the failure that every request ends with, once that is clear.

        `elsewhere` are in flight that may yet speak for the address, though not of this lane.
        """
        if not self.are_open or self._count < _FEW:
            return None
        (first_at, _), (last_at, last) = self._failures[0], self._failures[-1]
        if last.type in _NOBODY:
            return None if in_flight or last_at - first_at < _NOBODY_S else last
        if last_at - first_at >= _STUCK_S:
            return last if self._count >= _FEW * in_flight else None
        return None if in_flight or (elsewhere and last.early_action is FailureAction.STOP_RUN) else last

    def _covers(self, failure: Failure) -> bool:
        """Return whether a failure may be the job's own, as far as is known."""
        if failure.early_action is None or self._answers:
            return False
        if self._of_a_path or failure.early_action is FailureAction.STOP_MODEL:
            return True
        return not (self._seen.run_status.ok or (failure.type in _NOBODY and self._seen.replies))

    def _clear(self) -> None:
        self._count = 0
        self._failures.clear()


class LaneEarlyFailures:
    """The doubts of one lane: of its host, and of each path where it asks at several of them.

    `flying` holds what is on its way.
    """

    def __init__(self, seen: Seen, flying: Collection[OpenRequest], *, has_paths: bool, keep_going: bool) -> None:
        self._seen = seen
        self._flying = flying
        self._has_paths = has_paths
        self._keep_going = keep_going
        self._host = EarlyFailures(seen)
        self._paths: dict[str, EarlyFailures] = {}

    def good(self, path: str) -> None:
        """Take note of an answer."""
        self._host.good()
        if self._has_paths:
            self._at(path).good()

    def note(self, request: Request, sent_at: float, now: float, failure: Failure) -> bool:
        """Take note of a failure, by the monotonic clock; return whether it may be the job's own."""
        if self._keep_going and failure.early_action is FailureAction.STOP_PATH:
            return False
        is_of_a_path = failure.early_action in _OF_A_PATH and failure.type not in _OF_THE_HOST
        doubts = self._at(request.path) if self._has_paths and is_of_a_path else self._host
        return doubts.note(sent_at, now, failure)

    def wait_s(self, now: float, path: str) -> float:
        """Return how long the next request has to wait; infinity: till one in flight has ended."""
        wait_s = self._host.wait_s(now, len(self._flying)) if self._host.are_open else 0.0
        if self._has_paths and (doubts := self._at(path)).are_open:
            wait_s = max(wait_s, doubts.wait_s(now, self._in_flight(path)))
        return wait_s

    def decided(self, path: str) -> Failure | None:
        """Return the failure that every request of the lane ends with, or of the path, once that is clear."""
        if not self._has_paths or self._host.are_open:
            everywhere = sum(lane.in_flight for lane in self._seen.run_status.lanes)
            return self._host.decided(len(self._flying), everywhere - len(self._flying))
        failure = self._at(path).decided(self._in_flight(path), 0)
        return failure and msgspec.structs.replace(failure, action=FailureAction.STOP_PATH)

    def _in_flight(self, path: str) -> int:
        return sum(item.request.path == path for item in self._flying)

    def _at(self, path: str) -> EarlyFailures:
        return self._paths.get(path) or self._paths.setdefault(path, EarlyFailures(self._seen, of_a_path=True))
