"""The open shards of a run.

The first lane that reaches a shard opens the shard. After the last lane is done with it, the shard is sealed.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from types import TracebackType

from batchmix.errors import BatchmixError, NoSpace, PartDamaged
from batchmix.records import Key, Status
from batchmix.responses.classify import Classifier
from batchmix.store.filesystem import Reserve
from batchmix.store.first_rows import FirstRows, PartAnswers, first_rows_in
from batchmix.store.ledger import ShardLeftOpen
from batchmix.store.mirror import mirror_of
from batchmix.store.parts import list_parts, part_path
from batchmix.store.result_feed import ResultListener
from batchmix.store.result_rows import ResultRows
from batchmix.store.reuse import ReusedAnswer
from batchmix.store.row_state import CacheMemory
from batchmix.store.run_folder import Layout
from batchmix.store.sealing import ShardSpec, seal_shard
from batchmix.store.shard import JournalSettings, Shard

_logger = logging.getLogger(__name__)
_SYNC_S = 0.04
"""Seconds between syncs of the journals. A power loss costs less than 50 ms of answers."""
_SEALS_BEHIND = 3
"""No new shard is opened while this many shards are waiting to be sealed, which bounds their memory."""
_MAX_CACHED_BYTES, _BYTES_IN_FLIGHT = 16 << 20, 8 << 10
"""Memory for cached answers in bytes, and the part of it that each request in flight takes with its connection.

With these figures the memory benchmark stays below its bound."""
_PACE_S = 0.004
"""The most seconds that the sealing thread waits after each batch, so that the event loop can run.

