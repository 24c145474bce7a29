"""`reuse.dedupe`: of all rows with the same request, only the first row is sent; the others take its answer.

Rows are compared within one model. If the first row has an answer, a later row takes it at once. While the first row is
in flight, the later row waits for the outcome, which may also be a failure. If the first row failed in an earlier
start, the later row is sent and becomes the new first row. Each start finds the first rows again in the run folder.
"""

from __future__ import annotations

import asyncio
import collections
import time
from array import array
from collections.abc import Callable

import msgspec

from batchmix.engine.pool import Pool
from batchmix.records import Completion, Exchange, Failure, InvalidAnswer, Key, Outcome, RejectedRow, Request
from batchmix.store.first_rows import FirstRows, PartAnswers
from batchmix.store.lane_log import LaneLog
from batchmix.store.open_shards import OpenShards
from batchmix.store.reuse import ReusedAnswer

_AT_ONCE = 64
"""Maximum number of rows that get their outcome in one turn of the event loop. They take about three milliseconds."""
_SLICE_S = 0.005
"""Maximum seconds for which a thread looks up answers without a break. Other tasks need the thread too."""
_MAX_LATE = 2000
"""Number of late rows to collect before the answers of their first rows are looked up together, part by part."""
_MAX_WAITING = 50_000
"""Maximum number of rows that wait for the outcome of a request in flight. Until there are fewer, no rows are read."""


class _Waiting:
    """The rows that wait for the outcome of a request in flight, because they have the same request."""

    __slots__ = ("hash", "rows")

    def __init__(self, hash_: str) -> None:
        self.hash = hash_
        self.rows = array("q")


class _Finished(msgspec.Struct):
    """A first row that has its outcome, and the rows that get the same."""

    request: Request
    received: tuple[Exchange, Completion | InvalidAnswer] | None
    """The last answer. None if there was none."""
    failure: Failure | None
    rows: array[int]


