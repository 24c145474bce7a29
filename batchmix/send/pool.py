"""The pool of one lane: takes requests from a feed, and ends each with an answer or a failure.

    feed ─► buffer ─┐
                    ├─► governor admits ─► worker sends ─► answer
    retries ─► due ─┘                          └─► failure ─► tenacity waits, holding no worker ─► due

There are as many workers as requests may ever be in flight. What is due again goes ahead of what is new.
"""

from __future__ import annotations

import asyncio
import collections
import logging
import math
import time
from collections.abc import AsyncIterator, Coroutine
from typing import Protocol, TypeGuard

import msgspec

from batchmix.errors import Next, ProviderStopped
from batchmix.records import Completion, Exchange, Failure, Progress, Request
from batchmix.send.attempts import Outcome, Tries, retried
from batchmix.send.breaker import Breaker, RetryBudget
from batchmix.send.budget import LanePurse
from batchmix.send.governor import Governor, Ticket
from batchmix.send.streak import Streak

_UNSAID = (None, None)
_logger = logging.getLogger(__name__)
_FEW = 1000
"""This many rows may always wait for a retry before no new ones are sent."""
_AT_ONCE = 16
"""So many idle workers are set off in one turn of the event loop."""
_LAST = 100
"""Of so few rows it is told what they wait for; of more it would cost too much each time."""
_AHEAD = 512
"""Requests that are read ahead."""


class Post(Protocol):
    """Sends a request and returns what came of it, whatever it was."""

    async def post(self, request: Request) -> Exchange:
        """Return the exchange."""


class Log(Protocol):
    """Records what happens to a request before anything is made of it."""

    def sent(self, request: Request, at_ms: int) -> None:
        """Record that it is about to leave."""

    def heard(self, request: Request, exchange: Exchange) -> Outcome:
        """Record what came back, then return what it is."""

    def ended(self, request: Request, failure: Failure | None) -> None:
        """Record that it has its answer (None), or ended without one."""


class Rules(msgspec.Struct, frozen=True):
    """What the pool is told about giving up."""

    attempts: int
    """How many a row may cost in this start."""
    keep_going: bool = False
    """Go on although the first requests are all refused for the same reason."""
    outage_s: float = math.inf
    """How long to wait for a provider that is down."""
    row_s: float = math.inf
    """How long after its first attempt a row may be asked again."""
    purse: LanePurse | None = None
    """What a request must fit into; None: there is no cap."""


class Halt:
    """One place to stop everything. The first reason counts; what is in flight then has `drain_s` to end."""

    def __init__(self, drain_s: float) -> None:
        self.reason: BaseException | None = None
        self.stopping = asyncio.Event()
        """Nothing more leaves."""
        self.cutting = asyncio.Event()
        """What is in flight is given up."""
        self._drain_s = drain_s

    def stop(self, reason: BaseException, drain_s: float | None = None) -> None:
        """Let nothing more leave; what is in flight may have its own time to end."""
        if self.reason is None:
            self.reason = reason
            self.stopping.set()
            wait_s = self._drain_s if drain_s is None else drain_s
            asyncio.get_running_loop().call_later(wait_s, self.cutting.set)


class _Item:
    """A request on its way."""

    __slots__ = ("outcome", "request", "ticket", "tries")

    def __init__(self, request: Request) -> None:
        self.request = request
        self.ticket: Ticket | None = None
        self.tries: Tries | None = None
        self.outcome: asyncio.Future[Outcome] | None = None
        """Set while tenacity waits for the outcome of the next attempt."""


