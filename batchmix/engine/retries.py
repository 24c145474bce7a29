"""When a request is sent again: the decision for one row, and the queue of those that wait for it.

The back-off formula is tenacity's. Its retry loop is not used: it would need a task for each row that waits.
"""

from __future__ import annotations

import asyncio
import collections
import heapq
import itertools
import math
from collections.abc import Callable
from typing import TypeGuard

import msgspec
import tenacity

from batchmix.engine.run_status import LaneStatus
from batchmix.engine.wait_limit import limited_wait_s, requested_wait_s
from batchmix.errors import FailureAction
from batchmix.pacing.governor import Ticket
from batchmix.records import Exchange, Failure, Outcome, Request

_FIRST_WAIT_S, _MAX_WAIT_S = 0.5, 60.0
"""The wait is random, up to 0.5 s after the first failure and up to twice as much after each more, at most a minute."""
_MAX_THROTTLED_WAIT_S = 5.0
"""The longest back-off of a throttled row whose provider did not say how long to wait. The lane's pause holds it back
then, and the row must not outlast that pause."""
_MAX_THROTTLED_S = 3600.0
"""A row whose waits after throttling come to an hour is given up."""
_MAX_PUT_OFF = 2
"""How often a provider may ask a row to wait for longer than `retry.outage_s` before it is given up. Once may be one
wrong header."""
_RETRIES_AT_ONCE = 100.0
_RETRY_SHARE, _RETRIES_PER_S = 0.25, 10.0
"""Retries after an error may be a quarter of the requests, and always ten a second: an outage is no reason for a storm
of requests."""
_RETRYABLE = (FailureAction.RETRY, FailureAction.PAUSE)
_back_off = tenacity.wait_random_exponential(multiplier=_FIRST_WAIT_S, max=_MAX_WAIT_S, min=_FIRST_WAIT_S / 2)
_retrying = tenacity.Retrying()  # only because a call state must have one


class RowAttempts:
    """What the failed attempts of one row have cost so far, in this start."""

    __slots__ = ("_limit", "_longest_s", "_most", "_put_off", "_until", "costly", "failed", "reason", "retry_after_s",
                 "throttled_s")  # fmt: skip

    def __init__(self, limit: int, until: float = math.inf, longest_s: float = math.inf) -> None:
        """Allow `limit` attempts; none after `until`. `longest_s` is how long a provider may ask to wait."""
        self._limit = self._most = limit
        self._until = until
        self._longest_s = longest_s
        self._put_off = 0  # how often the provider asked for more than that
        self.failed = 0
        self.costly = 0
        """Of the failed attempts, how many count towards the limit."""
        self.throttled_s = 0.0
        self.retry_after_s: float | None = None
        """What the provider asked for with the last failure, within what it may ask for."""
        self.reason = ""
        """The last failure in a word: its HTTP status, or its type."""

    def count(self, failure: Failure, exchange: Exchange, *, is_free: bool = False) -> None:
        """Count a failed attempt; one that `is_free` costs nothing."""
        self.failed += 1
        self.reason = str(exchange.status) if (exchange.status or 0) >= 400 else failure.type
        requested_s = requested_wait_s(failure, exchange)
        self.retry_after_s = limited_wait_s(requested_s, self._longest_s)
        self._put_off += self.retry_after_s != requested_s
        self._most = min(self._limit, failure.attempts or self._limit)
        if failure.action is FailureAction.RETRY and not is_free:
            self.costly += 1

    def used_up(self, now: float) -> bool:
        """Return whether no further attempt is allowed."""
        if self._put_off >= _MAX_PUT_OFF:
            return True
        return self.costly >= self._most or self.throttled_s >= _MAX_THROTTLED_S or now >= self._until


def is_retryable(outcome: Outcome) -> TypeGuard[Failure]:
    """Return whether the same request may succeed later."""
    return isinstance(outcome, Failure) and outcome.action in _RETRYABLE