class DedupingLog:
    """A lane's log that also records the outcome of a first row for all rows with the same request."""

    def __init__(self, log: LaneLog, shards: OpenShards, run: str, on_error: Callable[[Exception], None]) -> None:
        self._log = log
        self._shards = shards
        self._run = run
        self._on_error = on_error
        self._firsts = FirstRows()
        self._parts = PartAnswers()
        self._under_way: dict[Key, _Waiting] = {}
        """The rows that wait, by the key of the first row that is being sent."""
        self._received: dict[Key, tuple[Exchange, Completion | InvalidAnswer]] = {}
        self._waiting = 0
        self._late: list[tuple[int, Request]] = []
        self._finished: collections.deque[_Finished] = collections.deque()

    async def open(self, model: str) -> None:
        """Load the first rows of a model from the sealed shards."""
        self._firsts = await asyncio.to_thread(self._shards.first_rows, model)

    async def wait_for_room(self, pool: Pool) -> None:
        """Wait until more rows may be read, because few enough rows wait, or because no response is awaited."""
        while self._waiting >= _MAX_WAITING:
            await self.finish()
            if self._waiting >= _MAX_WAITING and not await pool.wait_for_outcome():
                return

    def firsts(self, batch: list[Request | RejectedRow], needed: list[Request]) -> list[Request]:
        """Return the `needed` requests that must be sent, because no earlier row has the same request."""
        for request in batch:
            if isinstance(request, Request) and self._log.has_answer(request):
                # The latest row with an answer becomes the first row, because its answer is the quickest to read.
                self._firsts.put(request.hash, request.row, request.sample)
        return [request for request in needed if self._is_first(request)]

    def _is_first(self, request: Request, *, former_first: int | None = None) -> bool:
        """Return whether a request must be sent. `former_first` is its first row so far, if that has no answer."""
        row = self._firsts.first(request.hash, request.row, request.sample)
        under_way = self._under_way.get((row, request.model, request.sample))
        if under_way and under_way.hash == request.hash:  # else the row had this request in an earlier start
            under_way.rows.append(request.row)
            self._waiting += 1
            return False
        if row == former_first:
            row = request.row
            self._firsts.put(request.hash, row, request.sample)
        if row != request.row:
            self._late.append((row, request))
            return False
        self._under_way[request.key] = _Waiting(request.hash)
        return True

    async def late(self, *, at_least: int = _MAX_LATE) -> list[Request]:
        """Give late rows the answers of their first rows, once there are at least `at_least` late rows.

        A row is late if its first row is no longer in flight. Return the requests that must be sent after all, because
        their first row has no answer.
        """
        unanswered: list[Request] = []
        while len(self._late) >= at_least:  # repeated, because a row may have a new first row by now
            unanswered += [
                request for row, request in await self._unanswered() if self._is_first(request, former_first=row)
            ]
        return unanswered

    async def _unanswered(self) -> list[tuple[int, Request]]:
        """Give late rows the answers of their first rows; return the late rows whose first row has no answer."""
        late, self._late = self._late, []
        late.sort(key=lambda pair: pair[0])  # parts are read in order
        unanswered = []
        while late:
            answers = await asyncio.to_thread(self._answers, late)
            for (row, request), answer in zip(late, answers, strict=False):
                if not self._log.reuse(request, answer):
                    unanswered.append((row, request))
            late = late[len(answers) :]
        return unanswered

    def _answers(self, late: list[tuple[int, Request]]) -> list[ReusedAnswer | None]:
        """Return the answers for the first few late rows: as many as can be looked up in `_SLICE_S`."""
        until = time.monotonic() + _SLICE_S
        answers: list[ReusedAnswer | None] = []
        for row, request in late:
            answers.append(self._shards.answer((row, request.model, request.sample), request.hash, self._parts))
            if time.monotonic() > until:
                break
        return answers

    def sent(self, request: Request, at_ms: int) -> None:
        """Record that a request is about to be sent."""
        self._log.sent(request, at_ms)

    def received(self, request: Request, exchange: Exchange) -> Outcome:
        """Record the response; return the answer or the failure in it."""
        outcome = self._log.received(request, exchange)
        if not isinstance(outcome, Failure):
            self._received[request.key] = exchange, outcome
        return outcome

    def follow_up(self, request: Request, invalid: InvalidAnswer) -> Request | None:
        """Return the request that follows on an invalid answer to `request`. None if the row is given up."""
        return self._log.follow_up(request, invalid)

    def refused_repair(self, request: Request, refusal: Failure) -> tuple[Exchange, InvalidAnswer] | None:
        """Return the answer that a refused request was to repair, with the failure that ends the row."""
        found = self._log.refused_repair(request, refusal)
        if found:
            self._received[request.key] = found
        return found

    def finished(self, request: Request, failure: Failure | None) -> None:
        """Record the outcome of a row; the rows that wait for it get the same outcome soon."""
        self._log.finished(request, failure)
        received = self._received.pop(request.key, None)
        rows = self._under_way.pop(request.key).rows
        if rows:
            self._finished.append(_Finished(request, received, failure, rows))
            if len(self._finished) == 1:
                asyncio.get_running_loop().call_soon(self._finish_some)

    def _finish_some(self) -> None:
        """Give some waiting rows their outcome. The others get it in later turns of the event loop."""
        try:
            for _ in range(_AT_ONCE):
                if not self._finished:
                    return
                self._finish_one()
        except Exception as error:  # noqa: BLE001 - it stops the run
            self._on_error(error)
            return
        asyncio.get_running_loop().call_soon(self._finish_some)

    def _finish_one(self) -> None:
        first = self._finished[0]
        request = msgspec.structs.replace(first.request, row=first.rows.pop())
        self._waiting -= 1
        if not first.rows:
            self._finished.popleft()
        exchange, outcome = first.received or (None, None)
        if exchange and isinstance(outcome, InvalidAnswer) and outcome.failure == first.failure:
            self._log.reuse_invalid(request, ReusedAnswer(self._run, exchange), outcome)
        elif first.failure is not None:
            self._log.finished(request, first.failure)
        elif exchange is not None:
            self._log.reuse(request, ReusedAnswer(self._run, exchange))

    async def finish(self) -> None:
        """Give every waiting row the outcome of its first row, if there is one."""
        while self._finished:
            for _ in range(min(_AT_ONCE, len(self._finished[0].rows))):
                self._finish_one()
            await asyncio.sleep(0)