class Pool:
    """Sends the requests of one lane; for one use."""

    def __init__(self, post: Post, governor: Governor, log: Log, halt: Halt, progress: Progress, rules: Rules) -> None:
        self.stopped: Failure | None = None
        """Why this lane was stopped, if the others may go on."""
        self._post = post
        self._governor = governor
        self._log = log
        self._halt = halt
        self._progress = progress
        self._rules = rules
        self._purse = rules.purse
        self._loop = asyncio.get_running_loop()
        self._breaker = Breaker(rules.outage_s)
        self._retry_budget = RetryBudget(self._loop.time())
        self._streak = Streak()
        self._buffer: collections.deque[_Item] = collections.deque()
        self._due: collections.deque[_Item] = collections.deque()
        self._idle: collections.deque[asyncio.Future[_Item | None]] = collections.deque()
        self._more = asyncio.Event()
        self._eased = asyncio.Event()
        self._retries: dict[asyncio.Task[None], _Item] = {}
        self._flying: dict[_Item, None] = {}  # in the order in which they left
        self._good_answers = 0
        self._open = 0  # requests taken from the feed that have not ended
        self._fed = False
        self._closed = False  # nothing more leaves
        self._timer: asyncio.TimerHandle | None = None

    async def run(self, feed: AsyncIterator[list[Request]], workers: int) -> None:
        """Return when each request of the feed has ended, or when the run or this lane was stopped.

        There are `workers` at most in flight. After a stop nothing more leaves, and this returns when what was in
        flight has ended or was cut; then requests are left that have no end. What goes wrong in a task stops the run.
        """
        feeder = self._loop.create_task(self._guarded(self._feed(feed)))
        working = asyncio.gather(*(self._guarded(self._work()) for _ in range(workers)))
        watcher = self._loop.create_task(self._watch(working))
        try:
            await working
        except asyncio.CancelledError:
            if not self._halt.cutting.is_set():
                raise
        finally:
            self._close()
            self._pump_in(math.inf)
            others = [feeder, watcher, *self._retries]
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

    async def eased(self) -> bool:
        """Return True once a request has ended; False at once where all that are open are held back, so none will."""
        if self._open <= len(self._streak):
            return False
        self._eased.clear()
        await self._eased.wait()
        return True

    async def _watch(self, working: asyncio.Future[list[None]]) -> None:
        await self._halt.stopping.wait()
        self._close()
        await self._halt.cutting.wait()
        working.cancel()

    async def _guarded(self, work: Coroutine[None, None, None]) -> None:
        """Let an error stop the run as any other reason would: what is in flight may end, and nothing is lost."""
        try:
            await work
        except Exception as error:  # noqa: BLE001 - it is raised again by whoever reads the reason
            self._halt.stop(error)

    async def _feed(self, feed: AsyncIterator[list[Request]]) -> None:
        async for batch in feed:
            self._open += len(batch)
            self._buffer.extend(map(_Item, batch))
            self._pump()
            while len(self._buffer) >= _AHEAD:
                self._more.clear()
                await self._more.wait()
        self._fed = True
        self._end_if_done()

    async def _work(self) -> None:
        while True:
            item = self._next() or await self._given()
            if item is None:
                return
            self._finish(item, await self._attempt(item))

    def _next(self) -> _Item | None:
        """Return the next request if it may leave at once; what is due again goes first."""
        if self._closed or self._idle or self._halt.stopping.is_set():
            return None
        queue = self._due or self._buffer
        if not queue or (queue is self._buffer and len(self._retries) >= max(_FEW, 2 * self._governor.window)):
            self._progress.limited_by = "input" if not queue else "retries"
            return None
        if self._breaker.is_open and not self._may_try():
            return None
        request = queue[0].request
        tokens = self._governor.estimate(request.prompt_tokens, request.max_tokens)
        now = self._loop.time()
        wait_s = self._governor.wait_s(now, tokens)
        if wait_s > 0:
            self._progress.limited_by = self._governor.limited_by.value
            self._pump_in(wait_s)
            return None
        if self._purse is not None and not self._purse.admits(request, self._pump):
            self._progress.limited_by = "budget"
            return None
        self._progress.limited_by = ""
        self._breaker.leaves()
        item = queue.popleft()
        item.ticket = self._governor.admit(now, tokens)
        if len(self._buffer) < _AHEAD // 2:
            self._more.set()
        return item

    def _may_try(self) -> bool:
        wait_s = self._breaker.wait_s(self._loop.time())
        if wait_s > 0:
            self._progress.limited_by = "outage"
            self._pump_in(wait_s)
        return wait_s == 0

    async def _given(self) -> _Item | None:
        if self._closed or (self._fed and self._open == 0):
            return None
        future: asyncio.Future[_Item | None] = self._loop.create_future()
        self._idle.append(future)
        return await future

    def _pump(self) -> None:
        """Give idle workers what may leave, a few at a time: many connections made at once would stop the loop."""
        idle, self._idle = self._idle, collections.deque()
        given = 0
        while idle and given < _AT_ONCE and (item := self._next()):
            idle.popleft().set_result(item)
            given += 1
        self._idle = idle
        if idle and given == _AT_ONCE:
            self._loop.call_soon(self._pump)

    def _pump_in(self, wait_s: float) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = self._loop.call_later(wait_s, self._pump) if wait_s < math.inf else None

    async def _attempt(self, item: _Item) -> Outcome:
        request, ticket = item.request, item.ticket
        assert ticket is not None
        progress = self._progress
        progress.in_flight += 1
        self._flying[item] = None
        if progress.tail is not None:
            self._show_tail()
        used: float | None = None
        exchange: Exchange | None = None
        outcome: Outcome | None = None
        try:
            self._log.sent(request, time.time_ns() // 1_000_000)
            exchange = await self._post.post(request)
            outcome = self._log.heard(request, exchange)
            used = self._learn(item, ticket, exchange, outcome)
        finally:
            progress.in_flight -= 1
            del self._flying[item]
            self._governor.settle(ticket, used)
            if self._purse is not None:
                self._purse.settle(request, exchange, outcome)
        return outcome

    def _learn(self, item: _Item, ticket: Ticket, exchange: Exchange, outcome: Outcome) -> float | None:
        """Tell governor and progress what came back; return the tokens that it was charged, if that is known."""
        if exchange.quotas != _UNSAID:
            self._governor.heard(self._loop.time(), ticket, exchange.quotas)
        if item.tries is None:
            self._retry_budget.sent()
        if isinstance(outcome, Completion):
            self._breaker.good()
            usage = outcome.usage
            self._governor.answered(self._loop.time(), ticket, item.request.prompt_tokens, usage)
            self._progress.answers += 1
            self._progress.tokens += usage.total_tokens or 0
            return usage.total_tokens
        _logger.debug("row %d of %s: %s: %s", item.request.row, item.request.model, outcome.type, outcome.message)
        if outcome.next is Next.PAUSE:
            self._breaker.unknown()
            self._governor.throttled(self._loop.time(), ticket, exchange.retry_after_s)
            self._progress.throttled += 1
        elif outcome.next is Next.RETRY:
            self._breaker.bad(self._loop.time(), ticket.sent_at, outcome)
            self._governor.troubled(self._loop.time())
        else:
            self._breaker.good()
        if item.tries is None:
            item.tries = Tries(self._rules.attempts, ticket.sent_at + self._rules.row_s)
        item.tries.note(outcome, exchange)
        return None if exchange.maybe_billed else 0.0

    def _finish(self, item: _Item, outcome: Outcome) -> None:
        if item.outcome is not None:  # tenacity decides
            waiting, item.outcome = item.outcome, None
            if not waiting.done():
                waiting.set_result(outcome)
        elif _passing(outcome) and self._next_step(outcome) is outcome.next:
            if not self._closed:  # else the row is left as it is, for the next start
                self._retry_later(item, outcome)
        else:
            self._end(item.request, outcome)
        if self._breaker.given_up:
            self._give_up(self._breaker.given_up)
        if self._idle:
            self._pump()
        if self._fed and self._open <= _LAST:
            self._show_tail()

    def _give_up(self, last: Failure) -> None:
        message = f"no answer came for too long (retry.outage_s), at last: {last.message}"
        self._stop_lane(Failure(Next.STOP_MODEL, last.type, message, last.code))

    def _show_tail(self) -> None:
        """Tell what the last rows wait for."""
        progress = self._progress
        waiting = [item.tries for item in self._retries.values() if item.outcome is None]
        progress.tail = len(waiting) + len(self._due)
        oldest = next(iter(self._flying), None)
        progress.oldest_sent_at = oldest.ticket.sent_at if oldest and oldest.ticket else None
        progress.retrying_after = ", ".join(sorted({tries.after for tries in waiting if tries}))

    def _retry_later(self, item: _Item, first: Failure) -> None:
        task = self._loop.create_task(self._guarded(self._retry(item, first)))
        self._retries[task] = item
        self._progress.retrying = len(self._retries)
        task.add_done_callback(self._forget_retry)

    def _forget_retry(self, task: asyncio.Task[None]) -> None:
        del self._retries[task]
        self._progress.retrying = len(self._retries)

    async def _retry(self, item: _Item, first: Failure) -> None:
        tries = item.tries
        assert tries is not None

        async def again() -> Outcome:
            item.outcome = self._loop.create_future()
            self._due.append(item)
            self._pump()
            return await item.outcome

        async def sleep(seconds: float) -> None:
            troubled = tries.last is not None and tries.last.next is Next.RETRY
            await asyncio.sleep(max(seconds, self._retry_budget.wait_s(self._loop.time())) if troubled else seconds)

        self._end(item.request, await retried(first, again, tries, sleep))

    def _end(self, request: Request, outcome: Outcome) -> None:
        """End a row, or stop what its failure says must be stopped."""
        if isinstance(outcome, Completion):
            self._good_answers += 1
            self._settle_streak()
            self._close_row(request, None)
        elif self._next_step(outcome) is Next.STOP_RUN:
            self._halt.stop(ProviderStopped(outcome.message))
        elif self._next_step(outcome) is Next.STOP_MODEL:
            self._stop_lane(outcome)
        elif self._may_be_the_jobs(outcome) and self._streak.holds(request, outcome):
            if self._streak.is_full:
                message = f"the first {self._streak.LENGTH} requests were all refused: {outcome.message}"
                self._stop_lane(Failure(Next.STOP_MODEL, outcome.type, message, outcome.code))
            self._end_if_done()
        else:
            self._settle_streak()
            self._close_row(request, outcome)

    def _next_step(self, failure: Failure) -> Next:
        """Return what follows from a failure, which may be worse while no good answer has come."""
        return failure.next if self._good_answers or failure.at_first is None else failure.at_first

    def _may_be_the_jobs(self, failure: Failure) -> bool:
        """Return whether a failure is held back until it is seen that not all rows end with it."""
        return not self._rules.keep_going and (failure.next is Next.REJECT or failure.attempts is not None)

    def _settle_streak(self) -> None:
        for request, failure in self._streak.broken():
            self._close_row(request, failure)

    def _close_row(self, request: Request, failure: Failure | None) -> None:
        self._log.ended(request, failure)
        self._open -= 1
        self._end_if_done()

    def _end_if_done(self) -> None:
        self._eased.set()
        if not self._fed or self._open > len(self._streak):
            return
        if self._open and not self._closed:  # all that is left are rejections that no other outcome will break
            self._settle_streak()
            return
        self._wake()

    def _stop_lane(self, failure: Failure) -> None:
        if self.stopped is None:
            self.stopped = failure
            _logger.warning("%s is stopped: %s", self._progress.model, failure.message)
        self._close()

    def _close(self) -> None:
        """Let nothing more leave."""
        self._closed = True
        for task in self._retries:
            task.cancel()
        self._wake()

    def _wake(self) -> None:
        while self._idle:
            future = self._idle.popleft()
            if not future.done():
                future.set_result(None)


def _passing(outcome: Outcome) -> TypeGuard[Failure]:
    return isinstance(outcome, Failure) and outcome.next in {Next.RETRY, Next.PAUSE}
