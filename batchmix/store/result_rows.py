"""Builds the result rows of a shard from its state. No other module fills the result columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
from msgspec.structs import astuple

from batchmix.formats.arrow_build import MakeArray, array_maker
from batchmix.records import Completion, Key, Status, Usage
from batchmix.store.events import Event, ResponseReceived, RowFailed
from batchmix.store.parts import row_groups
from batchmix.store.result_columns import COLUMNS, check_columns
from batchmix.store.row_state import RowState
from batchmix.store.schema import columns_of
from batchmix.store.shard import Shard
from batchmix.store.totals import Totals

Price = Callable[[str, str | None, Usage], float | None]
"""A function that returns the cost of an answer in USD, or None if the price is unknown.

It takes a model's name in the job, the billed model (None if unreported), and the answer's usage.
"""

SLICE_ROWS = 256
"""The number of rows per batch. The event loop waits while a column is built, which takes less than 0.1 ms at this
size.
"""
_COLUMNS = [column for column in COLUMNS if column.name != "custom_id"]
_KEY = ("row", "model", "sample")


class _Own(msgspec.Struct, kw_only=True, gc=False):
    """The values of the columns without a source, except the key, in a row with an answer or with a failure."""

    status: Status
    cost_usd: float | None
    attempts: int
    maybe_billed: int
    reused_from: str | None
    latency_s: float | None
    sent_at: int | None
    finished_at: int | None
    http_status: int | None
    error_type: str | None
    error_code: str | None
    error_message: str | None
    request_id: str | None
    request_hash: str
    raw: str | None


_SLOTS = [
    *((None, name) for name in (*_KEY, *_Own.__struct_fields__)),
    *((source, name) for source in (Completion, Usage) for name in source.__struct_fields__),
]
"""The positions of a `ResultRow`: the source and the attribute of each."""
check_columns(_COLUMNS, _SLOTS)
_POSITIONS = {column.name: _SLOTS.index((column.source, column.name)) for column in _COLUMNS}
_TYPES = {column.name: column.type for column in _COLUMNS}
_NO_ANSWER = (None,) * sum(source is not None for source, _ in _SLOTS)
_PLAIN = pa.schema((name, pa.int64() if pa.types.is_timestamp(type_) else type_) for name, type_ in _TYPES.items())
"""The columns of a `ResultRow`, with times as numbers."""

ResultRow = tuple[Any, ...]
"""The values of a result row without the carried columns.

First comes the key, then the other columns without a source, then all attributes of the answer and of its usage.
Copying all of them takes less time than reading those that have a column.
"""


class ResultRows:
    """Builds the result rows of one shard.

    Rows without new events in the journals are copied from the old part. `totals` covers all batches built so far. With
    `keep_cached`, answers that are cached for the sealing of the shard stay cached.
    """

    def __init__(self, shard: Shard, price: Price, *, raw: bool, keep_cached: bool = False) -> None:
        self.totals = Totals()
        self._add_usage_beside_rows(shard, price)
        self._shard = shard
        self._part_rows = _PartRows(shard.part)
        self._price = price
        self._raw = raw
        self._keep_cached = keep_cached
        self._array = array_maker()

    def _add_usage_beside_rows(self, shard: Shard, price: Price) -> None:
        """Add the usage that no result row contains, such as that of billed attempts without an answer.

        This usage comes from the totals of the old part and from the journals.
        """
        for model, cost in shard.part_totals.costs.items():
            self.totals.cost(model).add(cost.beside_rows)
        for (_, model, _), state in shard.states.items():
            if state.billed_failures or state.unreported.answers or state.maybe_billed:
                cost = self.totals.cost(model)
                cost.add_estimates(state.unreported, state.lost_tokens)
                for billed, usage in state.billed_failures:
                    cost.add_retry(price(model, billed, usage), usage)

    def batches(
        self, schema: pa.Schema, carried: Iterator[pa.RecordBatch], first: int, keys: dict[int, list[Key]]
    ) -> Iterator[pa.RecordBatch]:
        """Yield result rows in small batches, joined with the carried columns.

        `keys` lists the keys of each input row in the order of their results. `carried` yields one record per input
        row, beginning with the row `first`.
        """
        for block in carried:
            for start in range(0, block.num_rows, SLICE_ROWS):
                piece = block.slice(start, SLICE_ROWS)
                keys_of_rows = [keys.get(row, ()) for row in range(first, first + piece.num_rows)]
                columns = _by_column([self.row(key) for same_row in keys_of_rows for key in same_row])
                self.totals.add_columns(columns)
                first += piece.num_rows
                if set(map(len, keys_of_rows)) != {1}:
                    picked = [i for i, same_row in enumerate(keys_of_rows) for _ in same_row]
                    piece = piece.take(self._array(picked, pa.int64()))
                yield _batch(schema, piece, columns, self._array)

    def row(self, key: Key) -> ResultRow:
        """Return the result row of a key, which must have a result. Keys must be passed in input order."""
        state = self._shard.states[key]
        if cached := state.cached if self._keep_cached else state.take_cached():
            return self._answer(key, state, *cached)
        if state.result is None:
            return _updated(self._part_rows.row(key), state)
        event = self._shard.event(state.result)
        if isinstance(event, ResponseReceived):
            return self._reclassified(key, state, event)
        last = self._shard.event(state.last_response) if state.last_response else None
        return self._failure(key, state, event, last)

    def _reclassified(self, key: Key, state: RowState, event: ResponseReceived) -> ResultRow:
        """Return the row of a response that was an answer when it was recorded.

        The row is a failed one if this version does not accept the response as an answer.
        """
        outcome = self._shard.outcome(event)
        if isinstance(outcome, Completion):
            return self._answer(key, state, event, outcome)
        reason = (outcome.type, outcome.message, outcome.code)
        return self._failure(key, state, RowFailed(*key, state.attempts, event.hash, Status.FAILED, *reason), event)

    def _answer(self, key: Key, state: RowState, event: ResponseReceived, answer: Completion) -> ResultRow:
        usage = answer.usage
        own = _Own(
            status=Status.OK,
            cost_usd=0.0 if event.reused_from else self._price(key[1], event.served_model, usage),
            attempts=state.attempts,
            maybe_billed=state.maybe_billed,
            reused_from=event.reused_from,
            latency_s=event.latency,
            sent_at=event.at,
            finished_at=event.done,
            http_status=event.status,
            error_type=None,
            error_code=None,
            error_message=None,
            request_id=event.request_id,
            request_hash=event.hash,
            raw=(_text(event) if event.base64 else event.body) if self._raw else None,
        )
        return key + astuple(own) + astuple(answer) + astuple(usage)

    def _failure(self, key: Key, state: RowState, event: Event, last: Event | None) -> ResultRow:
        if not isinstance(event, RowFailed):
            raise TypeError(f"row {key[0]}: a journal line has changed")
        response = last if isinstance(last, ResponseReceived) and last.hash == event.hash else None
        raw = None
        if response and self._raw and response.body:
            raw = _text(response) if response.base64 else response.body
        own = _Own(
            status=event.status,
            cost_usd=None,
            attempts=state.attempts,
            maybe_billed=state.maybe_billed,
            reused_from=None,
            latency_s=response.latency if response else None,
            sent_at=response.at if response else None,
            finished_at=response.done if response else None,
            http_status=response.status if response else None,
            error_type=event.type,
            error_code=event.code,
            error_message=event.message,
            request_id=response.request_id if response else None,
            request_hash=event.hash,
            raw=raw,
        )
        return key + astuple(own) + _NO_ANSWER


def _text(event: ResponseReceived) -> str:
    return event.exchange().body.decode("utf-8", "replace")


def _updated(row: ResultRow, state: RowState) -> ResultRow:
    """Return a row of the old part with its current counts of attempts."""
    values = list(row)
    values[_POSITIONS["attempts"]] = state.attempts
    values[_POSITIONS["maybe_billed"]] = state.maybe_billed
    return tuple(values)


def by_row(keys: Iterable[Key], models: Sequence[str]) -> dict[int, list[Key]]:
    """Group keys by input row, each group in the order of models and samples. Keys of other models are left out."""
    order = {model: position for position, model in enumerate(models)}
    groups: dict[int, list[Key]] = {}
    for key in keys:
        if key[1] in order:
            groups.setdefault(key[0], []).append(key)
    for same_row in groups.values():
        if len(same_row) > 1:
            same_row.sort(key=lambda key: (order[key[1]], key[2]))
    return groups


def named(row: ResultRow) -> dict[str, Any]:
    """Return a result row's values by column name."""
    return {name: row[position] for name, position in _POSITIONS.items()}


