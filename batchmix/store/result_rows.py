"""Result rows from a shard's state: the only place that fills the result columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from batchmix.records import Completion, Key, Status, Usage
from batchmix.store.events import Event, ResponseReceived, RowFailed
from batchmix.store.parts import row_groups
from batchmix.store.row_state import RowState
from batchmix.store.schema import RESULT_SCHEMA, columns_of
from batchmix.store.shard import Shard
from batchmix.store.totals import Totals

Price = Callable[[str, str | None, Usage], float | None]
"""Takes a model's name in the job, the billed model (None: unreported) and an answer's usage; returns its cost in USD,
or None where the price is unknown."""

SLICE_ROWS = 256
"""Rows that are made at a time: a column of them is made in less than 0.1 ms, for which the event loop waits."""
_COLUMNS = [name for name in RESULT_SCHEMA.names if name != "custom_id"]
_TYPES = [RESULT_SCHEMA.field(name).type for name in _COLUMNS]
_POSITION = {name: position for position, name in enumerate(_COLUMNS)}
_PLAIN = pa.schema(
    (name, pa.int64() if pa.types.is_timestamp(type_) else type_) for name, type_ in zip(_COLUMNS, _TYPES, strict=True)
)
"""The same columns, with times as numbers."""

ResultRow = tuple[Any, ...]
"""The values of a result row in the order of the schema, without `custom_id` and the carried columns."""


class ResultRows:
    """Makes the result rows of one shard.

    Rows without new events in the journals are copied from the old part. `totals` are those of all batches made so far.
    """

    def __init__(self, shard: Shard, price: Price, *, raw: bool) -> None:
        self.totals = Totals()
        self._add_usage_beside_rows(shard, price)
        self._shard = shard
        self._part_rows = _PartRows(shard.part)
        self._price = price
        self._raw = raw

    def _add_usage_beside_rows(self, shard: Shard, price: Price) -> None:
        """Add usage that is in no result row: of the old part, and since then."""
        for model, cost in shard.part_totals.costs.items():
            self.totals.cost(model).add(cost.beside_rows)
        for (_, model, _), state in shard.states.items():
            if state.billed_failures or state.unreported.answers or state.maybe_billed:
                cost = self.totals.cost(model)
                cost.add_estimates(state.unreported, state.lost_tokens)
                for billed, usage in state.billed_failures:
                    cost.retry(price(model, billed, usage), usage)

    def batches(
        self, schema: pa.Schema, carried: Iterator[pa.RecordBatch], first: int, keys: dict[int, list[Key]]
    ) -> Iterator[pa.RecordBatch]:
        """Yield the rows of `keys` (by input row, each in order) joined with the carried columns, in small batches.

        `carried` gives one record per input row from `first` on.
        """
        for block in carried:
            for start in range(0, block.num_rows, SLICE_ROWS):
                piece = block.slice(start, SLICE_ROWS)
                picked = [(i, key) for i in range(piece.num_rows) for key in keys.get(first + i, ())]
                rows = [self.row(key) for _, key in picked]
                add_rows(self.totals, rows)
                first += piece.num_rows
                if [i for i, _ in picked] != list(range(piece.num_rows)):
                    piece = piece.take(pa.array([i for i, _ in picked], pa.int64()))
                yield _batch(schema, piece, rows)

    def row(self, key: Key) -> ResultRow:
        """Return the row of a key that has a result. Call it in input order."""
        state = self._shard.states[key]
        if cached := state.take_cached():
            return self._answer(key, state, *cached)
        if state.result is None:
            return _updated(self._part_rows.row(key), state)
        event = self._shard.event(state.result)
        if isinstance(event, ResponseReceived):
            return self._judged_again(key, state, event)
        last = self._shard.event(state.last_response) if state.last_response else None
        return self._failure(key, state, event, last)

    def _judged_again(self, key: Key, state: RowState, event: ResponseReceived) -> ResultRow:
        """Return the row of a response that was an answer when it was recorded; it fails where it no longer is one."""
        outcome = self._shard.outcome(event)
        if isinstance(outcome, Completion):
            return self._answer(key, state, event, outcome)
        reason = (outcome.type, outcome.message, outcome.code)
        return self._failure(key, state, RowFailed(*key, state.attempts, event.hash, Status.FAILED, *reason), event)

    def _answer(self, key: Key, state: RowState, event: ResponseReceived, answer: Completion) -> ResultRow:
        usage = answer.usage
        return (
            *key,
            Status.OK,
            answer.response,
            answer.reasoning,
            answer.refusal,
            answer.tool_calls,
            answer.finish_reason,
            answer.served_model,
            usage.prompt_tokens,
            usage.completion_tokens,
            usage.total_tokens,
            usage.cached_tokens,
            usage.cache_write_tokens,
            usage.reasoning_tokens,
            0.0 if event.reused_from else self._price(key[1], event.served_model, usage),
            state.attempts,
            state.maybe_billed,
            event.reused_from,
            event.latency,
            event.at,
            event.done,
            event.status,
            None,
            None,
            None,
            event.request_id,
            event.hash,
            (_text(event) if event.base64 else event.body) if self._raw else None,
        )

    def _failure(self, key: Key, state: RowState, event: Event, last: Event | None) -> ResultRow:
        if not isinstance(event, RowFailed):
            raise TypeError(f"row {key[0]}: a journal line has changed")
        response = last if isinstance(last, ResponseReceived) and last.hash == event.hash else None
        raw = None
        if response and self._raw and response.body:
            raw = _text(response) if response.base64 else response.body
        return (
            *key,
            event.status,
            *(None,) * 13,
            state.attempts,
            state.maybe_billed,
            None,
            response.latency if response else None,
            response.at if response else None,
            response.done if response else None,
            response.status if response else None,
            event.type,
            event.code,
            event.message,
            response.request_id if response else None,
            event.hash,
            raw,
        )


def _text(event: ResponseReceived) -> str:
    return event.exchange().body.decode("utf-8", "replace")


def _updated(row: ResultRow, state: RowState) -> ResultRow:
    """Return a row of the old part, with the attempts that were made since then."""
    start = _POSITION["attempts"]
    return (*row[:start], state.attempts, state.maybe_billed, *row[start + 2 :])


def by_row(keys: Iterable[Key], models: Sequence[str]) -> dict[int, list[Key]]:
    """Return keys by input row, in the order of the models and samples; keys of other models are left out."""
    order = {model: position for position, model in enumerate(models)}
    found: dict[int, list[Key]] = {}
    for key in keys:
        if key[1] in order:
            found.setdefault(key[0], []).append(key)
    for same_row in found.values():
        if len(same_row) > 1:
            same_row.sort(key=lambda key: (order[key[1]], key[2]))
    return found


def named(row: ResultRow) -> dict[str, Any]:
    """Return a result row's values by column."""
    return dict(zip(_COLUMNS, row, strict=True))


