"""The part of a run in which requests leave: client, shards and lanes on one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import logging
import math
import sys
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import msgspec

from batchmix.engine.account import used_so_far
from batchmix.engine.bottlenecks import noted
from batchmix.engine.early_failures import Seen
from batchmix.engine.lane import Lane, LaneContext, run_lanes
from batchmix.engine.outcomes import SendingRules
from batchmix.engine.prepare import Options, Ready, rehearsal_behaviour
from batchmix.engine.shutdown import Shutdown, deadline, interrupts
from batchmix.engine.status import Idle, LaneStatus, Phase, RunStatus
from batchmix.http.client import Client
from batchmix.job import Budget, Job
from batchmix.prices.budget import LaneBudget, RunBudget
from batchmix.records import CLASSIFIER_VERSION
from batchmix.redact import Secrets
from batchmix.store.events import Begun
from batchmix.store.open_shards import OpenShards, ShardSpec
from batchmix.store.run_folder import Layout
from batchmix.store.schema import part_schema
from batchmix.store.view import read_view

if TYPE_CHECKING:
    from batchmix.rehearsal import Behaviour, Rehearsal

_logger = logging.getLogger(__name__)


class RunContext(msgspec.Struct, frozen=True):
    """What a person asked for, and where it is shown how that gets on."""

    job: Job
    secrets: Secrets
    options: Options
    run_status: RunStatus
    began: float
    """On the monotonic clock."""


def send(call: RunContext, layout: Layout, ready: Ready) -> None:
    """Ask for all that has no answer, and seal the shards that are finished.

    Raises `Stopped` and `Interrupted`, with all that was answered kept.
    """
    _run_loop(_Sending(call, layout, ready).run())


class _Sending:
    """One start, from its first request to its last."""

    def __init__(self, call: RunContext, layout: Layout, ready: Ready) -> None:
        self._call = call
        self._job = call.job
        self._run_status = call.run_status
        self._layout = layout
        self._ready = ready
        self._work = ready.work
        self._unstreamed = {model for start in ready.work.run.starts for model in start.unstreamed}
        self._draws = ready.work.run.canary if call.options.canary else {}
        self._cap: RunBudget | None = None
        self._client: Client | None = None

    async def run(self) -> None:
        # One thread seals while the other reads and syncs; each more would keep memory of its own.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))
        run_status, work = self._run_status, self._work
        shutdown = Shutdown(self._job.timeouts.drain_s)
        run_status.begin(*self._what_is_there())
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(interrupts(shutdown, run_status))
            stack.enter_context(deadline(self._job.timeouts, self._call.began, shutdown, run_status))
            await stack.enter_async_context(noted(run_status, work.run.starts[-1], self._note, self._keep))
            concurrency = sum(model.limits.concurrency for model in work.models)
            most = run_status.results - run_status.ok - run_status.rejected
            client = self._client = await self._opened(stack, min(concurrency, max(1, most)))
            stack.callback(self._note)
            shards = OpenShards(self._layout, self._blueprint(), len(work.models), shutdown.stop)
            await stack.enter_async_context(shards)
            shards.hold(min(concurrency, most))
            run_status.enter(Phase.SENDING)
            _logger.info("%d of %d shards have work left", len(work.shards), len(self._ready.dataset.scan.shards))
            await self._run_lanes(self._context(client, shards, shutdown), most, client.room)
            run_status.enter(Phase.SEALING)
        if self._cap is not None:
            work.run.starts[-1].spent = self._cap.spent
        run_status.warn(shards.damage)
        if shutdown.reason:
            raise shutdown.reason

    def _what_is_there(self) -> tuple[list[LaneStatus], int]:
        """Return the status of each lane before it begins, and how many results there will be."""
        work, samples = self._work, self._job.samples
        of_each = work.run.rows * samples if self._job.models else 0  # else the rows name their models
        drawn = {model: samples * len(draw.picks) for model, draw in self._draws.items()}
        lanes = [
            LaneStatus(
                model.name,
                results=drawn.get(model.name, 0) if self._draws else of_each,
                usd_of=self._ready.prices.of_sums(model.name),
            )
            for model in work.models
        ]
        if self._draws:
            return lanes, sum(drawn.values())
        for footer in work.done:
            if footer.shard in work.old:
                continue  # its rows are counted as the lanes pass by them
            for lane in lanes:
                counts = footer.totals.models.get(lane.model, {})
                lane.count_earlier(counts.get("ok", 0), counts.get("rejected", 0))
                if (cost := footer.totals.costs.get(lane.model)) and cost.priced:
                    lane.count_earlier_usd(cost.usd)
        return lanes, work.run.results

    def _keep(self) -> None:
        self._layout.write_run(self._work.run)

    def _note(self) -> None:
        """Leave with this start what it has learnt."""
        start = self._work.run.starts[-1]
        if self._client:
            start.surplus_answers = self._client.surplus_answers
        start.unstreamed = sorted(self._unstreamed)

    async def _opened(self, stack: contextlib.AsyncExitStack, concurrency: int) -> Client:
        behaviour = rehearsal_behaviour(self._job)
        url = await stack.enter_async_context(_stand_in(behaviour)) if behaviour else self._job.provider.base_url
        return await stack.enter_async_context(Client(url, self._call.secrets, self._job.timeouts, concurrency))

    def _context(self, client: Client, shards: OpenShards, shutdown: Shutdown) -> LaneContext:
        return LaneContext(
            post=client,
            dataset=self._ready.dataset,
            open_shards=shards,
            shards=[*self._work.shards, *self._work.old],
            shard_rows=self._work.run.shard_rows,
            shutdown=shutdown,
            rules=self._rules(),
            retry_rejected=self._call.options.retry_rejected,
            run_status=self._run_status,
            budget=self._budget(shutdown),
            reusable=self._ready.reusable,
            dedupe=self._job.name if self._job.reuse.dedupe else "",
            unstreamed=self._unstreamed,
            draws=self._draws,
        )

    async def _run_lanes(self, context: LaneContext, most: int, room: int) -> None:
        chosen = self._call.options.models
        lanes = [Lane(number, model, context) for number, model in enumerate(self._work.models)]
        asked = [lane for lane in lanes if not chosen or lane.model.name in chosen]
        others = [lane for lane in lanes if lane not in asked]
        for lane in others:
            lane.status.stop(Idle.NOT_CHOSEN)
        if room < min(most, sum(lane.model.limits.concurrency for lane in asked)):
            most = max(1, room // len(asked))
        await run_lanes(asked, others, most, context.shutdown)

    def _rules(self) -> SendingRules:
        retry, row_s = self._job.retry, self._job.timeouts.row_s
        keep_going = self._call.options.keep_going
        return SendingRules(
            retry.attempts, keep_going, outage_s=retry.outage_s, row_s=row_s or math.inf,
            seen=Seen(self._run_status), has_paths=self._ready.dataset.has_paths,
        )  # fmt: skip

    def _budget(self, shutdown: Shutdown) -> Callable[[str], LaneBudget] | None:
        if self._job.budget == Budget():
            return None
        prices = self._ready.prices
        before = used_so_far(read_view(self._layout, prices, idle=True), prices)
        budget = self._cap = RunBudget(self._job.budget, before, shutdown.stop)
        return lambda model: LaneBudget(budget, model, prices)

    def _blueprint(self) -> ShardSpec:
        work, dataset = self._work, self._ready.dataset
        return ShardSpec(
            schema=part_schema(dataset.carried_schema, self._job.name),
            shard_rows=work.run.shard_rows,
            rows=work.run.rows,
            models=tuple(model.name for model in work.models),
            digest=work.digests.shard,
            columns=work.digests.columns,
            carried=dataset.carried,
            price=self._ready.prices,
            raw=self._job.output.raw,
            origin=Begun(self._job.name, self._job.provider.rehearsal, work.run.shard_rows, 0, 0, CLASSIFIER_VERSION),
            torn=work.torn,
        )


def _stand_in(behaviour: Behaviour) -> Rehearsal:
    from batchmix.rehearsal import Rehearsal

    # Nobody reads its ledger here, and memory is to stay flat.
    return Rehearsal(dataclasses.replace(behaviour, ledger=False))


def _run_loop(work: Coroutine[None, None, None]) -> None:
    # The event loop shares the interpreter's lock with the threads that read and seal, and gives it up at each system
    # call; with the default of 5 ms it would wait that long for it each time, and answers would lie unread.
    sys.setswitchinterval(0.00005)
    # What was imported never becomes garbage: looking through it would stop the loop for tens of milliseconds.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    try:
        import uvloop
    except ImportError:
        asyncio.run(work)
    else:
        uvloop.run(work)
