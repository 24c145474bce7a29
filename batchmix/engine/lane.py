"""Lanes: each sends the requests of one model in input order and stores the answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable

import msgspec

from batchmix.engine.dedupe import DedupingLog
from batchmix.engine.flow import unfinished_step
from batchmix.engine.outcomes import SendingRules, Transport, provider_stopped
from batchmix.engine.pool import Pool
from batchmix.engine.prepare import PreparedRun
from batchmix.engine.run_status import Idle, RunStatus
from batchmix.engine.shutdown import Shutdown
from batchmix.errors import FailureAction
from batchmix.job import Model
from batchmix.records import Failure, RejectedRow, Request
from batchmix.store.lane_log import LaneLog
from batchmix.store.open_shards import OpenShards
from batchmix.store.result_feed import ResultFeed

_logger = logging.getLogger(__name__)


class LaneContext(msgspec.Struct, frozen=True):
    """The objects that all lanes of a run share."""

    prepared: PreparedRun
    client: Transport
    open_shards: OpenShards
    shutdown: Shutdown
    run_status: RunStatus
    rules_of: Callable[[Model], SendingRules]
    feed: ResultFeed | None
    """Hands the results to the caller. None if the caller does not wait for them."""


class Lane:
    """Sends one model's requests of all shards with work left, and records their outcomes."""

    def __init__(self, number: int, model: Model, context: LaneContext) -> None:
        self.stopped: Failure | None = None
        """The failure that stopped this model; None if the model was not stopped."""
        self.lacks_rows = False
        """Whether rows of the step before have not come."""
        self.model = model
        self._context = context
        self._prepared = prepared = context.prepared
        self._shards = [*prepared.work.shards, *prepared.work.outdated_shards]
        canary = prepared.canary.get(model.name)
        self._rows = frozenset(row for row, _ in canary.rows) if canary else None
        self.status = context.run_status.lanes[number]
        self._log = LaneLog(
            context.open_shards,
            number,
            prepared.work.run.shard_rows,
            self.status,
            retry_rejected=prepared.options.retry_rejected,
        )
        self.followers: list[Lane] = []
        """Lanes that send nothing in this start. They check each shard after this lane has read it."""
        self.shards_to_check: asyncio.Queue[int | None] = asyncio.Queue()
        """The shards that this lane has to check in `follow`. None marks the end."""
        self._dedup_log: DedupingLog | None = None

    async def run(self, max_in_flight: int) -> None:
        """Send all requests without an answer, at most `max_in_flight` at a time."""
        rules = self._context.rules_of(self.model)
        dedup_log = self._dedup_log = await self._open_dedup_log()
        pool = Pool(self._context.client, dedup_log or self._log, self._context.shutdown, self.status, rules)
        self.status.set_max_in_flight(max(1, min(self.model.limits.concurrency, max_in_flight)))
        await pool.run(self._needed(pool), self.status.max_in_flight)
        if dedup_log:
            await dedup_log.finish()
        self.stopped = pool.stopped
        self.status.stop(Idle.STOPPED if self.stopped else None)
        if self.stopped and len(self._context.run_status.lanes) > 1:
            _logger.warning("%s is stopped: %s", self.model.name, self.stopped.message)

    async def _open_dedup_log(self) -> DedupingLog | None:
        context, job = self._context, self._prepared.job
        if not job.reuse.dedupe:
            return None
        dedup_log = DedupingLog(self._log, context.open_shards, job.name, context.shutdown.stop)
        await dedup_log.open(self.model.name)
        return dedup_log

    async def _needed(self, pool: Pool) -> AsyncIterator[list[Request]]:
        """Yield the requests without an answer, in input order."""
        dedup_log = self._dedup_log
        for index in self._shards:
            if not await self._has_come(index):
                return
            await self._log.open(index)
            async for batch in self._requests(index):
                needed = await self._reuse_answers(self._log.unfinished(index, batch))
                if dedup_log:
                    needed = dedup_log.firsts(batch, needed) + await dedup_log.late()
                if needed:
                    yield needed
                if dedup_log:
                    await dedup_log.wait_for_room(pool)
                if self._context.feed:
                    await self._context.feed.wait_for_room()
            if dedup_log and (needed := await dedup_log.late(at_least=1)):
                yield needed
            self._log.all_read(index, unfinished=self._rows is not None)
            for lane in self.followers:
                lane.shards_to_check.put_nowait(index)

    async def _has_come(self, index: int) -> bool:
        """Wait until the input of a shard is there. False if it won't come in this start."""
        parts = self._prepared.options.rows_from
        if parts is None:
            return True
        if not await parts.wait_for(self._prepared.dataset.parts_of(index)):
            self.lacks_rows = True
            return False
        self._prepared.dataset.arrived(index)
        return True

    async def _reuse_answers(self, needed: list[Request]) -> list[Request]:
        """Reuse the answers of other runs; return the requests without such an answer."""
        if self._prepared.reusable is None or not needed:
            return needed
        answers = await asyncio.to_thread(self._prepared.reusable.answers, needed)
        return [request for request in needed if not self._log.reuse(request, answers.get(request.key))]

    async def follow(self) -> None:
        """Check shards without sending anything, for a model that this start does not send to.

        For each shard in `shards_to_check`, tell the log whether the model has unfinished rows in the shard: a shard
        can be sealed only when every lane has reported this. An error stops the run.
        """
        seen: set[int] = set()
        try:
            while (index := await self.shards_to_check.get()) is not None:
                if index not in seen:
                    seen.add(index)
                    await self._check(index)
        except Exception as error:  # noqa: BLE001 - it is raised again when the lanes have finished
            self._context.shutdown.stop(error)

    async def _check(self, index: int) -> None:
        await self._log.open(index)
        unfinished = False
        async for batch in self._requests(index):
            unfinished |= self._log.count_finished(index, batch)
        self._log.all_read(index, unfinished=unfinished)

    async def _requests(self, index: int) -> AsyncIterator[list[Request | RejectedRow]]:
        """Yield all requests of a shard. A thread reads and renders them, one batch ahead."""
        batches = self._prepared.dataset.requests(index, self.model, self._rows)
        ahead = asyncio.create_task(asyncio.to_thread(next, batches, None))
        try:
            while (batch := await ahead) is not None:
                ahead = asyncio.create_task(asyncio.to_thread(next, batches, None))
                yield batch
        finally:
            ahead.cancel()

    async def fail_the_rest(self) -> None:
        """Mark the unanswered rows of this stopped model as failed. Their shards can then be sealed."""
        assert self.stopped is not None
        failure = Failure(FailureAction.RETRY, "model_stopped", self.stopped.message, self.stopped.code)
        for index in self._shards:
            if not await self._has_come(index):
                return
            if await self._log.reopen(index):
                async for batch in self._requests(index):
                    self._log.fail_rest(index, batch, failure)
                self._log.all_read(index, unfinished=self._rows is not None)


async def run_lanes(lanes: list[Lane], others: list[Lane], max_in_flight: int, shutdown: Shutdown) -> None:
    """Run lanes until they finish. The `others` send nothing, but check the shards that the lanes have read.

    If a model is stopped, the other models still finish, and `shutdown` has a reason afterwards. Rows that the stopped
    model has not answered are marked as failed. If all models are stopped, such rows stay unanswered.
    """

    async def lead() -> None:
        await asyncio.gather(*(shutdown.guarded(lane.run(max_in_flight)) for lane in lanes))
        for lane in others:
            lane.shards_to_check.put_nowait(None)

    for lane in lanes:
        lane.followers = others
    await asyncio.gather(lead(), *(lane.follow() for lane in others))
    if any(lane.lacks_rows for lane in lanes):
        shutdown.stop(unfinished_step())
    stopped = {lane: lane.stopped for lane in lanes if lane.stopped}
    if shutdown.reason or not stopped:
        return
    if len(stopped) < len(lanes):
        for lane in stopped:
            await lane.fail_the_rest()
    reasons = {f"{lane.model.name}: {failure.message}" for lane, failure in stopped.items()}
    shutdown.stop(provider_stopped("; ".join(sorted(reasons)), stopped.values()))