def next_wait(attempts: RowAttempts, failure: Failure, now: float) -> float | None:
    """Return how many seconds a row waits before it is sent again after a failure; None: it is given up.

    Waits are random and grow exponentially, and are never shorter than what the provider asked for. Throttled attempts
    cost nothing but time. The failure has been counted in `attempts`.
    """
    state = tenacity.RetryCallState(_retrying, None, (), {})
    state.attempt_number = attempts.failed
    requested_s = attempts.retry_after_s or 0.0
    if failure.action is FailureAction.PAUSE:
        wait_s = requested_s or min(_back_off(state), _MAX_THROTTLED_WAIT_S)
        attempts.throttled_s += wait_s
    else:
        wait_s = max(requested_s, _back_off(state))
    return None if attempts.used_up(now) else wait_s


class RetryBudget:
    """A token bucket for retries after errors."""

    def __init__(self, now: float) -> None:
        self._left = _RETRIES_AT_ONCE
        self._at = now
        self._sent = 0

    def wait_s(self, now: float, sent: int) -> float:
        """Take a retry, and return how long it has to wait; `sent` requests have had their first attempt so far."""
        more = (now - self._at) * _RETRIES_PER_S + (sent - self._sent) * _RETRY_SHARE
        self._left = min(self._left + more, _RETRIES_AT_ONCE) - 1
        self._at, self._sent = now, sent
        return max(0.0, -self._left / _RETRIES_PER_S)


class OpenRequest(msgspec.Struct, eq=False):
    """A request of the pool that has no outcome yet."""

    request: Request
    ticket: Ticket | None = None
    """Set when it leaves."""
    attempts: RowAttempts | None = None
    """None until it has failed once."""


class RetryQueue:
    """The requests of one lane that have failed and will be sent again: a heap by the time when each is due.

    One timer of the event loop, for the first of them, moves what is due to `due` and calls `on_due`.
    """

    def __init__(self, status: LaneStatus, on_due: Callable[[], None]) -> None:
        self.due: collections.deque[OpenRequest] = collections.deque()
        """What may leave now, in the order in which it became due."""
        self._waiting: list[tuple[float, int, OpenRequest]] = []
        self._open: set[OpenRequest] = set()  # waiting, due, or in flight again
        self._numbers = itertools.count()  # so that requests are never compared
        self._status = status
        self._on_due = on_due
        self._loop = asyncio.get_running_loop()
        self._budget = RetryBudget(self._loop.time())
        self._timer: asyncio.TimerHandle | None = None

    @property
    def reasons(self) -> list[str]:
        """Of each request that is not due yet, why it has failed."""
        return [item.attempts.reason for _, _, item in self._waiting if item.attempts]

    def add(self, item: OpenRequest, failure: Failure, sent: int) -> bool:
        """Let a request wait that has failed; return False where it is given up.

        `sent` requests of the lane have had their first attempt so far.
        """
        assert item.attempts is not None
        now = self._loop.time()
        wait_s = next_wait(item.attempts, failure, now)
        if wait_s is None:
            return False
        if failure.action is FailureAction.RETRY:
            wait_s = max(wait_s, self._budget.wait_s(now, sent))
        heapq.heappush(self._waiting, (now + wait_s, next(self._numbers), item))
        if self._waiting[0][2] is item:
            self._set_timer()
        self._open.add(item)
        self._status.count_retrying(len(self._open))
        return True

    def remove(self, item: OpenRequest) -> None:
        """Forget a request that has its outcome now."""
        self._open.discard(item)
        self._status.count_retrying(len(self._open))

    def drop(self, path: str) -> list[Request]:
        """Forget what waits, or is due, for a path; return these requests, which have no outcome."""
        gone = [item for _, _, item in self._waiting if item.request.path == path]
        gone += [item for item in self.due if item.request.path == path]
        self._waiting = [entry for entry in self._waiting if entry[2].request.path != path]
        heapq.heapify(self._waiting)
        self.due = collections.deque(item for item in self.due if item.request.path != path)
        self._open.difference_update(gone)
        self._set_timer()
        self._status.count_retrying(len(self._open))
        return [item.request for item in gone]

    def clear(self) -> None:
        """Forget all requests, which are left without an outcome."""
        self._waiting.clear()
        self.due.clear()
        self._open.clear()
        self._set_timer()
        self._status.count_retrying(0)

    def _set_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._waiting[0][0], self._move_due) if self._waiting else None

    def _move_due(self) -> None:
        now = self._loop.time()
        while self._waiting and self._waiting[0][0] <= now:
            self.due.append(heapq.heappop(self._waiting)[2])
        self._set_timer()
        self._on_due()
