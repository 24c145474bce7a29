"""Early failures: failures before the first answer that a mistake in the job may have caused (`Failure.early_action`).

With a wrong address, for example, each request gets a web page, a redirect or an untrusted certificate, or the host
does not exist. But if one of many servers behind a right address is broken, or if a server is still starting, the
failures look the same. So a single failure does not stop the lane, and requests in flight are awaited first, unless
they hang.
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
"""Minimum number of failures before the lane or path may be stopped."""
_STUCK_S = 10.0
"""If the requests in flight take longer than this many seconds, another one is sent, because they may hang."""
_NO_REPLY_S, _NO_REPLY_EVERY_S = 10.0, 1.0
"""How many seconds a host that never replies is tried before the lane is stopped, and the seconds between attempts."""
_NO_REPLY_TYPES = frozenset({"connection", "timeout"})
"""Types of failures that only show that there was no reply."""
_OF_THE_HOST = _NO_REPLY_TYPES | {"tls", "proxy"}
"""Types of failures that concern the whole host, not one of its paths."""
_OF_A_PATH = (FailureAction.STOP_PATH, FailureAction.STOP_RUN)


class EarlyFailures:
    """The early failures of one lane, or of one path of a lane. Decides whether a mistake in the job is their cause."""

    def __init__(self, run_status: RunStatus, *, of_a_path: bool = False) -> None:
        """`run_status` counts the answers and replies of all lanes: any of them proves that the address is right."""
        self._run_status = run_status
        self._of_a_path = of_a_path
        self._has_answer = False
        self._count = 0
        self._failures: list[tuple[float, Failure]] = []  # the first one and the last few
        self._tried_at = -math.inf  # when a request was last sent because those in flight may hang

    @property
    def are_open(self) -> bool:
        """Whether there are early failures that no answer has refuted."""
        if self._failures and not self._covers(self._failures[-1][1]):
            self._clear()
        return bool(self._failures)

    def answered(self) -> None:
        """Record an answer. It proves that the job is right, so later failures are no early failures."""
        self._has_answer = True
        self._clear()

    def failed(self, sent_at: float, now: float, failure: Failure) -> bool:
        """Record a failure; return whether a mistake in the job may be its cause. Times are monotonic."""
        if not self._covers(failure):
            return False
        self._count += 1
        self._failures.append((now if self._failures else sent_at, failure))
        del self._failures[1:-_FEW]
        return True

    def wait_s(self, now: float, in_flight: int) -> float:
        """Return the seconds that the next request waits while failures are open.

        Infinity means that a request in flight must return first.
        """
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
        """Return the failure that stops the lane or path, once it is clear that every request fails like this.

        Otherwise return None. `in_flight` counts the requests in flight of this lane or path, `elsewhere` those of the
        other lanes, which may still prove that the address is right.
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
        """Return whether a mistake in the job may be the cause of a failure, given the answers and replies so far."""
        if failure.early_action is None or self._has_answer:
            return False
        if self._of_a_path or failure.early_action is FailureAction.STOP_MODEL:
            return True
        return not (self._run_status.ok or (failure.type in _NO_REPLY_TYPES and self._run_status.replies))

    def _clear(self) -> None:
        self._count = 0
        self._failures.clear()


class LaneEarlyFailures:
    """The early failures of one lane. If the lane sends to several paths, each path's failures are kept apart."""

    def __init__(
        self, run_status: RunStatus, in_flight: Collection[OpenRequest], *, has_paths: bool, keep_going: bool
    ) -> None:
        """`in_flight` is a live view of the lane's requests in flight."""
        self._run_status = run_status
        self._in_flight = in_flight
        self._has_paths = has_paths
        self._keep_going = keep_going
        self._host = EarlyFailures(run_status)
        self._paths: dict[str, EarlyFailures] = {}

    @property
    def are_open(self) -> bool:
        """Whether there are early failures that no answer has refuted."""
        return self._host.are_open or any(path.are_open for path in self._paths.values())

    def answered(self, path: str) -> None:
        """Record an answer from a path."""
        self._host.answered()
        if self._has_paths:
            self._at(path).answered()

    def failed(self, request: Request, sent_at: float, now: float, failure: Failure) -> bool:
        """Record a failure; return whether a mistake in the job may be its cause. Times are monotonic."""
        if self._keep_going and failure.early_action is FailureAction.STOP_PATH:
            return False
        is_of_a_path = failure.early_action in _OF_A_PATH and failure.type not in _OF_THE_HOST
        early = self._at(request.path) if self._has_paths and is_of_a_path else self._host
        return early.failed(sent_at, now, failure)

    def wait_s(self, now: float, path: str) -> float:
        """Return how many seconds the next request to a path waits. Infinity: one in flight must return first."""
        wait_s = self._host.wait_s(now, len(self._in_flight)) if self._host.are_open else 0.0
        if self._has_paths and (early := self._at(path)).are_open:
            wait_s = max(wait_s, early.wait_s(now, self._in_flight_to(path)))
        return wait_s

    def decided(self, path: str) -> Failure | None:
        """Return the failure that stops the lane or path, once it is clear that every request fails like this.

        Otherwise return None.
        """
        if not self._has_paths or self._host.are_open:
            everywhere = sum(lane.in_flight for lane in self._run_status.lanes)
            return self._host.decided(len(self._in_flight), everywhere - len(self._in_flight))
        failure = self._at(path).decided(self._in_flight_to(path), 0)
        return failure and msgspec.structs.replace(failure, action=FailureAction.STOP_PATH)

    def _in_flight_to(self, path: str) -> int:
        return sum(item.request.path == path for item in self._in_flight)

    def _at(self, path: str) -> EarlyFailures:
        return self._paths.get(path) or self._paths.setdefault(path, EarlyFailures(self._run_status, of_a_path=True))
