"""The pool of one lane: many workers send the requests of a feed, until each has an answer or a final failure.

    feed ─► ahead ──┐
                    ├─► Admission ─► a worker sends ─► answer
    retries ─► due ─┘                      └─► failure ─► RetryQueue ─► due

Each worker has one request in flight at a time. Retries that are due are sent before new requests.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Iterable

from batchmix.engine.admission import Admission, IdleWorkers
from batchmix.engine.outcomes import Outcomes, RowLog, SendingRules, Transport
from batchmix.engine.read_ahead import ReadAhead
from batchmix.engine.repeated_failures import RepeatedFailures
from batchmix.engine.retries import OpenRequest, RetryQueue, is_retryable
from batchmix.engine.run_status import LaneStatus
from batchmix.engine.shutdown import Shutdown
from batchmix.engine.stream_fallback import StreamFallback
from batchmix.errors import FailureAction
from batchmix.pacing.governor import Governor
from batchmix.records import Bottleneck, Exchange, Failure, InvalidAnswer, Outcome, Request
from batchmix.responses.stream import UNFINISHED

_logger = logging.getLogger(__name__)
_FEW_RETRYING = 1000
"""After the first answer, no new rows leave while so many, or twice the window if that is more, wait for a retry."""
_LAST = 100
"""Once at most this many rows are left, the status shows why they wait. With more rows, finding this out after each
response would take too long."""


class Pool:
    """Sends the requests of one lane. Its `run` can be called once."""

    def __init__(
        self, transport: Transport, log: RowLog, shutdown: Shutdown, status: LaneStatus, rules: SendingRules
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._idle = IdleWorkers(self._next)
        self._in_flight: dict[OpenRequest, None] = {}  # in the order in which they were sent
        now = self._loop.time()
        governor = Governor(rules.limits, now, now - time.time() % 60)
        self._admission = Admission(governor, status, rules, self._in_flight.keys(), self._idle.hand_out)
        self._log = log
        self._shutdown = shutdown
        self._status = status
        self._streaming = StreamFallback(rules.on_unstreamed, is_off=rules.unstreamed)
        self._outcomes = Outcomes(log, shutdown, status, rules)
        self._retries = RetryQueue(status, self._idle.hand_out)
        self._ahead = ReadAhead(rules, self._idle.hand_out)
        self._outcome_event = asyncio.Event()
        self._closed = self._is_cut = False  # whether no more requests are sent, and those in flight were cut off
        self._working: asyncio.Future[list[None]]
        self._first_attempts = 0  # number of first attempts that have returned
        self._answered_paths: set[str] = set()

    @property
    def stopped(self) -> Failure | None:
        """The failure that stopped this lane; None if the lane was not stopped. Other lanes are not affected."""
        return self._outcomes.stopped

    async def run(self, feed: AsyncIterator[list[Request]], workers: int) -> None:
        """Send all requests of the feed, with at most `workers` in flight.

        Returns when each request has its outcome, or after the run or this lane was stopped. After a stop, no more
        requests are sent, requests in flight return or are cut off, and some requests have no outcome. An error in a
        task stops the run.
        """
        feeder = self._loop.create_task(self._shutdown.guarded(self._feed(feed)))
        self._working = asyncio.gather(*(self._work() for _ in range(workers)))
        watcher = self._loop.create_task(self._watch())
        try:
            await self._working
        except asyncio.CancelledError:
            if not self._is_cut:
                raise
        finally:
            self._close()
            self._idle.hand_out_in(math.inf)
            feeder.cancel()
            watcher.cancel()
            await asyncio.gather(feeder, watcher, return_exceptions=True)

    async def wait_for_outcome(self) -> bool:
        """Wait until a request gets its outcome, and return True. If no response is awaited, return False at once."""
        if self._outcomes.nothing_pending:
            return False
        self._outcome_event.clear()
        await self._outcome_event.wait()
        return True

    async def _watch(self) -> None:
        await self._shutdown.stopping.wait()
        self._close()
        await self._shutdown.cutting.wait()
        self._cut()

    def _cut(self) -> None:
        self._is_cut = True
        self._working.cancel()

    async def _feed(self, feed: AsyncIterator[list[Request]]) -> None:
        async for _ in self._ahead.read(feed, self._begun):
            self._idle.hand_out()
        self._end_if_done()

    def _begun(self, batch: list[Request]) -> list[Request]:
        """Count new requests, and return those to send. The others, whose path was stopped, end."""
        self._outcomes.begin(len(batch))
        stopped = self._outcomes.stopped_paths
        if stopped:
            self._fail_stopped(request for request in batch if request.path in stopped)
        return [request for request in batch if request.path not in stopped] if stopped else batch

    async def _work(self) -> None:
        """Run one worker: it sends one request after another until there are no more. An error stops the run."""
        log, transport = self._log, self._transport
        try:
            while item := self._next() or await self._idle.request():
                exchange: Exchange | None = None
                outcome: Outcome | None = None
                self._in_flight[item] = None
                self._status.sent()
                if self._status.tail is not None:
                    self._show_tail()
                try:
                    log.sent(item.request, time.time_ns() // 1_000_000)
                    exchange = await transport.post(self._ahead.as_sent(item))
                    outcome = log.received(item.request, exchange)
                finally:
                    self._returned(item, exchange, outcome)
        except Exception as error:  # noqa: BLE001 - it is raised again from the shutdown's reason
            self._shutdown.stop(error)

    def _next(self) -> OpenRequest | None:
        """Return the next request to send, retries first. If none may be sent now, record why and return None."""
        if self._closed or self._idle.waiting or self._shutdown.reason is not None:
            return None
        ahead, now = self._ahead, self._loop.time()
        queue = self._retries.due or ahead.ready(now)
        if not queue or (queue is ahead.queue and self._status.retrying and self._too_many_wait()):
            self._status.limit(Bottleneck.RETRIES if queue else ahead.lacks)
            return None
        if self._outcomes.held and self._outcomes.decided_by(self._status.in_flight):
            self._status.limit(Bottleneck.REFUSALS)
            return None
        item = queue[0]
        wait_s = self._admission.admit(now, item)
        if wait_s > 0:
            self._idle.hand_out_in(wait_s)
            return None
        queue.popleft()
        if self._streaming.is_off:
            item.request = self._streaming.as_sent(item.request)
        ahead.sent(now, item)
        return item

    def _too_many_wait(self) -> bool:
        """Return whether no new rows are sent, because too many wait for a retry. The limit rises with an answer."""
        may_rise = self._status.answers or self._outcomes.kept
        limit = max(_FEW_RETRYING, 2 * self._admission.window) if may_rise else RepeatedFailures.FIRST
        return self._status.retrying >= limit

    def _returned(self, item: OpenRequest, exchange: Exchange | None, outcome: Outcome | None) -> None:
        """Handle a request that has returned. `outcome` is None if the request was cut off."""
        del self._in_flight[item]
        self._ahead.returned(self._loop.time(), item, outcome)
        if outcome is None or exchange is None:
            self._admission.abandon(item, exchange)
            return
        self._first_attempts += item.attempts is None
        if isinstance(outcome, Failure):
            self._fail(item, exchange, outcome)
        elif isinstance(outcome, InvalidAnswer):
            self._follow_up(item, exchange, outcome)
        else:
            self._admission.answered(self._loop.time(), item, exchange, outcome)
            path, outcomes = item.request.path, self._outcomes
            if self._admission.is_troubled or outcomes.held or outcomes.unreached or path not in self._answered_paths:
                self._answered_paths.add(path)
                self._admission.recover(item)
                outcomes.recover(path)
            if item.attempts is not None or item.is_follow_up:
                self._retries.remove(item)
            self._log.finished(item.request, None)
            self._outcome_event.set()
        if self._ahead.is_over:
            self._end_if_done()
            self._show_tail()
        if self._idle.waiting:
            self._idle.hand_out()

    def _follow_up(self, item: OpenRequest, exchange: Exchange, invalid: InvalidAnswer) -> None:
        """Queue the request that follows on an invalid answer. If there is none, end the row."""
        self._admission.answered(self._loop.time(), item, exchange, invalid.completion, is_valid=False)
        if self._admission.is_troubled:
            self._admission.recover(item)
        _logger.debug("row %d of %s: %s", item.request.row, item.request.model, invalid.failure.message)
        following = self._log.follow_up(item.request, invalid)
        if following is None:
            self._end(item, invalid.failure)
        elif not self._closed:  # after a stop the row is left for the next start, which goes on from here
            item.request, item.attempts, item.is_follow_up = following, None, True
            self._retries.add_due(item)

    def _fail(self, item: OpenRequest, exchange: Exchange, failure: Failure) -> None:
        """Handle a failure: queue the request for a retry or end it, and stop the lane or the path if necessary."""
        request = item.request
        failure = self._admission.failed(self._loop.time(), item, exchange, failure)
        _logger.debug("row %d of %s: %s: %s", request.row, request.model, failure.type, failure.message)
        if failure.type == UNFINISHED:
            item.request = self._streaming.unfinished(request, failure)
        path, stopped = request.path, self._outcomes.stopped_paths
        failure = stopped.get(path, failure)
        may_retry = is_retryable(failure)
        if failure.action is FailureAction.REJECT and (found := self._log.refused_repair(request, failure)):
            failure = found[1].failure  # the row's own request was not refused
        if not may_retry:
            self._end(item, failure)
        if verdict := self._admission.verdict(path, self._outcomes.open):
            self._give_up(path, verdict)
        if not may_retry or self._closed:  # after a stop the row is left unanswered for the next start
            return
        if path in stopped or not self._retries.add(item, failure, self._first_attempts):
            # In the next turn of the event loop, because the lane may stop before: then the row stays unanswered.
            self._loop.call_soon(self._give_up_row, item, failure)

    def _give_up_row(self, item: OpenRequest, failure: Failure) -> None:
        if self._closed:
            return
        try:
            self._end(item, self._outcomes.stopped_paths.get(item.request.path, failure))
        except Exception as error:  # noqa: BLE001 - it stops the run
            self._shutdown.stop(error)
        self._idle.hand_out()

    def _give_up(self, path: str, verdict: Failure) -> None:
        """Stop the lane, or stop sending to a path. In a stopped lane, requests in flight get `drain_s` to return."""
        if verdict.action is FailureAction.STOP_PATH:
            self._outcomes.stop_path(path, verdict)
            self._stop_path(path)
            if self._ahead.is_over:
                self._end_if_done()
        else:
            self._outcomes.stop(verdict)
            self._close()
            self._loop.call_later(self._shutdown.drain_s, self._cut)

    def _stop_path(self, path: str) -> None:
        """End the requests to a stopped path: those read ahead, and those that wait for a retry."""
        self._fail_stopped([*self._ahead.drop(path), *self._retries.drop(path)])

    def _fail_stopped(self, requests: Iterable[Request]) -> None:
        """End requests with the failure that stopped their path."""
        for request in requests:
            self._outcomes.fail(request, self._outcomes.stopped_paths[request.path])

    def _show_tail(self) -> None:
        """Show in the status why the last rows wait, once few are left."""
        if self._outcomes.open > _LAST:
            return
        reasons = self._retries.reasons
        oldest = next(iter(self._in_flight), None)
        sent_at = oldest.ticket.sent_at if oldest and oldest.ticket else None
        self._status.show_tail(len(reasons) + len(self._retries.due), reasons, sent_at)

    def _end(self, item: OpenRequest, failure: Failure) -> None:
        """End a request with a failure, or stop its path, the lane or the run, as the failure demands."""
        if item.attempts is not None or item.is_follow_up:
            self._retries.remove(item)
        stopped = len(self._outcomes.stopped_paths)
        self._outcomes.fail(item.request, failure)
        if len(self._outcomes.stopped_paths) > stopped:
            self._stop_path(item.request.path)
        self._outcome_event.set()
        if self._outcomes.stopped:
            self._close()
        if self._ahead.is_over:
            self._end_if_done()
            self._show_tail()

    def _end_if_done(self) -> None:
        if self._outcomes.nothing_pending:
            if not self._closed:  # only requests that are held back are left
                self._outcomes.settle()
            self._close()

    def _close(self) -> None:
        """Stop sending: drop the waiting retries and dismiss the idle workers."""
        self._closed = True
        self._retries.clear()
        self._idle.dismiss()
