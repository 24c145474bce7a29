"""Admission: decides when the next request of a lane may be sent, and adapts to each response.

`IdleWorkers` hands the admitted requests to the pool's workers that have nothing to do.
"""

from __future__ import annotations

import asyncio
import collections
import math
import time
from collections.abc import Callable, Collection

import msgspec

from batchmix.engine.early_failures import LaneEarlyFailures
from batchmix.engine.outcomes import SendingRules
from batchmix.engine.retries import OpenRequest, RowAttempts
from batchmix.engine.run_status import LaneStatus
from batchmix.engine.wait_limit import WaitLimit, requested_wait_s
from batchmix.errors import FailureAction
from batchmix.pacing.breaker import Breaker
from batchmix.pacing.governor import Governor, Ticket
from batchmix.pacing.overload import Overload
from batchmix.records import Bottleneck, Completion, Exchange, Failure
from batchmix.responses.stream import UNFINISHED

_UNREPORTED = (None, None)
_LONG_PAUSE_S = 2.0
"""The status shows when a pause ends only if the pause is longer than this. A shorter one is over too soon."""
_STORAGE_S = 0.5
"""Seconds between two looks whether object storage is back."""
_FIRST_REFUSALS = 3
"""How many refusals of one row that give no reason slow the lane down. Further ones may be due to the row alone."""
_AT_ONCE = 16
"""Maximum number of workers that get a request in one turn of the event loop. Opening many connections at once would
block the loop for too long."""


class Admission:
    """Combines everything that may delay a lane's requests: pacing, the budget, outages, and early failures.

    To save time, checks that only matter after a failure are skipped while `is_troubled` is False.
    """

    def __init__(
        self,
        governor: Governor,
        status: LaneStatus,
        rules: SendingRules,
        in_flight: Collection[OpenRequest],
        on_room: Callable[[], None],
    ) -> None:
        """`on_room` is called when a request that did not fit the budget may fit now."""
        self.is_troubled = False
        """Whether there are failures that `recover` would clear after an answer."""
        self._governor = governor
        self._status = status
        self._rules = rules
        self._budget = rules.budget
        self._may_send = rules.may_send
        self._on_room = on_room
        self._breaker = Breaker(rules.outage_s)
        self._overload = Overload()
        self._early = LaneEarlyFailures(
            rules.run_status, in_flight, has_paths=rules.has_paths, keep_going=rules.keep_going
        )
        self._wait_limit = WaitLimit(rules.outage_s)

    @property
    def window(self) -> float:
        """Number of requests that may be in flight."""
        return self._governor.window

    def admit(self, now: float, item: OpenRequest) -> float:
        """Give a request its ticket and return 0, or return how many seconds the request has to wait.

        Infinity means that another request must return first. The status shows the reason for a wait.
        """
        request, governor = item.request, self._governor
        if self._may_send is not None and not self._may_send():
            self._status.limit(Bottleneck.STORAGE)
            return _STORAGE_S
        if self.is_troubled and (wait_s := self._trouble_wait_s(now, request.path)) > 0:
            return wait_s
        tokens = governor.estimate(request.prompt_tokens, request.max_tokens)
        wait_s = governor.wait_s(now, tokens)
        if wait_s > 0:
            self._status.limit(governor.limited_by)
            if governor.limited_by is Bottleneck.PAUSE and wait_s > _LONG_PAUSE_S:
                self._status.pause(time.time() + wait_s)
            return wait_s
        if self._budget is not None and not self._budget.admits(request, self._on_room):
            self._status.limit(Bottleneck.BUDGET)
            return math.inf
        if self._breaker.is_open:
            self._breaker.sent()
        item.ticket = governor.admit(now, tokens)
        return 0.0

    def _trouble_wait_s(self, now: float, path: str) -> float:
        if self._breaker.is_open and (wait_s := self._breaker.wait_s(now)) > 0:
            self._status.limit(Bottleneck.OUTAGE)
            return wait_s
        if (wait_s := self._early.wait_s(now, path)) > 0:
            self._status.limit(Bottleneck.REFUSALS)
        return wait_s

    def answered(
        self, now: float, item: OpenRequest, exchange: Exchange, answer: Completion, *, is_valid: bool = True
    ) -> None:
        """Settle the ticket of a request that was answered, and update rate limits, budget and status."""
        ticket = item.ticket
        assert ticket is not None
        if exchange.quotas != _UNREPORTED:
            self._governor.follow(now, ticket, exchange.quotas)
        self._governor.completed(now, ticket, item.request.prompt_tokens, answer.usage)
        self._status.answered(answer.usage, is_valid=is_valid)
        if self._budget is not None:
            self._budget.settle(item.request, exchange, answer)

    def recover(self, item: OpenRequest) -> None:
        """Clear the failures that an answer refutes.

        Called for the first answer of each path, and for each answer while `is_troubled`.
        """
        assert item.ticket is not None
        self._breaker.succeeded()
        self._early.answered(item.request.path)
        self._wait_limit.answered(item.ticket.sent_at)
        self.is_troubled = self._early.are_open or not self._wait_limit.is_clear

    def failed(self, now: float, item: OpenRequest, exchange: Exchange, failure: Failure) -> Failure:
        """Settle the ticket of an attempt that failed, and update rate limits, budget, breaker and status.

        Returns the failure. A refusal without a reason, such as the 503 of a proxy, is treated as throttling until too
        many come in a row: then it is an outage.
        """
        ticket, status, rules = item.ticket, self._status, self._rules
        assert ticket is not None
        self.is_troubled = True
        status.failed_once(replied=exchange.status is not None and exchange.fault != "proxy")
        if exchange.quotas != _UNREPORTED:
            self._governor.follow(now, ticket, exchange.quotas)
        if item.attempts is None:
            item.attempts = RowAttempts(rules.attempts, ticket.sent_at + rules.row_s, rules.outage_s)
        self._wait_limit.failed(now, ticket.sent_at, item.request.row, failure, requested_wait_s(failure, exchange))
        is_early = self._early.failed(item.request, ticket.sent_at, now, failure)
        is_unfinished = failure.type == UNFINISHED
        if self._is_throttling(failure):
            failure = msgspec.structs.replace(failure, action=FailureAction.PAUSE, may_be_throttling=True)
        item.attempts.count(failure, exchange, is_free=(is_early and not exchange.maybe_billed) or is_unfinished)
        awaited = status.in_flight > 0
        if failure.action is FailureAction.PAUSE:
            if failure.may_be_throttling:
                self._breaker.failed(now, ticket.sent_at, failure, awaited=awaited)
            else:
                self._breaker.inconclusive()
            if item.attempts.refused <= _FIRST_REFUSALS:
                self._governor.throttled(now, ticket, item.attempts.retry_after_s)
            status.count_throttled()
        elif failure.action is FailureAction.RETRY and not is_unfinished:
            # No outage: an early failure, or an unknown one before the first answer, may be the job's own fault.
            if not is_early and (failure.attempts is None or status.answers or self._breaker.is_open):
                self._breaker.failed(now, ticket.sent_at, failure, awaited=awaited)
            self._governor.failed(now)
        else:
            self._breaker.succeeded()
        self._settle(item, ticket, exchange, failure)
        return failure

    def _is_throttling(self, failure: Failure) -> bool:
        """Return whether a failure without a reason means that requests are sent too fast."""
        if failure.may_be_overload:
            self._overload.failed(self._status.answers)
        sheds = failure.may_be_throttling or (failure.may_be_overload and self._overload.is_on)
        return sheds and not self._breaker.is_open

    def abandon(self, item: OpenRequest, exchange: Exchange | None) -> None:
        """Settle the ticket of a request that was cut off and has no outcome."""
        assert item.ticket is not None
        self._status.failed_once(replied=False)
        self._governor.settle(item.ticket, None)
        if self._budget is not None:
            self._budget.settle(item.request, exchange, None)

    def _settle(self, item: OpenRequest, ticket: Ticket, exchange: Exchange, failure: Failure) -> None:
        self._governor.settle(ticket, None if exchange.maybe_billed else 0.0)
        if self._budget is not None:
            self._budget.settle(item.request, exchange, failure)

    def verdict(self, path: str, open_rows: int) -> Failure | None:
        """Return the failure that stops the lane, or that stops sending to `path`. None if both may continue.

        `open_rows` is the number of the lane's requests that have no outcome yet.
        """
        if self._breaker.given_up:
            last = self._breaker.given_up
            message = f"no answer came for too long (retry.outage_s), at last: {last.message}"
            return Failure(FailureAction.STOP_MODEL, last.type, message, last.code)
        return self._wait_limit.given_up(self._status.in_flight, open_rows) or self._early.decided(path)


