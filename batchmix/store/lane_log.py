"""Records the events of a lane's requests in the journals of the open shards."""

from __future__ import annotations

import msgspec

from batchmix.answers.typed import INVALID
from batchmix.errors import FailureAction
from batchmix.records import Completion, Exchange, Failure, InvalidAnswer, Key, Outcome, RejectedRow, Request, Status
from batchmix.store.answer_totals import AnswerTotals, Fared
from batchmix.store.events import AttemptSent, LinePosition, RowFailed
from batchmix.store.journal import Journal, response_received
from batchmix.store.open_shards import OpenShards
from batchmix.store.repair_requests import continued, follow_up, refused_repair
from batchmix.store.result_rows import ResultRows
from batchmix.store.reuse import ReusedAnswer
from batchmix.store.shard import Shard


class RowCounts(msgspec.Struct):
    """The finished rows of one lane, by status, and how their answers fared.

    Rows of earlier starts are included as far as the run folder has been read.
    """

    model: str
    ok: int = 0
    failed: int = 0
    rejected: int = 0
    checked: AnswerTotals | None = None
    """How the answers fared in the check. None if the job has no schema."""
    earlier_usd: float | None = None
    """The cost of the answers of earlier starts. None if no answer has a price."""

    @property
    def finished(self) -> int:
        """The number of finished rows of any status."""
        return self.ok + self.failed + self.rejected

    def count(self, status: Status | None, fared: Fared | None = None) -> None:
        """Count a finished row by its status, and by how its answer fared. None is not counted."""
        if fared is not None and self.checked is not None:
            self.checked.count(fared)
        if status is Status.OK:
            self.ok += 1
        elif status is Status.FAILED:
            self.failed += 1
        elif status is Status.REJECTED:
            self.rejected += 1

    def count_earlier(self, ok: int, rejected: int, answers: AnswerTotals | None = None) -> None:
        """Count the answers and the rejected rows of a sealed part."""
        self.ok += ok
        self.rejected += rejected
        if answers is not None and self.checked is not None:
            self.checked.add(answers)

    def count_earlier_usd(self, usd: float) -> None:
        """Add to the cost of the answers of earlier starts."""
        self.earlier_usd = (self.earlier_usd or 0.0) + usd


class _LaneShard:
    """A shard that a lane works on."""

    def __init__(self, shard: Shard, rows: ResultRows | None) -> None:
        self.shard = shard
        self.rows = rows
        """Builds the rows of the results that are told to a listener. None if there is no listener."""
        self.states = shard.states
        self.journal: Journal | None = None
        """None until the lane has something to record."""
        self.requests_left = 1
        """The number of unfinished requests, plus one until the whole shard has been read."""
        self.failed: set[Key] = set()
        """Rows that failed in this start."""
        self.unfinished = False
        """Whether any rows are left for another start."""


