"""The shards that a run has open: opened when the first lane gets there, sealed when the last one is through."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from types import TracebackType

import msgspec
import pyarrow as pa

from batchmix.errors import BatchmixError, NoSpace, PartDamaged
from batchmix.records import Exchange, Key
from batchmix.store.events import JournalHeader
from batchmix.store.first_rows import Firsts, PartAnswers, firsts_in
from batchmix.store.ledger import ShardLeftOpen, ShardSealed
from batchmix.store.parts import Sealing, list_parts, part_path, seal_part
from batchmix.store.reserve import Reserve
from batchmix.store.result_rows import Price, ResultRows, by_row
from batchmix.store.row_state import CacheBudget
from batchmix.store.run_folder import Layout
from batchmix.store.schema import PartFooter, Seal
from batchmix.store.shard import JournalSettings, Shard

_logger = logging.getLogger(__name__)
_SYNC_S = 0.04
"""How often journals are brought to the disk: a power loss costs less than 50 ms of answers."""
_SEALS_BEHIND = 3
"""So many shards may wait to be sealed before no new one is opened."""
_MOST_BYTES, _BYTES_IN_FLIGHT = 16 << 20, 8 << 10
"""Memory for answers, and what of it each request in flight takes, with its connection."""
_PACE_S = 0.004
"""How long the sealing thread lets the event loop have Python for itself after each millisecond or so of work."""


class ShardSpec(msgspec.Struct, frozen=True):
    """What sealing must know of the run."""

    schema: pa.Schema
    shard_rows: int
    rows: int
    models: tuple[str, ...]
    digest: Callable[[int], str]
    """Of a shard: its input bytes and the request-making part of the job."""
    columns: str
    carried: Callable[[int], Iterator[pa.RecordBatch]]
    """The carried columns of a shard, one record per input row; raises `InputChanged`."""
    price: Price
    raw: bool
    header: JournalHeader
    """What journals say of themselves, but for their shard and lane; parts say the same."""
    torn: frozenset[int]
    """Shards whose parts are known not to be whole: what can be read of them is kept, the rest is asked again."""


class OpenShards:
    """An async context: journals are synced and shards sealed while it is open; leaving it finishes both.

    `lanes` is the number of lanes that must be through with a shard before it is sealed. What goes wrong in the
    background is given to `on_error`.
    """

    def __init__(self, layout: Layout, blueprint: ShardSpec, lanes: int, on_error: Callable[[Exception], None]) -> None:
        self.damage: list[str] = []
        """Damage found in journals, in words."""
        self._layout = layout
        self._blueprint = blueprint
        self._lanes = lanes
        self._on_error = on_error
        self._reserve = Reserve(layout.journal)
        self.cache = CacheBudget()
        self._settings = JournalSettings(blueprint.header, layout.mode, self._on_created, self._on_no_space)
        self._journals = layout.journals()
        self._open: dict[int, Shard] = {}
        self._opening = asyncio.Lock()
        self._through: dict[int, int] = {}
        self._unfinished: set[int] = set()
        self._unsealed: dict[tuple[int, bool], Shard] = {}  # the one that was last read beside its lanes
        self._reading = threading.Lock()
        self._hurry = threading.Event()
        self._full: asyncio.Queue[Shard] = asyncio.Queue()
        self._sealed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> OpenShards:
        self._tasks = [asyncio.create_task(self._sync_often()), asyncio.create_task(self._seal_all())]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._hurry.set()
        await self._full.join()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for shard in self._open.values():
            try:
                shard.close()
            except BatchmixError as broken:
                self._on_error(broken)
        self._reserve.release()

    def hold(self, in_flight: int) -> None:
        """Reserve disk space so that this many answers can be kept on a full disk. Raises `NoSpace`.

        They need memory, too, and what they leave of it is for answers that wait for their shard to be sealed.
        """
        self.cache.resize(max(0, _MOST_BYTES - in_flight * _BYTES_IN_FLIGHT))
        self._reserve.hold(max(8 << 20, in_flight * (64 << 10)))

    async def open(self, index: int) -> Shard:
        """Return a shard, with all that is known of it."""
        async with self._opening:
            shard = self._open.get(index)
            if shard is None:
                while self._full.qsize() >= _SEALS_BEHIND:
                    self._sealed.clear()
                    await self._sealed.wait()
                shard = await asyncio.to_thread(self._read, index)
                if shard.part_damage and index not in self._blueprint.torn:
                    shard.close()
                    raise PartDamaged("; ".join(shard.part_damage))
                self.damage.extend(shard.warnings)
                self._open[index] = shard
            return shard

    def paid_before(self, shard: Shard, model: str) -> float | None:
        """Return what the answers of a model cost that a shard had when it was opened; None: none has a price."""
        part = shard.part_totals.costs.get(model)
        costs = [part.usd] if part and part.priced else []
        found = (self._blueprint.price(model, billed, usage) for billed, usage in shard.earlier_usage.get(model, ()))
        costs += [usd for usd in found if usd is not None]
        return sum(costs) if costs else None

    def _read(self, index: int) -> Shard:
        journals = {lane: self._layout.journal_path(index, lane) for lane in range(self._lanes)}
        journals |= self._journals.get(index, {})
        part = part_path(self._layout.data, index)
        return Shard(index, journals, part, secrets=self._layout.secrets, settings=self._settings)

    def _on_created(self, index: int) -> None:
        self._layout.ledger.append(ShardLeftOpen(index), sync=False)

    def _on_no_space(self) -> bool:
        freed = self._reserve.release()
        self._on_error(NoSpace(f"no space left for {self._layout.journal}; make room and start the same command again"))
        return freed

    def lane_is_done(self, index: int, *, unfinished: bool) -> None:
        """Take note that one lane needs nothing more of a shard; with the last one it is sealed.

        Where a lane leaves it `unfinished` it stays in its journals, for another start.
        """
        self._through[index] = self._through.get(index, 0) + 1
        if unfinished:
            self._unfinished.add(index)
        if self._through[index] < self._lanes:
            return
        if index in self._unfinished:
            shard = self._open.pop(index)
            shard.close()
            self.cache.give_back(shard.index)
        else:
            self._full.put_nowait(self._open[index])

    def answer(self, key: Key, hash_: str, parts: PartAnswers) -> Exchange | None:
        """Return the answer that the run has to a request, or None; reads files, and may be called from any thread."""
        index = key[0] // self._blueprint.shard_rows
        shard = self._open.get(index) or self._beside_lanes(index)
        event = shard.answer(key) if shard else None
        if event is not None:
            return event.exchange() if event.hash == hash_ else None
        return parts.answer(part_path(self._layout.data, index), key, hash_)

    def _beside_lanes(self, index: int) -> Shard | None:
        """Return a shard that has journals, but that no lane has open: not yet, or no more in this start."""
        left = index in self._unfinished
        if not left and not any(path.exists() for path in self._journals.get(index, {}).values()):
            return None
        with self._reading:
            if (index, left) not in self._unsealed:
                self._unsealed = {}  # before another is read, so that there is never more than one
                shard = self._unsealed[index, left] = self._read(index)
                shard.close()
            return self._unsealed[index, left]

    def firsts(self, model: str) -> Firsts:
        """Return the rows in which a model's answers stand, in sealed parts and in journals; reads them all."""
        found = firsts_in(list_parts(self._layout.data).values(), model)
        for index in self._journals:
            shard = self._beside_lanes(index)
            for key, state in shard.states.items() if shard else ():
                if key[1] == model and state.status == "ok":
                    found.put(state.hash, key[0], key[2])
        return found

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
            shard = await self._full.get()
            try:
                await asyncio.to_thread(self._seal, shard)
                _logger.info("sealed shard %d", shard.index)
                del self._open[shard.index]
                self.cache.give_back(shard.index)
            except Exception as error:  # noqa: BLE001 - it stops the run
                self._on_error(error)
            finally:
                self._full.task_done()
                self._sealed.set()

    def _pace(self) -> None:
        """Leave Python to the event loop for a while, unless that is all there is left to do."""
        self._hurry.wait(_PACE_S)

    def _seal(self, shard: Shard) -> None:
        plan = self._blueprint
        first = shard.index * plan.shard_rows
        results = ResultRows(shard, plan.price, raw=plan.raw)
        wanted = [key for key, state in shard.states.items() if state.wanted]
        batches = results.batches(plan.schema, plan.carried(shard.index), first, by_row(wanted, plan.models))
        seal_part(
            part_path(self._layout.data, shard.index),
            self._layout.journal,
            plan.schema,
            batches,
            Sealing(self._pace, lambda: self._footer(shard.index, results), self._note, self._layout.file_mode),
        )
        shard.remove_journals()

    def _footer(self, index: int, results: ResultRows) -> PartFooter:
        plan = self._blueprint
        first = index * plan.shard_rows
        stop = min(first + plan.shard_rows, plan.rows)
        header = plan.header
        return PartFooter(
            index,
            first,
            stop,
            plan.digest(index),
            plan.columns,
            results.totals,
            rehearsal=header.rehearsal,
            shard_rows=header.shard_rows,
        )

    def _note(self, footer: PartFooter, seal: Seal) -> None:
        self._layout.ledger.append(ShardSealed.of(footer, seal))


def _sync_each(shards: list[Shard]) -> None:
    for shard in shards:
        shard.sync()