def finished_since(rows: list[ResultRow], ms: int) -> Counter[str]:
    """Return how many rows of each model finished at a time or later, in ms of Unix time."""
    return Counter(row[_POSITION["model"]] for row in rows if (row[_POSITION["finished_at"]] or 0) >= ms)


def add_rows(totals: Totals, rows: list[ResultRow]) -> None:
    """Add result rows to totals."""
    if rows:
        totals.add_columns(dict(zip(_COLUMNS, zip(*rows, strict=True), strict=True)))


def _batch(schema: pa.Schema, carried: pa.RecordBatch, rows: list[ResultRow]) -> pa.RecordBatch:
    columns = zip(*rows, strict=True) if rows else [()] * len(_COLUMNS)
    arrays = {name: _array(values, type_) for name, type_, values in zip(_COLUMNS, _TYPES, columns, strict=True)}
    arrays.update(zip(carried.schema.names, carried.columns, strict=True))
    return pa.RecordBatch.from_arrays([arrays[name] for name in schema.names], schema=schema)


def _array(values: tuple[Any, ...], type_: pa.DataType) -> pa.Array:
    # A third of the columns are all null: those are made much faster.
    if values and values[0] is None and values.count(None) == len(values):
        return pa.nulls(len(values), type_)
    return pa.array(values, type_)


class _PartRows:
    """The rows of an old part, taken in the order of their input rows."""

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
    for group in row_groups(part, _COLUMNS, []):  # damage was reported when the shard was opened
        for batch in group.to_batches(SLICE_ROWS):
            yield from zip(*(column.to_pylist() for column in columns_of(batch, _PLAIN)), strict=True)
