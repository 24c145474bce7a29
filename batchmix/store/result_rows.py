"""Builds the result rows of a shard from its state. No other module fills the result columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from msgspec.structs import astuple

from batchmix.answers.typed import INVALID, TypedAnswers
from batchmix.formats.arrow_build import MakeArray, array_maker, array_of
from batchmix.records import Completion, InvalidAnswer, Key, Status, Usage
from batchmix.store.events import Event, ResponseReceived, RowFailed
from batchmix.store.parts import row_groups
from batchmix.store.repair_chain import InvalidTurn
from batchmix.store.row_slots import (
    ANSWER_AT,
    NO_ANSWER,
    PLAIN,
    POSITIONS,
    SLOTS,
    TYPES,
    OwnValues,
    ResultRow,
    by_column,
)
from batchmix.store.row_state import RowState
from batchmix.store.schema import ANSWERED, TYPED, columns_of, run_constants
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
_SLICE_BYTES = 4 << 20
"""The number of bytes of texts after which a batch ends early, so that long answers take no more memory."""
_LONG_CHARS = 2000
"""The length of a text from which `array_of` is faster than `pyarrow.array`."""
_LONG_TEXTS = POSITIONS["response"], POSITIONS["reasoning"], POSITIONS["raw"]


class ResultRows:
    """Builds the result rows of one shard.

    Rows without new events in the journals are copied from the old part. `totals` covers all batches built so far. With
    `keep_cached`, answers that are cached for the sealing of the shard stay cached.
    """

    def __init__(self, shard: Shard, price: Price, *, raw: bool, keep_cached: bool = False) -> None:
        self.totals = Totals(answers={} if shard.classifier.typed else None)
        self._add_usage_beside_rows(shard, price)
        if shard.classifier.typed:
            self._add_answers_beside_rows(shard, price)
        self._shard = shard
        self._part_rows = _PartRows(shard.part, shard.classifier.typed)
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
            if state.chain and (turn := state.chain.moved) and turn.is_billed:
                self.totals.cost(model).add_retry(price(model, turn.served_model, turn.usage), turn.usage, -1)

    def _add_answers_beside_rows(self, shard: Shard, price: Price) -> None:
        """Add the invalid answers that no result row contains, as in `_add_usage_beside_rows`."""
        for model, answers in (shard.part_totals.answers or {}).items():
            self.totals.checked(model).add(answers.beside_rows)
        for (_, model, _), state in shard.states.items():
            for turn in state.chain.since_part if state.chain else ():
                checked = self.totals.checked(model)
                checked.add_invalid(turn.path)
                if turn.number and not turn.in_row:
                    checked.add_earlier_repair(_usd(turn, model, price))
            if state.chain and (moved := state.chain.moved) and moved.number:
                self.totals.checked(model).add_earlier_repair(_usd(moved, model, price), -1)

    def batches(
        self, schema: pa.Schema, carried: Iterator[pa.RecordBatch], first: int, keys: dict[int, list[Key]]
    ) -> Iterator[pa.RecordBatch]:
        """Yield result rows in small batches, joined with the carried columns.

        `keys` lists the keys of each input row in the order of their results. `carried` yields one record per input
        row, beginning with the row `first`.
        """
        for block in carried:
            start = 0
            for keys_of_rows, rows in self._slices(range(first, first + block.num_rows), keys):
                piece = block.slice(start, len(keys_of_rows))
                columns = by_column(rows)
                self.totals.add_columns(columns)
                start += piece.num_rows
                if set(map(len, keys_of_rows)) != {1}:
                    picked = [i for i, same_row in enumerate(keys_of_rows) for _ in same_row]
                    piece = piece.take(self._array(picked, pa.int64()))
                yield self._batch(schema, piece, columns, [row[ANSWER_AT] for row in rows])
            first += block.num_rows

    def _slices(
        self, of_input: range, keys: dict[int, list[Key]]
    ) -> Iterator[tuple[list[Sequence[Key]], list[ResultRow]]]:
        """Yield the keys of each row of the input, and their result rows, for a batch at a time."""
        keys_of_rows: list[Sequence[Key]] = []
        rows: list[ResultRow] = []
        size = 0
        for number in of_input:
            same_row = keys.get(number, ())
            for key in same_row:
                row = self.row(key)
                rows.append(row)
                size += sum(len(row[at]) for at in _LONG_TEXTS if row[at])
            keys_of_rows.append(same_row)
            if len(keys_of_rows) == SLICE_ROWS or size > _SLICE_BYTES:
                yield keys_of_rows, rows
                keys_of_rows, rows, size = [], [], 0
        if keys_of_rows:
            yield keys_of_rows, rows

    def _batch(
        self, schema: pa.Schema, carried: pa.RecordBatch, columns: dict[str, tuple[Any, ...]], answers: list[Any]
    ) -> pa.RecordBatch:
        arrays = run_constants(schema, carried.num_rows)
        arrays |= zip(carried.schema.names, carried.columns, strict=True)
        if typed := self._shard.classifier.typed:
            arrays |= {field.name: array for field, array in zip(typed.fields, typed.arrays(answers), strict=True)}
        for name in schema.names:
            # Without a schema for the answers, a carried column may have the name of one for typed answers.
            if name in columns and name not in arrays:
                arrays[name] = _array(columns[name], TYPES[name], self._array)
        return pa.RecordBatch.from_arrays([arrays[name] for name in schema.names], schema=schema)

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
        is_invalid = isinstance(event, RowFailed) and event.type == INVALID
        position = state.shown_response if is_invalid else state.last_response
        last = self._shard.event(position) if position else None
        return self._failure(key, state, event, last)

    def _reclassified(self, key: Key, state: RowState, event: ResponseReceived) -> ResultRow:
        """Return the row of a response that was an answer when it was recorded.

        The row is a failed one if this version does not accept the response as an answer.
        """
        outcome = self._shard.outcome(event)
        if isinstance(outcome, Completion):
            return self._answer(key, state, event, outcome)
        failure = outcome.failure if isinstance(outcome, InvalidAnswer) else outcome
        reason = (failure.type, failure.message, failure.code)
        return self._failure(key, state, RowFailed(*key, state.attempts, event.hash, Status.FAILED, *reason), event)

    def _answer(self, key: Key, state: RowState, event: ResponseReceived, answer: Completion) -> ResultRow:
        usage = answer.usage
        own = OwnValues(
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
            repairs=state.repairs if state.chain else 0,
        )
        return key + astuple(own) + astuple(answer) + astuple(usage)

    def _failure(self, key: Key, state: RowState, event: Event, last: Event | None) -> ResultRow:
        if not isinstance(event, RowFailed):
            raise TypeError(f"row {key[0]}: a journal line has changed")
        response = last if isinstance(last, ResponseReceived) and last.hash == event.hash else None
        raw, texts, usd = None, NO_ANSWER, None
        if response and event.type == INVALID:
            texts, usd = self._invalid(response, is_kept=event.status is Status.OK)
        if response and self._raw and response.body:
            raw = _text(response) if response.base64 else response.body
        own = OwnValues(
            status=event.status,
            cost_usd=usd,
            attempts=state.attempts,
            maybe_billed=state.maybe_billed,
            reused_from=response.reused_from if response and event.status is Status.OK else None,
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
            repairs=state.repairs if state.chain else 0,
        )
        return key + astuple(own) + texts

    def _invalid(self, event: ResponseReceived, *, is_kept: bool) -> tuple[tuple[Any, ...], float | None]:
        """Return the values of an answer that does not fit the schema, and its cost.

        Usage and cost are those of the row only if the row counts as answered. Otherwise they are a part of the totals.
        """
        outcome = self._shard.outcome(event)
        if not isinstance(outcome, InvalidAnswer):
            return NO_ANSWER, None
        answer = outcome.completion
        if not is_kept:
            return astuple(answer) + astuple(Usage()), None
        usd = 0.0 if event.reused_from else self._price(event.model, event.served_model, answer.usage)
        return astuple(answer) + astuple(answer.usage), usd


def _usd(turn: InvalidTurn, model: str, price: Price) -> float | None:
    return price(model, turn.served_model, turn.usage) if turn.is_billed else None


def _text(event: ResponseReceived) -> str:
    return event.exchange().body.decode("utf-8", "replace")


def _updated(row: ResultRow, state: RowState) -> ResultRow:
    """Return a row of the old part with its current counts of attempts."""
    values = list(row)
    values[POSITIONS["attempts"]] = state.attempts
    values[POSITIONS["maybe_billed"]] = state.maybe_billed
    return tuple(values)


def _array(values: tuple[Any, ...], type_: pa.DataType, make: MakeArray) -> pa.Array:
    # A third of the columns are all null. This builds them much faster.
    if values and values[0] is None and values.count(None) == len(values):
        return pa.nulls(len(values), type_)
    if values and type(values[0]) is str and len(values[0]) > _LONG_CHARS:
        make = array_of
    return make(values, type_)


class _PartRows:
    """Reads the rows of an old part. Rows must be read in input order, so that only few are kept in memory."""

    def __init__(self, part: Path | None, typed: TypedAnswers | None) -> None:
        self._rows: dict[Key, ResultRow] = {}
        self._ahead = _read_part_rows(part, typed) if part else iter(())
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


def _read_part_rows(part: Path, typed: TypedAnswers | None) -> Iterator[ResultRow]:
    names = [name for name in PLAIN.names if typed or name not in TYPED]  # what else has such a name is carried
    for group in row_groups(part, names, []):  # damage was reported when the shard was opened
        for batch in group.to_batches(SLICE_ROWS):
            slots: list[list[Any]] = [[None] * batch.num_rows] * len(SLOTS)
            for name, column in zip(PLAIN.names, columns_of(batch, PLAIN), strict=True):
                slots[POSITIONS[name]] = column.to_pylist()
            if typed:
                slots[ANSWER_AT] = typed.values(*(slots[POSITIONS[name]] for name in ANSWERED))
            yield from zip(*slots, strict=True)
