"""Hands each result of a run to the caller once it is in the journal, and not faster than the caller takes them."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import datetime
import threading
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import pyarrow as pa

from batchmix.answers.typed import TypedAnswers
from batchmix.errors import PartDamaged
from batchmix.formats.arrow_values import row_values
from batchmix.records import Status
from batchmix.store.parts import part_path, row_groups
from batchmix.store.result_columns import COLUMNS
from batchmix.store.row_slots import ANSWER_AT, ResultRow, named
from batchmix.store.run_folder import Layout
from batchmix.store.schema import ANSWERED, carried_names, columns_of

_MAX_WAITING = 1000
"""No more rows are sent while this many results wait for the caller. It bounds their memory, and what is paid for if
the caller never takes them."""
_BATCH_ROWS = 256
"""The number of rows of a part that are converted at a time."""
_TIMES = ("sent_at", "finished_at")
_OWN = frozenset(column.name for column in COLUMNS if not column.of_run)


class ResultQueue:
    """Passes results from a run's event loop to the caller's. Each result is a dictionary: the result columns without
    `raw` and those of the run, `answer` with the JSON value of a typed answer, and `input` with the carried columns.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # the garbage collector may drop the consumer, and so call `close`, at any point
        self._results: collections.deque[dict[str, Any]] = collections.deque()
        self._is_over = False
        self._wake_producers: list[Callable[[], None]] = []
        self._wake_consumer: Callable[[], None] | None = None

    def put(self, result: dict[str, Any]) -> None:
        """Add a result. After `close` it is dropped, since nobody takes it."""
        with self._lock:
            if not self._is_over:
                self._results.append(result)
            self._wake()

    async def wait_for_room(self) -> None:
        """Wait until few enough results wait. At once after `close`."""
        while True:
            with self._lock:
                if len(self._results) < _MAX_WAITING or self._is_over:
                    return
                event = _ThreadsafeEvent()
                self._wake_producers.append(event.set)
            await event.wait()

    def close(self) -> None:
        """End the queue: the caller gets the results that are in it, and no more. Callable from any thread."""
        with self._lock:
            self._is_over = True
            self._wake()
            self._let_producers_go()

    async def get(self) -> dict[str, Any] | None:
        """Return the next result. None at the end."""
        while True:
            with self._lock:
                if self._results:
                    result = self._results.popleft()
                    if len(self._results) <= _MAX_WAITING // 2:
                        self._let_producers_go()
                    return result
                if self._is_over:
                    return None
                event = _ThreadsafeEvent()
                self._wake_consumer = event.set
            await event.wait()

    def _wake(self) -> None:
        wake, self._wake_consumer = self._wake_consumer, None
        if wake:
            wake()

    def _let_producers_go(self) -> None:
        while self._wake_producers:
            self._wake_producers.pop()()


class _ThreadsafeEvent:
    """An event of the running event loop that other threads may set."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()
        self.wait = self._event.wait

    def set(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._event.set)


class ResultListener(Protocol):
    """Is told each result as soon as it is in the journal, also the results that open shards have already."""

    def open(self, index: int) -> None:
        """Prepare for a lane's results of a shard. Called in a thread."""

    def finished(self, row: ResultRow) -> None:
        """Take a result. Called on the event loop."""

    def close(self, index: int) -> None:
        """Forget a shard, of which this lane has no more results."""


class ResultFeed:
    """Puts the results of a run into a queue, joined with the carried columns. It is a `ResultListener`."""

    def __init__(
        self,
        queue: ResultQueue,
        layout: Layout,
        schema: pa.Schema,
        carried: Callable[[int], Iterator[pa.RecordBatch]],
        shard_rows: int,
    ) -> None:
        self._queue = queue
        self._layout = layout
        self._carried_names = carried_names(schema)
        read = {*_OWN, *self._carried_names} - {"raw"}
        self._schema = pa.schema([field for field in schema if field.name in read])
        self._names = frozenset(self._schema.names)
        self._carried = carried
        self._shard_rows = shard_rows
        self._lock = threading.Lock()
        self._lanes: collections.Counter[int] = collections.Counter()
        """The number of lanes that are in each shard."""
        self._inputs: dict[int, list[dict[str, Any]]] = {}
        """The carried values of each row of the shards that lanes are in."""

    def open(self, index: int) -> None:
        """Read the carried columns of a shard, unless another lane is in it."""
        with self._lock:
            self._lanes[index] += 1
            if index in self._inputs:
                return
        self._inputs[index] = [row for batch in self._carried(index) for row in row_values(batch)]

    def finished(self, row: ResultRow) -> None:
        """Pass on a result."""
        values = {name: value for name, value in named(row).items() if name in self._names}
        index, position = divmod(values["row"], self._shard_rows)
        carried = self._inputs[index][position]
        values["answer"] = row[ANSWER_AT]
        values["status"] = Status(values["status"]).value
        for name in _TIMES:
            if (ms := values[name]) is not None:
                values[name] = _moment(ms)
        own = {"custom_id": carried["custom_id"]}
        self._queue.put(values | own | {"input": {name: carried[name] for name in carried if name not in own}})

    def close(self, index: int) -> None:
        """Forget the carried columns of a shard, unless another lane is in it."""
        with self._lock:
            self._lanes[index] -= 1
            if not self._lanes[index]:
                del self._lanes[index]
                self._inputs.pop(index, None)

    async def wait_for_room(self) -> None:
        """Wait until the caller has taken enough results."""
        await self._queue.wait_for_room()

    async def repeat(self, shards: list[int], typed: TypedAnswers | None) -> None:
        """Pass on the results of sealed shards in which nothing is left to do. `typed` is None if answers are any text.

        Raises `PartDamaged`, once it has passed on all results that can be read.
        """
        damage: list[str] = []
        for index in shards:
            batches = self._batches(index, damage, typed)
            while (results := await asyncio.to_thread(next, batches, None)) is not None:
                for result in results:
                    self._queue.put(result)
                await self._queue.wait_for_room()
        if damage:
            raise PartDamaged("; ".join(damage))

    def _batches(self, index: int, damage: list[str], typed: TypedAnswers | None) -> Iterator[list[dict[str, Any]]]:
        for group in row_groups(part_path(self._layout.data, index), self._schema.names, damage):
            for batch in group.to_batches(_BATCH_ROWS):
                columns = columns_of(batch, self._schema)
                found = pa.RecordBatch.from_arrays(columns, schema=self._schema)
                yield result_values(found, self._carried_names, typed)


def result_values(batch: pa.RecordBatch, carried: list[str], typed: TypedAnswers | None) -> list[dict[str, Any]]:
    """Return the results in a batch of a run's output, as a `ResultQueue` has them.

    `carried` are the names of the carried columns. `typed` is None if answers are any text.
    """
    columns = {
        name: _python_values(batch.column(name))
        for name in batch.schema.names
        if name in _OWN and name not in carried  # a carried column may have the name of one for typed answers
    }
    if typed:
        columns["answer"] = typed.values(*(columns[name] for name in ANSWERED))
    rows = zip(zip(*columns.values(), strict=True), row_values(batch.select(carried)), strict=True)
    return [dict(zip(columns, row, strict=True)) | {"input": inputs} for row, inputs in rows]


def _python_values(column: pa.Array) -> list[Any]:
    if not pa.types.is_timestamp(column.type):
        plain: list[Any] = column.to_pylist()
        return plain
    # Not with to_pylist, for which pyarrow imports pandas.
    return [None if ms is None else _moment(ms) for ms in column.cast(pa.int64()).to_pylist()]


def _moment(ms: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(ms / 1000, datetime.UTC)