class LaneLog:
    """Records the events of a lane's requests, and closes each shard in which the lane has no more work.

    An event is written to the journal before the program acts on it. Used on the event loop only. Methods that record
    an event raise `NoSpace` if the disk is full.
    """

    def __init__(
        self, shards: OpenShards, lane: int, shard_rows: int, counts: RowCounts, *, retry_rejected: bool
    ) -> None:
        self._shards = shards
        self._lane = lane
        self._shard_rows = shard_rows
        self._counts = counts
        self._retry_rejected = retry_rejected
        self._open: dict[int, _LaneShard] = {}
        self._done: set[int] = set()

    async def open(self, index: int) -> None:
        """Open a shard for the first time in this start."""
        shard = await self._shards.open(index)
        self._open[index] = _LaneShard(shard, await self._shards.rows_to_tell(shard))
        if (usd := self._shards.earlier_usd(shard, self._counts.model)) is not None:
            self._counts.count_earlier_usd(usd)

    async def reopen(self, index: int) -> bool:
        """Open a shard again that the lane left before its end.

        Return False if the lane is already done with the shard.
        """
        if index in self._done:
            return False
        if index in self._open:
            self._open[index].requests_left = 1
        else:
            shard = await self._shards.open(index)
            self._open[index] = _LaneShard(shard, await self._shards.rows_to_tell(shard))
        return True

    def fail_rest(self, index: int, requests: list[Request | RejectedRow], failure: Failure) -> None:
        """Record `failure` for a shard's requests that have work left and did not fail in this start.

        Rejected rows keep their own failure.
        """
        opened = self._open[index]
        for request, needed in zip(requests, opened.shard.need_work(requests, retry_rejected=False), strict=True):
            if not needed or request.key in opened.failed:
                continue
            if isinstance(request, RejectedRow):
                self._fail(opened, request, Status.REJECTED, request.failure)
            else:
                self._fail(opened, request, Status.FAILED, failure)

    def unfinished(self, index: int, requests: list[Request | RejectedRow]) -> list[Request]:
        """Return the requests that have work left. Rejected rows are recorded as finished."""
        opened = self._open[index]
        to_send = []
        needed = opened.shard.need_work(requests, retry_rejected=self._retry_rejected)
        for request, needs_work in zip(requests, needed, strict=True):
            if not needs_work:
                self._count(opened, request)
                if opened.rows:
                    self._tell(opened.rows, request.key)
            elif isinstance(request, Request):
                following = continued(opened.shard, request) if opened.shard.classifier.typed else request
                if isinstance(following, Failure):
                    self._fail(opened, request, _status_after(following), following)
                    opened.failed.add(request.key)
                else:
                    to_send.append(following)
            else:
                self._fail(opened, request, Status.REJECTED, request.failure)
        opened.requests_left += len(to_send)
        return to_send

    def has_answer(self, request: Request) -> bool:
        """Return whether a request that was passed to `unfinished` has an answer."""
        state = self._open[request.row // self._shard_rows].states[request.key]
        return state.status is Status.OK and state.hash == request.hash

    def reuse(self, request: Request, reused: ReusedAnswer | None) -> bool:
        """Finish a request with the answer of another run or row. Return False if there is no usable answer."""
        if reused is None:
            return False
        opened = self._open[request.row // self._shard_rows]
        exchange = with_inputs(reused.exchange, request) if request.inputs else reused.exchange
        outcome = opened.shard.classifier.outcome(exchange, request.path)
        reused = msgspec.structs.replace(reused, exchange=exchange)
        if isinstance(outcome, Completion):
            self._record_reused(opened, request, reused, outcome)
            self.finished(request, None)
        elif reused.is_kept and isinstance(outcome, InvalidAnswer) and outcome.failure.action is FailureAction.KEEP:
            self.reuse_invalid(request, reused, outcome)
        else:
            return False
        return True

    def reuse_invalid(self, request: Request, reused: ReusedAnswer, invalid: InvalidAnswer) -> None:
        """End a request like another row with the same request, whose answer stayed invalid."""
        self._record_reused(self._open[request.row // self._shard_rows], request, reused, invalid)
        self.finished(request, invalid.failure)

    def _record_reused(self, opened: _LaneShard, request: Request, reused: ReusedAnswer, outcome: Outcome) -> None:
        event = response_received(request, 0, reused.exchange, reused.run)
        offset, length = (opened.journal or self._new_journal(opened)).append(event)
        opened.states[request.key].received(event, LinePosition(self._lane, offset, length), outcome)

    def count_finished(self, index: int, requests: list[Request | RejectedRow]) -> bool:
        """Count the requests that have no work left. Return whether any other requests do."""
        opened = self._open[index]
        needed = opened.shard.need_work(requests, retry_rejected=False)
        for request, needs_work in zip(requests, needed, strict=True):
            if not needs_work:
                self._count(opened, request)
                if opened.rows:
                    self._tell(opened.rows, request.key)
        return any(needed)

    def all_read(self, index: int, *, unfinished: bool) -> None:
        """Record that the whole shard has been read. `unfinished` says whether requests are left for another start."""
        opened = self._open[index]
        opened.unfinished |= unfinished
        opened.requests_left -= 1
        if not opened.requests_left:
            self._close(index, opened)

    def sent(self, request: Request, at_ms: int) -> None:
        """Record that a request is about to be sent. If this raises an error, the request must not be sent."""
        opened = self._open[request.row // self._shard_rows]
        row, model, sample = request.row, request.model, request.sample
        state = opened.states[row, model, sample]
        attempt, prompt, max_tokens = state.attempts + 1, request.prompt_tokens, request.max_tokens
        event = AttemptSent(row, model, sample, attempt, request.hash, at_ms, prompt, max_tokens)
        (opened.journal or self._new_journal(opened)).append(event)
        state.sent(attempt, prompt, max_tokens)

    def received(self, request: Request, exchange: Exchange) -> Outcome:
        """Record a response unchanged, then classify it."""
        index = request.row // self._shard_rows
        opened = self._open[index]
        state = opened.states[request.row, request.model, request.sample]
        if request.inputs:
            exchange = with_inputs(exchange, request)
        event = response_received(request, state.attempts, exchange, None)
        offset, length = (opened.journal or self._new_journal(opened)).append(event)
        outcome = opened.shard.classifier.outcome(exchange, request.path)
        is_cached = isinstance(outcome, Completion) and self._shards.cache.take(index, event)
        state.received(event, LinePosition(self._lane, offset, length), outcome, cache=is_cached)
        return outcome

    def follow_up(self, request: Request, invalid: InvalidAnswer) -> Request | None:
        """Return the request that follows on an invalid answer to `request`. None if the row is given up."""
        return follow_up(self._open[request.row // self._shard_rows].shard, request, invalid)

    def refused_repair(self, request: Request, refusal: Failure) -> tuple[Exchange, InvalidAnswer] | None:
        """Return the answer that a refused request was to repair, with the failure that ends the row.

        None if the request was to repair none, so that the row's own request was refused.
        """
        return refused_repair(self._open[request.row // self._shard_rows].shard, request, refusal)

    def finished(self, request: Request, failure: Failure | None) -> None:
        """Record that a row has finished: with `failure`, or with an answer if `failure` is None."""
        index = request.row // self._shard_rows
        opened = self._open[index]
        if failure is None:
            fared = opened.states[request.key].fared if opened.shard.classifier.typed else None
            self._counts.count(Status.OK, fared)
            if opened.rows:
                self._tell(opened.rows, request.key)
        else:
            self._fail(opened, request, _status_after(failure), failure)
            opened.failed.add(request.key)
        opened.requests_left -= 1
        if not opened.requests_left:
            self._close(index, opened)

    def _fail(self, opened: _LaneShard, request: Request | RejectedRow, status: Status, failure: Failure) -> None:
        state = opened.states[request.key]
        message = failure.message.encode("utf-8", "replace").decode()
        event = RowFailed(*request.key, state.attempts, request.hash, status, failure.type, message, failure.code)
        offset, length = (opened.journal or self._new_journal(opened)).append(event)
        state.failed(event, LinePosition(self._lane, offset, length))
        self._counts.count(status, Fared.LOST if failure.type == INVALID else None)
        if opened.rows:
            self._tell(opened.rows, request.key)

    def _count(self, opened: _LaneShard, request: Request | RejectedRow) -> None:
        state = opened.states[request.key]
        self._counts.count(state.status, state.fared)

    def _tell(self, rows: ResultRows, key: Key) -> None:
        if self._shards.listener:
            self._shards.listener.finished(rows.row(key))

    def _new_journal(self, opened: _LaneShard) -> Journal:
        opened.journal = opened.shard.open_for_writing(self._lane)
        return opened.journal

    def _close(self, index: int, opened: _LaneShard) -> None:
        del self._open[index]
        self._done.add(index)
        opened.shard.close(self._lane)
        if self._shards.listener:
            self._shards.listener.close(index)
        self._shards.lane_is_done(index, unfinished=opened.unfinished)


def _status_after(failure: Failure) -> Status:
    """Return the status of a row that ends with a failure."""
    if failure.action is FailureAction.KEEP:
        return Status.OK
    return Status.REJECTED if failure.action is FailureAction.REJECT else Status.FAILED


def with_inputs(exchange: Exchange, request: Request) -> Exchange:
    """Return an exchange that says how many embeddings were requested."""
    return msgspec.structs.replace(exchange, inputs=request.inputs)