Without it the speed benchmark's rate falls while shards are sealed. After a batch that took less, the thread waits no
longer than that: batches of long rows are so small that sealing would else take longer than sending."""


class OpenShards:
    """Opens shards, and syncs their journals and seals them in the background.

    It is an async context manager, and leaving it finishes the background work. `lanes` is the number of lanes that
    must be done with a shard before it is sealed. Errors in the background are passed to `on_error`.
    Methods are called on the event loop, except for `answer` and `first_rows`, which any thread may call.
    """

    def __init__(
        self,
        layout: Layout,
        spec: ShardSpec,
        lanes: int,
        on_error: Callable[[Exception], None],
        listener: ResultListener | None = None,
    ) -> None:
        self.damage: list[str] = []
        """Messages about damage in journals."""
        self._on_sealed: Callable[[int], None] | None = None
        self._layout = layout
        self._spec = spec
        self._lanes = lanes
        self._on_error = on_error
        self.listener = listener
        """Is told each result. None if nobody needs them before the end."""
        self._reserve = Reserve(layout.journal)
        self.cache = CacheMemory()
        """The memory for answers that are kept until their shard is sealed."""
        self._settings = JournalSettings(spec.header, layout.mode, self._on_created, self._on_no_space)
        self._journals = layout.journals()
        self._open: dict[int, Shard] = {}
        self._opening = asyncio.Lock()
        self._lanes_done: dict[int, int] = {}
        self._unfinished: set[int] = set()
        self._unopened: dict[tuple[int, bool], Shard] = {}  # the last shard that was read while no lane had it open
        self._reading = threading.Lock()
        self._leaving = threading.Event()
        self._paced_at = 0.0
        self._to_seal: asyncio.Queue[Shard] = asyncio.Queue()
        self._sealed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> OpenShards:
        self._tasks = [asyncio.create_task(self._sync_often()), asyncio.create_task(self._seal_all())]
        return self

    async def __aexit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._leaving.set()
        await self._to_seal.join()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for shard in self._open.values():
            try:
                shard.close()
            except BatchmixError as broken:
                self._on_error(broken)
        self._reserve.release()

    def call_when_sealed(self, on_sealed: Callable[[int], None]) -> None:
        """Call a function with each shard once it is sealed."""
        self._on_sealed = on_sealed

    def reserve(self, in_flight: int) -> None:
        """Reserve disk space, so that the answers to this many requests can be stored on a full disk. Raises `NoSpace`.

        These requests take memory too. The rest of the memory is for answers whose shard is not sealed yet.
        """
        self.cache.resize(max(0, _MAX_CACHED_BYTES - in_flight * _BYTES_IN_FLIGHT))
        self._reserve.hold(max(8 << 20, in_flight * (64 << 10)))

    async def open(self, index: int) -> Shard:
        """Return a shard with its state, and open the shard if no lane has opened it. Raises `PartDamaged`."""
        async with self._opening:
            shard = self._open.get(index)
            if shard is None:
                while self._to_seal.qsize() >= _SEALS_BEHIND:
                    self._sealed.clear()
                    await self._sealed.wait()
                shard = await asyncio.to_thread(self._read, index)
                if shard.part_damage and index not in self._spec.damaged_parts:
                    raise PartDamaged("; ".join(shard.part_damage))
                self.damage.extend(shard.warnings)
                self._open[index] = shard
            return shard

    async def rows_to_tell(self, shard: Shard) -> ResultRows | None:
        """Open a shard for the listener; return the builder of its rows. None if there is no listener."""
        if self.listener is None:
            return None
        await asyncio.to_thread(self.listener.open, shard.index)
        return ResultRows(shard, self._spec.price, raw=False, keep_cached=True)

    def earlier_usd(self, shard: Shard, model: str) -> float | None:
        """Return the cost of the model's answers in a shard when it was opened. None if no answer has a price."""
        part = shard.part_totals.costs.get(model)
        costs = [part.usd] if part and part.priced else []
        amounts = (self._spec.price(model, billed, usage) for billed, usage in shard.earlier_usage.get(model, ()))
        costs += [usd for usd in amounts if usd is not None]
        return sum(costs) if costs else None

    def _read(self, index: int) -> Shard:
        journals = {lane: self._layout.journal_path(index, lane) for lane in range(self._lanes)}
        journals |= self._journals.get(index, {})
        part = part_path(self._layout.data, index)
        classifier = Classifier(self._layout.secrets, self._spec.typed)
        shard = Shard(index, journals, part, classifier=classifier, settings=self._settings)
        shard.close()  # a lane that is stopped meanwhile drops the shard
        return shard

    def _on_created(self, index: int) -> None:
        self._layout.ledger.append(ShardLeftOpen(index), sync=False)

    def _on_no_space(self) -> bool:
        freed = self._reserve.release()
        self._on_error(NoSpace(f"no space left for {self._layout.journal}; make room and start the same command again"))
        return freed

    def lane_is_done(self, index: int, *, unfinished: bool) -> None:
        """Record that a lane is done with a shard. After the last lane, the shard is sealed.

        If a lane leaves the shard `unfinished`, the shard is closed instead, and keeps its journals for another start.
        """
        self._lanes_done[index] = self._lanes_done.get(index, 0) + 1
        if unfinished:
            self._unfinished.add(index)
        if self._lanes_done[index] < self._lanes:
            return
        if index in self._unfinished:
            shard = self._open.pop(index)
            shard.close()
            self.cache.give_back(shard.index)
        else:
            self._to_seal.put_nowait(self._open[index])

    def answer(self, key: Key, hash_: str, parts: PartAnswers) -> ReusedAnswer | None:
        """Return the run's answer to a request, read from the journals or parts. None if there is no answer."""
        index = key[0] // self._spec.shard_rows
        shard = self._open.get(index) or self._read_unopened(index)
        found = shard.answer(key) if shard else None
        if found is not None:
            event, is_kept = found
            return ReusedAnswer(self._spec.header.job, event.exchange(), is_kept) if event.hash == hash_ else None
        answer = parts.answer(part_path(self._layout.data, index), key, hash_)
        return answer and ReusedAnswer(self._spec.header.job, *answer)

    def _read_unopened(self, index: int) -> Shard | None:
        """Return a shard that no lane has open, because none has reached it or because it was left unfinished.

        None if the shard has no journals.
        """
        is_unfinished = index in self._unfinished
        if not is_unfinished and not any(path.exists() for path in self._journals.get(index, {}).values()):
            return None
        with self._reading:
            if (index, is_unfinished) not in self._unopened:
                self._unopened = {}  # first, so that there is never more than one in memory
                self._unopened[index, is_unfinished] = self._read(index)
            return self._unopened[index, is_unfinished]

    def first_rows(self, model: str) -> FirstRows:
        """Return the rows that have answers of a model. This reads all parts and journals."""
        rows = first_rows_in(list_parts(self._layout.data).values(), model)
        for index in list(self._journals):
            shard = self._read_unopened(index)
            for key, state in shard.states.items() if shard else ():
                if key[1] == model and state.status is Status.OK:
                    rows.put(state.hash, key[0], key[2])
        return rows

    async def _sync_often(self) -> None:
        while True:
            await asyncio.sleep(_SYNC_S)
            shards = list(self._open.values())
            try:
                await asyncio.to_thread(_sync_each, shards)
            except (OSError, BatchmixError) as error:
                self._on_error(error)

    async def _seal_all(self) -> None:
        while True:
            shard = await self._to_seal.get()
            try:
                await asyncio.to_thread(self._seal, shard)
                _logger.info("sealed shard %d", shard.index)
                self._forget(shard.index)
                self.cache.give_back(shard.index)
                if self._on_sealed:
                    self._on_sealed(shard.index)
            except Exception as error:  # noqa: BLE001 - it stops the run
                self._on_error(error)
            finally:
                self._to_seal.task_done()
                self._sealed.set()

    def _seal(self, shard: Shard) -> None:
        seal_shard(shard, self._spec, self._layout, self._pace)
        if mirror := mirror_of(self._layout.root):
            # Here, so that not more shards wait for object storage than for their seal.
            mirror.flush(may_wait=lambda: not self._leaving.is_set())

    def _forget(self, index: int) -> None:
        """Leave a sealed shard to its part: what its journals still have are no answers."""
        del self._open[index]
        self._journals.pop(index, None)

    def _pace(self) -> None:
        """Wait so that the event loop can run, unless only sealing is left."""
        self._leaving.wait(min(_PACE_S, time.perf_counter() - self._paced_at))
        self._paced_at = time.perf_counter()


def _sync_each(shards: list[Shard]) -> None:
    for shard in shards:
        shard.sync()
