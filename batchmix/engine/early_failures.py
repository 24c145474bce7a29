"""Failures that may mean that the job itself is wrong, as long as no answer has come (`Failure.early_action`).

With a wrong address each request at the start of a run ends with a web page, a redirect, a certificate that is not
trusted, or a host that does not exist. But one of many servers behind an address may be broken too, and a server that
is being started answers nobody for a while. So no single failure decides, and none as long as others are in flight.
"""

from __future__ import annotations

import math
from collections.abc import Collection

import msgspec

from batchmix.engine.retries import OpenRequest
from batchmix.engine.run_status import RunStatus
from batchmix.errors import FailureAction
from batchmix.records import Failure, Request

_FEW = 3
"""Failures before anything is decided."""
_STUCK_S = 10.0
"""Seconds to wait for those in flight while there are few failures: they may hang. Then another request is sent."""
_NO_REPLY_S, _NO_REPLY_EVERY_S = 10.0, 1.0
"""Seconds for which a host that never replied is tried before it is taken for missing, and seconds between tries."""
_NO_REPLY_TYPES = frozenset({"connection", "timeout"})
"""Types of failures that say no more than that nobody replied."""
_OF_THE_HOST = _NO_REPLY_TYPES | {"tls", "proxy"}
"""Types of failures that say nothing about a path."""
_OF_A_PATH = (FailureAction.STOP_PATH, FailureAction.STOP_RUN)


class EarlyFailures:
    """Decides for one lane, or for one of several paths of it, whether its failures are the job's own."""

    def __init__(self, run_status: RunStatus, *, of_a_path: bool = False) -> None:
        """`run_status` counts answers and replies of all lanes: they prove that the job's address is right."""
        self._run_status = run_status
        self._of_a_path = of_a_path
        self._has_answer = False
        self._count = 0
        self._failures: list[tuple[float, Failure]] = []  # the first and the last few
        self._tried_at = -math.inf  # though others may hang

    @property
    def are_open(self) -> bool:
        """Whether there are any that no answer has refuted."""
        if self._failures and not self._covers(self._failures[-1][1]):
            self._clear()
        return bool(self._failures)

    def answered(self) -> None:
        """Record an answer: from now on no failure is the job's own."""
        self._has_answer = True
        self._clear()

    def failed(self, sent_at: float, now: float, failure: Failure) -> bool:
        """Record a failure, by the monotonic clock; return whether it may be the job's own."""
        if not self._covers(failure):
            return False
        self._count += 1
        self._failures.append((now if self._failures else sent_at, failure))
        del self._failures[1:-_FEW]
        return True

    def wait_s(self, now: float, in_flight: int) -> float:
        """Return how long the next request has to wait while they are open; infinity: until another has returned."""
        last_at, last = self._failures[-1]
        if last.type in _NO_REPLY_TYPES:
            return math.inf if in_flight else max(0.0, last_at + _NO_REPLY_EVERY_S - now)
        if self._count + in_flight < _FEW:
            return 0.0
        wait_s = max(last_at, self._tried_at) + (_STUCK_S if in_flight else _NO_REPLY_EVERY_S) - now
        if wait_s <= 0:
            self._tried_at = now
        return max(0.0, wait_s)

    def decided(self, in_flight: int, elsewhere: int) -> Failure | None:
        """Return the failure that every request ends with, once that is clear.

        `elsewhere` requests are in flight that may yet prove the address right, though not for this lane.
        """
        if not self.are_open or self._count < _FEW:
            return None
        (first_at, _), (last_at, last) = self._failures[0], self._failures[-1]
        if last.type in _NO_REPLY_TYPES:
            return None if in_flight or last_at - first_at < _NO_REPLY_S else last
        if last_at - first_at >= _STUCK_S:
            return last if self._count >= _FEW * in_flight else None
        return None if in_flight or (elsewhere and last.early_action is FailureAction.STOP_RUN) else last

    def _covers(self, failure: Failure) -> bool:
        """Return whether a failure may be the job's own, as far as is known."""
        if failure.early_action is None or self._has_answer:
            return False
        if self._of_a_path or failure.early_action is FailureAction.STOP_MODEL:
            return True
        return not (self._run_status.ok or (failure.type in _NO_REPLY_TYPES and self._run_status.replies))

    def _clear(self) -> None:
        self._count = 0
        self._failures.clear()


class LaneEarlyFailures:
    """The early failures of one lane: of its host, and of each path where it sends to several of them."""

    def __init__(
        self, run_status: RunStatus, in_flight: Collection[OpenRequest], *, has_paths: bool, keep_going: bool
    ) -> None:
        """`in_flight` always holds the lane's requests in flight."""
        self._run_status = run_status
        self._in_flight = in_flight
        self._has_paths = has_paths
        self._keep_going = keep_going
        self._host = EarlyFailures(run_status)
        self._paths: dict[str, EarlyFailures] = {}

    @property
    def are_open(self) -> bool:
        """Whether there are any that no answer has refuted."""
        return self._host.are_open or any(path.are_open for path in self._paths.values())

    def answered(self, path: str) -> None:
        """Record an answer."""
        self._host.answered()
        if self._has_paths:
            self._at(path).answered()

    def failed(self, request: Request, sent_at: float, now: float, failure: Failure) -> bool:
        """Record a failure, by the monotonic clock; return whether it may be the job's own."""
        if self._keep_going and failure.early_action is FailureAction.STOP_PATH:
            return False
        is_of_a_path = failure.early_action in _OF_A_PATH and failure.type not in _OF_THE_HOST
        early = self._at(request.path) if self._has_paths and is_of_a_path else self._host
        return early.failed(sent_at, now, failure)

    def wait_s(self, now: float, path: str) -> float:
        """Return how long the next request has to wait; infinity: until another has returned."""
        wait_s = self._host.wait_s(now, len(self._in_flight)) if self._host.are_open else 0.0
        if self._has_paths and (early := self._at(path)).are_open:
            wait_s = max(wait_s, early.wait_s(now, self._in_flight_to(path)))
        return wait_s

    def decided(self, path: str) -> Failure | None:
        """Return the failure that every request of the lane ends with, or of the path, once that is clear."""
        if not self._has_paths or self._host.are_open:
            everywhere = sum(lane.in_flight for lane in self._run_status.lanes)
            return self._host.decided(len(self._in_flight), everywhere - len(self._in_flight))
        failure = self._at(path).decided(self._in_flight_to(path), 0)
        return failure and msgspec.structs.replace(failure, action=FailureAction.STOP_PATH)

    def _in_flight_to(self, path: str) -> int:
        return sum(item.request.path == path for item in self._in_flight)

    def _at(self, path: str) -> EarlyFailures:
        return self._paths.get(path) or self._paths.setdefault(path, EarlyFailures(self._run_status, of_a_path=True))