def finished_since(rows: list[ResultRow], ms: int) -> Counter[str]:
    """Return how many rows of each model finished at `ms` or later, in milliseconds of Unix time."""
    return Counter(row[_POSITIONS["model"]] for row in rows if (row[_POSITIONS["finished_at"]] or 0) >= ms)


def add_rows(totals: Totals, rows: list[ResultRow]) -> None:
    """Add result rows to totals."""
    if rows:
        totals.add_columns(_by_column(rows))


def _by_column(rows: list[ResultRow]) -> dict[str, tuple[Any, ...]]:
    slots = list(zip(*rows, strict=True)) or [()] * len(_SLOTS)
    return {name: slots[position] for name, position in _POSITIONS.items()}


def _batch(
    schema: pa.Schema, carried: pa.RecordBatch, columns: dict[str, tuple[Any, ...]], make: MakeArray
) -> pa.RecordBatch:
    arrays = dict(zip(carried.schema.names, carried.columns, strict=True))
    arrays |= {name: _array(values, _TYPES[name], make) for name, values in columns.items()}
    return pa.RecordBatch.from_arrays([arrays[name] for name in schema.names], schema=schema)


def _array(values: tuple[Any, ...], type_: pa.DataType, make: MakeArray) -> pa.Array:
    # A third of the columns are all null. This builds them much faster.
    if values and values[0] is None and values.count(None) == len(values):
        return pa.nulls(len(values), type_)
    return make(values, type_)


class _PartRows:
    """Reads the rows of an old part. Rows must be read in input order, so that only few are kept in memory."""

    def __init__(self, part: Path | None) -> None:
        self._rows: dict[Key, ResultRow] = {}
        self._ahead = _read_part_rows(part) if part else iter(())
        self._last = -1

    def row(self, key: Key) -> ResultRow:
        if key[0] > self._last:
            self._rows = {}
        while key not in self._rows:
            row = next(self._ahead)
            self._last = row[0]
            if row[0] >= key[0]:
                self._rows[row[0], row[1], row[2]] = row
        return self._rows[key]


def _read_part_rows(part: Path) -> Iterator[ResultRow]:
    for group in row_groups(part, _PLAIN.names, []):  # damage was reported when the shard was opened
        for batch in group.to_batches(SLICE_ROWS):
            slots = [[None] * batch.num_rows] * len(_SLOTS)
            for name, column in zip(_PLAIN.names, columns_of(batch, _PLAIN), strict=True):
                slots[_POSITIONS[name]] = column.to_pylist()
            yield from zip(*slots, strict=True)