class IdleWorkers:
    """Hands requests to idle workers.

    `take` removes the next request that may be sent from its queue and returns it, or returns None.
    """

    def __init__(self, take: Callable[[], OpenRequest | None]) -> None:
        self.waiting: collections.deque[asyncio.Future[OpenRequest | None]] = collections.deque()
        """The idle workers. Temporarily empty while requests are handed out."""
        self._take = take
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._is_over = False

    async def request(self) -> OpenRequest | None:
        """Wait for the next request and return it. None if there are no more."""
        if self._is_over:
            return None
        future: asyncio.Future[OpenRequest | None] = self._loop.create_future()
        self.waiting.append(future)
        return await future

    def hand_out(self) -> None:
        """Give requests that may be sent to idle workers, a few in each turn of the event loop."""
        waiting, self.waiting = self.waiting, collections.deque()
        given = 0
        while waiting and given < _AT_ONCE and (item := self._take()):
            waiting.popleft().set_result(item)
            given += 1
        self.waiting = waiting
        if waiting and given == _AT_ONCE:
            self._loop.call_soon(self.hand_out)

    def hand_out_in(self, wait_s: float) -> None:
        """Set the timer to hand out requests after `wait_s` seconds; infinity stops the timer."""
        if self._timer:
            self._timer.cancel()
        self._timer = self._loop.call_later(wait_s, self.hand_out) if wait_s < math.inf else None

    def dismiss(self) -> None:
        """Tell all idle workers that there are no more requests, and each worker that asks later."""
        self._is_over = True
        while self.waiting:
            future = self.waiting.popleft()
            if not future.done():
                future.set_result(None)
