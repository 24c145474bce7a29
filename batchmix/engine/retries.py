"""Retries: decides whether and when a failed request is sent again, and queues the requests that wait for a retry.

The back-off formula is tenacity's. Its retry loop is not used because it would need a task for each waiting row.
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

from batchmix.engine.prefixes import Prefix
from batchmix.engine.run_status import LaneStatus
from batchmix.engine.wait_limit import limited_wait_s, requested_wait_s
from batchmix.errors import FailureAction
from batchmix.pacing.governor import Ticket
from batchmix.records import Exchange, Failure, Outcome, Request

_FIRST_WAIT_S, _MAX_WAIT_S = 0.5, 60.0
"""The back-off is random: up to 0.5 s after the first failure. This maximum doubles with each failure, up to a
minute."""
_MAX_THROTTLED_WAIT_S = 5.0
"""The longest back-off of a throttled row if the provider did not say how long to wait. The whole lane pauses too, and
the row should not wait longer than the lane."""
_MAX_THROTTLED_S = 3600.0
"""A row is given up if its waits after throttling, with the next one, add up to this many seconds."""
_MAX_PUT_OFF = 2
"""A row is given up when the provider asks for a wait longer than `retry.outage_s` for the second time. The first time
may be a single wrong header."""
_REFUSALS_AN_ATTEMPT = 5
"""So many throttled attempts of a row count as one if the provider did not say that it throttles: it may refuse this
row alone. With six attempts, the row fails after 30 of them."""
_RETRIES_AT_ONCE = 100.0
_RETRY_SHARE, _RETRIES_PER_S = 0.25, 10.0
"""Retries after an error are limited to a quarter of the requests plus ten per second, with bursts of up to a hundred.
Otherwise an outage could cause a storm of requests."""
_RETRYABLE = (FailureAction.RETRY, FailureAction.PAUSE)
_back_off = tenacity.wait_random_exponential(multiplier=_FIRST_WAIT_S, max=_MAX_WAIT_S, min=_FIRST_WAIT_S / 2)
_retrying = tenacity.Retrying()  # only because a `RetryCallState` must have one


class RowAttempts:
    """The failed attempts of one row in this start, and the time that the row waited after throttling."""

    __slots__ = ("_limit", "_longest_s", "_most", "_put_off", "_until", "costly", "failed", "reason", "refused",
                 "retry_after_s", "throttled_s")  # fmt: skip

    def __init__(self, limit: int, until: float = math.inf, longest_s: float = math.inf) -> None:
        """Allow `limit` attempts, none of them after `until`. The provider may ask for waits of up to `longest_s`."""
        self._limit = self._most = limit
        self._until = until
        self._longest_s = longest_s
        self._put_off = 0  # how often the provider asked for a longer wait than `longest_s`
        self.failed = 0
        self.costly = 0
        """Number of failed attempts that count towards the limit. Throttled attempts do not count."""
        self.refused = 0
        """Number of throttled attempts for which the provider did not say that it throttles."""
        self.throttled_s = 0.0
        """The sum of the waits after throttling."""
        self.retry_after_s: float | None = None
        """The wait in seconds that the provider asked for after the last failure, shortened if it was too long. None if
        the provider asked for no wait."""
        self.reason = ""
        """The last failure in one word: its HTTP status or its type."""

    def count(self, failure: Failure, exchange: Exchange, *, is_free: bool = False) -> None:
        """Count a failed attempt. If `is_free`, the attempt does not count towards the limit."""
        self.failed += 1
        self.reason = str(exchange.status) if (exchange.status or 0) >= 400 else failure.type
        requested_s = requested_wait_s(failure, exchange)
        self.retry_after_s = limited_wait_s(requested_s, self._longest_s)
        self._put_off += self.retry_after_s != requested_s
        self._most = min(self._limit, failure.attempts or self._limit)
        if failure.action is FailureAction.RETRY and not is_free:
            self.costly += 1
        self.refused += failure.action is FailureAction.PAUSE and failure.may_be_throttling

    def count_wait(self, failure: Failure, wait_s: float) -> None:
        """Count the wait that follows on a failure, if the failure is a throttling."""
        if failure.action is FailureAction.PAUSE:
            self.throttled_s += wait_s

    def used_up(self, now: float, throttled_s: float) -> bool:
        """Return whether no further attempt is allowed. `throttled_s` is the sum of waits after throttling."""
        if self._put_off >= _MAX_PUT_OFF:
            return True
        costly = self.costly + self.refused // _REFUSALS_AN_ATTEMPT
        return costly >= self._most or throttled_s >= _MAX_THROTTLED_S or now >= self._until


def is_retryable(outcome: Outcome) -> TypeGuard[Failure]:
    """Return whether an outcome is a failure, and the same request may succeed later."""
    return isinstance(outcome, Failure) and outcome.action in _RETRYABLE


def next_wait(attempts: RowAttempts, failure: Failure, now: float) -> float | None:
    """Return how many seconds a row has to wait after a failure before it is retried. None if the row is given up.

    Waits are random, grow exponentially, and are never shorter than the provider asked for. Throttled attempts do not
    count towards the limit of attempts, but their waits are added up. `attempts` must include this failure already. The
    caller counts the wait.
    """
    state = tenacity.RetryCallState(_retrying, None, (), {})
    state.attempt_number = attempts.failed
    requested_s, throttled_s = attempts.retry_after_s or 0.0, attempts.throttled_s
    if failure.action is FailureAction.PAUSE:
        wait_s = requested_s or min(_back_off(state), _MAX_THROTTLED_WAIT_S)
        throttled_s += wait_s
    else:
        wait_s = max(requested_s, _back_off(state))
    return None if attempts.used_up(now, throttled_s) else wait_s


class RetryBucket:
    """A token bucket that limits the rate of retries after errors."""

    def __init__(self, now: float) -> None:
        self._left = _RETRIES_AT_ONCE
        self._at = now
        self._sent = 0

    def wait_s(self, now: float, sent: int) -> float:
        """Take one retry from the bucket; return how many seconds this retry has to wait.

        `sent` is the number of requests that have had their first attempt so far.
        """
        more = (now - self._at) * _RETRIES_PER_S + (sent - self._sent) * _RETRY_SHARE
        self._left = min(self._left + more, _RETRIES_AT_ONCE) - 1
        self._at, self._sent = now, sent
        return max(0.0, -self._left / _RETRIES_PER_S)


class OpenRequest(msgspec.Struct, eq=False):
    """A request in the pool that has no outcome yet."""

    request: Request
    ticket: Ticket | None = None
    """The ticket of the current attempt; None before the first attempt."""
    attempts: RowAttempts | None = None
    """The failed attempts; None if there are none."""
    is_follow_up: bool = False
    """Whether an earlier answer to the row was invalid."""
    prefix: Prefix | None = None
    """The longest prefix that it shares with others, or may share. None if it is too short for a prompt cache."""
    held_until: float = math.inf
    """When it is sent even if it would have to wait for another request. Infinity before it was held back."""
    is_held: bool = False
    """Whether it is held back."""


class RetryQueue:
    """The failed requests of one lane that wait for a retry, in a heap ordered by the time when each is due.

    A timer is set for the request that is due first. When it fires, all requests that are due move to `due`, and
    `on_due` is called.
    """

    def __init__(self, status: LaneStatus, on_due: Callable[[], None]) -> None:
        self.due: collections.deque[OpenRequest] = collections.deque()
        """Requests that may be sent again now, in the order in which they became due."""
        # Each entry of `_waiting` is the time when the request is due, a number to break ties, and the request.
        self._waiting: list[tuple[float, int, OpenRequest]] = []
        self._open: set[OpenRequest] = set()  # waiting, due, or in flight again
        self._numbers = itertools.count()
        self._status = status
        self._on_due = on_due
        self._loop = asyncio.get_running_loop()
        self._bucket = RetryBucket(self._loop.time())
        self._timer: asyncio.TimerHandle | None = None

    @property
    def reasons(self) -> list[str]:
        """The last failure in one word of each request that is not due yet."""
        return [item.attempts.reason for _, _, item in self._waiting if item.attempts]

    def add(self, item: OpenRequest, failure: Failure, sent: int) -> bool:
        """Queue a failed request for a retry. Return False, without queuing it, if the request is given up.

        `sent` is the number of the lane's requests that have had their first attempt so far.
        """
        assert item.attempts is not None
        now = self._loop.time()
        wait_s = next_wait(item.attempts, failure, now)
        if wait_s is None:
            return False
        item.attempts.count_wait(failure, wait_s)
        if failure.action is FailureAction.RETRY:
            wait_s = max(wait_s, self._bucket.wait_s(now, sent))
        heapq.heappush(self._waiting, (now + wait_s, next(self._numbers), item))
        if self._waiting[0][2] is item:
            self._set_timer()
        self._open.add(item)
        self._status.set_retrying(len(self._open))
        return True

    def add_due(self, item: OpenRequest) -> None:
        """Queue a request that may be sent at once, because it follows on an invalid answer."""
        self.due.append(item)
        self._open.add(item)
        self._status.set_retrying(len(self._open))

    def remove(self, item: OpenRequest) -> None:
        """Stop counting a request as retrying, because it has its outcome."""
        self._open.discard(item)
        self._status.set_retrying(len(self._open))

    def drop(self, path: str) -> list[Request]:
        """Remove the requests to a path from the queue, waiting or due, and return them. They get no outcome here."""
        removed = [item for _, _, item in self._waiting if item.request.path == path]
        removed += [item for item in self.due if item.request.path == path]
        self._waiting = [entry for entry in self._waiting if entry[2].request.path != path]
        heapq.heapify(self._waiting)
        self.due = collections.deque(item for item in self.due if item.request.path != path)
        self._open.difference_update(removed)
        self._set_timer()
        self._status.set_retrying(len(self._open))
        return [item.request for item in removed]

    def clear(self) -> None:
        """Remove all requests from the queue. They get no outcome here."""
        self._waiting.clear()
        self.due.clear()
        self._open.clear()
        self._set_timer()
        self._status.set_retrying(0)

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
