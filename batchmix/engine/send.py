"""Sends the requests of a start: opens the client and the shards, and runs the lanes on one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import math
import signal
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor

from batchmix.engine.account import used_so_far
from batchmix.engine.answers import typed_of
from batchmix.engine.bottlenecks import bottlenecks_recorded
from batchmix.engine.interpreter import tuned_interpreter
from batchmix.engine.lane import Lane, LaneContext, run_lanes
from batchmix.engine.outcomes import SendingRules
from batchmix.engine.prefixes import PrefixTree
from batchmix.engine.prepare import PreparedRun
from batchmix.engine.rehearsal_setup import rehearsal_behaviour, rehearsal_server
from batchmix.engine.resume import drop_stale
from batchmix.engine.run_status import Idle, LaneStatus, Phase, RunStatus
from batchmix.engine.shutdown import Shutdown, deadline, interrupts
from batchmix.errors import Interrupted
from batchmix.http.client import Client
from batchmix.job import Budget, Model
from batchmix.prices.budget import LaneBudget, RunBudget
from batchmix.records import CLASSIFIER_VERSION, Status
from batchmix.redact import Secrets
from batchmix.store.answer_totals import AnswerTotals
from batchmix.store.events import JournalHeader
from batchmix.store.mirror import mirror_of
from batchmix.store.open_shards import OpenShards
from batchmix.store.result_feed import ResultFeed
from batchmix.store.schema import part_schema
from batchmix.store.sealing import ShardSpec
from batchmix.store.view import read_view

_logger = logging.getLogger(__name__)


def send(prepared: PreparedRun, run_status: RunStatus, began: float) -> None:
    """Send all requests without an answer, and seal the shards that are finished.

    `began` is the monotonic time at which the start began. Raises `Stopped` or `Interrupted` if the run ends early; the
    answers so far are kept.
    """
    prepared.layout.make_folders()
    prepared.dataset.drop_stale_spools()
    drop_stale(prepared.layout, prepared.work.stale)
    if prepared.options.parts_to:
        prepared.options.parts_to.begin(
            len(prepared.dataset.scan.shards), [*prepared.work.shards, *prepared.work.outdated_shards]
        )
    if prepared.work.shards or prepared.work.outdated_shards or prepared.options.results:
        _run_loop(_Sending(prepared, run_status, began).run())


class _Sending:
    """Sends the requests of one start, and updates the start's entry in `run.json` meanwhile."""

    def __init__(self, prepared: PreparedRun, run_status: RunStatus, began: float) -> None:
        self._prepared = prepared
        self._job = prepared.job
        self._work = prepared.work
        self._start = prepared.work.run.starts[-1]
        self._run_status = run_status
        self._began = began
        self._unstreamed = {model for start in prepared.work.run.starts for model in start.unstreamed}
        self._budget: RunBudget | None = None
        self._client: Client | None = None
        self._mirror = mirror_of(prepared.layout.root)

    async def run(self) -> None:
        # One thread seals while the other reads and syncs. More threads would only take more memory.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))
        run_status, work, models = self._run_status, self._work, self._prepared.dataset.models
        shutdown = Shutdown(self._job.timeouts.drain_s)
        run_status.begin(*self._lanes_before())
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(interrupts(shutdown, self._prepared.options.stop_request, run_status))
            stack.enter_context(deadline(self._job.timeouts, self._began, shutdown, run_status))
            await stack.enter_async_context(
                bottlenecks_recorded(run_status, self._start, self._update_start, self._write_run)
            )
            concurrency = sum(model.limits.concurrency for model in models)
            results_left = run_status.results - run_status.ok - run_status.rejected
            client = self._client = await self._open_client(stack, min(concurrency, max(1, results_left)))
            stack.callback(self._update_start)
            spec = self._shard_spec()
            feed = self._feed(spec)
            shards = OpenShards(self._prepared.layout, spec, len(models), shutdown.stop, feed)
            if self._prepared.options.parts_to:
                shards.call_when_sealed(self._prepared.options.parts_to.seal)
            await stack.enter_async_context(shards)
            if feed:
                await stack.enter_async_context(_repeating(feed.repeat(self._sealed_shards(), spec.typed), shutdown))
            shards.reserve(min(concurrency, results_left))
            if self._mirror:
                stack.enter_context(self._mirror.lock.telling(_on_loop(shutdown.stop)))
                await asyncio.to_thread(self._mirror.flush)  # so that the start is known there before anything is sent
            run_status.enter(Phase.SENDING)
            _logger.info("%d of %d shards have work left", len(work.shards), len(self._prepared.dataset.scan.shards))
            await self._run_lanes(self._context(client, shards, shutdown, feed), results_left, client.max_connections)
            run_status.enter(Phase.SEALING)
        if self._budget is not None:
            self._start.spend(self._budget.spent)
        run_status.warn(shards.damage)
        if shutdown.reason:
            raise shutdown.reason

    def _lanes_before(self) -> tuple[list[LaneStatus], int]:
        """Return the initial status of each lane, and the number of results that the run will have."""
        work, samples = self._work, self._job.samples
        of_each = work.run.rows * samples if self._job.models else 0  # without models in the job, the rows name them
        drawn = {model: samples * len(canary.rows) for model, canary in self._prepared.canary.items()}
        lanes = [
            LaneStatus(
                model.name,
                results=drawn.get(model.name, 0) if self._prepared.canary else of_each,
                checked=AnswerTotals() if self._job.answer else None,
                usd_of=self._prepared.prices.usd_of_sums(model.name),
            )
            for model in self._prepared.dataset.models
        ]
        if self._prepared.canary:
            return lanes, sum(drawn.values())
        for footer in work.done:
            if footer.shard in work.outdated_shards:
                continue  # its rows are counted when the lanes read them again
            for lane in lanes:
                counts = footer.totals.models.get(lane.model, {})
                checked = (footer.totals.answers or {}).get(lane.model)
                lane.count_earlier(counts.get(Status.OK, 0), counts.get(Status.REJECTED, 0), checked)
                if (cost := footer.totals.costs.get(lane.model)) and cost.priced:
                    lane.count_earlier_usd(cost.usd)
        return lanes, work.run.results

    def _write_run(self) -> None:
        self._prepared.layout.write_run(self._work.run)

    def _update_start(self) -> None:
        """Update the start's entry: the number of surplus answers, and the models for which streaming is off."""
        self._start.learn(self._unstreamed, self._client.surplus_answers if self._client else 0)

    async def _open_client(self, stack: contextlib.AsyncExitStack, concurrency: int) -> Client:
        behaviour = rehearsal_behaviour(self._job)
        url = await stack.enter_async_context(rehearsal_server(behaviour)) if behaviour else self._job.provider.base_url
        return await stack.enter_async_context(
            Client(
                url, self._prepared.layout.secrets or Secrets(), self._job.timeouts, concurrency,
                check=self._mirror.lock.check if self._mirror else None,
            )
        )  # fmt: skip

    def _feed(self, spec: ShardSpec) -> ResultFeed | None:
        queue, layout = self._prepared.options.results, self._prepared.layout
        return ResultFeed(queue, layout, spec.schema, spec.carried, spec.shard_rows) if queue else None

    def _sealed_shards(self) -> list[int]:
        """Return the shards in which nothing is left to do. The lanes do not read them."""
        return [footer.shard for footer in self._work.done if footer.shard not in self._work.outdated_shards]

    def _context(self, client: Client, shards: OpenShards, shutdown: Shutdown, feed: ResultFeed | None) -> LaneContext:
        self._budget = self._open_budget(shutdown)
        return LaneContext(
            prepared=self._prepared,
            client=client,
            open_shards=shards,
            shutdown=shutdown,
            run_status=self._run_status,
            rules_of=self._rules_of(),
            feed=feed,
        )

    async def _run_lanes(self, context: LaneContext, max_in_flight: int, max_connections: int) -> None:
        chosen = self._prepared.options.models
        lanes = [Lane(number, model, context) for number, model in enumerate(self._prepared.dataset.models)]
        sending = [lane for lane in lanes if not chosen or lane.model.name in chosen]
        others = [lane for lane in lanes if lane not in sending]
        for lane in others:
            lane.status.stop(Idle.NOT_CHOSEN)
        if max_connections < min(max_in_flight, sum(lane.model.limits.concurrency for lane in sending)):
            max_in_flight = max(1, max_connections // len(sending))
        await run_lanes(sending, others, max_in_flight, context.shutdown)

    def _rules_of(self) -> Callable[[Model], SendingRules]:
        """Return a function that returns the sending rules for a model."""
        retry, row_s, cache = self._job.retry, self._job.timeouts.row_s, self._job.cache
        dataset, budget, prices = self._prepared.dataset, self._budget, self._prepared.prices
        mirror = self._mirror

        def rules_of(model: Model) -> SendingRules:
            return SendingRules(
                retry.attempts, model.limits, outage_s=retry.outage_s, row_s=row_s or math.inf,
                keep_going=self._prepared.options.keep_going,
                run_status=self._run_status, has_paths=dataset.has_paths,
                unstreamed=model.name in self._unstreamed,
                on_unstreamed=functools.partial(self._unstreamed.add, model.name),
                place=lambda request, parameter: dataset.place_of(request, model, parameter),
                budget=LaneBudget(budget, model.name, prices) if budget else None,
                prefixes=PrefixTree(model.id, is_marked=cache.mark is not None, lanes=len(dataset.models)),
                cache=cache,
                may_send=mirror.may_send if mirror else None,
            )  # fmt: skip

        return rules_of

    def _open_budget(self, shutdown: Shutdown) -> RunBudget | None:
        """Return the run's budget, of which earlier starts have spent a part. None if the job sets no budget."""
        if self._job.budget == Budget():
            return None
        prices = self._prepared.prices
        used = used_so_far(read_view(self._prepared.layout, prices, self._work.run), prices)
        return RunBudget(self._job.budget, used, shutdown.stop, self._prepared.options.purse)

    def _shard_spec(self) -> ShardSpec:
        work, dataset, job = self._work, self._prepared.dataset, self._job
        typed = typed_of(job)
        return ShardSpec(
            schema=part_schema(dataset.carried_schema, self._prepared.layout.identity(work.run), typed),
            shard_rows=work.run.shard_rows,
            rows=work.run.rows,
            models=tuple(model.name for model in dataset.models),
            digest=work.digests.shard,
            columns=work.digests.columns,
            carried=dataset.carried,
            price=self._prepared.prices,
            raw=job.output.raw,
            header=JournalHeader(job.name, job.provider.rehearsal, work.run.shard_rows, 0, 0, CLASSIFIER_VERSION),
            damaged_parts=work.damaged_parts,
            typed=typed,
        )


def _on_loop(stop: Callable[[BaseException], None]) -> Callable[[BaseException], None]:
    """Return a function that any thread may call, and that calls `stop` on the running event loop."""
    loop = asyncio.get_running_loop()

    def told(error: BaseException) -> None:
        loop.call_soon_threadsafe(stop, error)

    return told


@contextlib.asynccontextmanager
async def _repeating(repeat: Coroutine[None, None, None], shutdown: Shutdown) -> AsyncIterator[None]:
    """Pass on the results of sealed shards beside the block, and after it, until the run is stopped."""
    task = asyncio.create_task(shutdown.guarded(repeat))
    stopping = asyncio.create_task(shutdown.stopping.wait())
    try:
        yield
        await asyncio.wait([task, stopping], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in (task, stopping):
            each.cancel()
        await asyncio.gather(task, stopping, return_exceptions=True)


def _run_loop(work: Coroutine[None, None, None]) -> None:
    try:
        import uvloop
    except ImportError:
        run = asyncio.run
    else:
        run = uvloop.run
    with tuned_interpreter():
        try:
            run(work)
        except RuntimeError as error:
            if threading.main_thread().is_alive():
                raise
            # Python starts no thread any more. What was in flight has returned.
            raise Interrupted(
                "the program's main thread has ended, and then Python stops work in other threads; let it wait for the"
                " thread that runs the job", signal.SIGTERM,
            ) from error  # fmt: skip
