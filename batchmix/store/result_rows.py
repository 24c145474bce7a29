"""From a shard's state to result rows: the one place that knows what stands in each column."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from batchmix.records import Completion, Key, Tokens, Usage
from batchmix.store.events import Ended, Event, Heard
from batchmix.store.fold import Entry
from batchmix.store.parts import whole_groups
from batchmix.store.schema import RESULT_SCHEMA, columns_of
from batchmix.store.shard import Shard
from batchmix.store.totals import COUNTS, Totals, Untold

Price = Callable[[str, str | None, Usage], float | None]
"""Takes a model's entry, the model that was billed (None: not said) and an answer's usage; returns its cost in USD, or
None where no price is known."""

SLICE_ROWS = 256
"""Rows that are made at a time. What is made of a column of them keeps the event loop waiting for less than 0.1 ms."""
_OURS = [name for name in RESULT_SCHEMA.names if name != "custom_id"]
_TYPES = [RESULT_SCHEMA.field(name).type for name in _OURS]
_AT = {name: position for position, name in enumerate(_OURS)}
_PLAIN = pa.schema(
    (name, pa.int64() if pa.types.is_timestamp(kind) else kind) for name, kind in zip(_OURS, _TYPES, strict=True)
)
"""The same columns, with times as numbers."""

ResultRow = tuple[Any, ...]
"""The values of a result row in the order of the schema, but for `custom_id` and the carried columns."""


class Results:
    """Makes the result rows of one shard.

    Rows of which the journals say nothing new are taken from the old part. Totals of all batches made so far stand
    in `totals`.
    """

    def __init__(self, shard: Shard, price: Price, *, raw: bool) -> None:
        self.totals = Totals()
        self._add_what_is_in_no_row(shard, price)
        self._shard = shard
        self._old = _OldRows(shard.part)
        self._price = price
        self._raw = raw

    def _add_what_is_in_no_row(self, shard: Shard, price: Price) -> None:
        """Add what was billed for no answer, or by no usage: by the old part, and since."""
        for model, cost in shard.before.costs.items():
            self.totals.cost(model).add(cost.beside_rows)
        for (_, model, _), entry in shard.entries.items():
            if entry.retried or entry.untold.answers or entry.unheard or entry.in_flight:
                cost = self.totals.cost(model)
                cost.untold += entry.untold
                cost.lost += entry.all_lost
                for billed, usage in entry.retried:
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
        """Return the row of a key that has a result. To be called in the order of the input's rows."""
        entry = self._shard.entries[key]
        if entry.kept is not None:
            row = self._answer(key, entry, *entry.kept)
            entry.kept = None
        elif entry.result is None:
            row = _updated(self._old.row(key), entry)
        else:
            event = self._shard.event(entry.result)
            if isinstance(event, Heard):
                row = self._heard(key, entry, event)
            else:
                last = self._shard.event(entry.last_heard) if entry.last_heard else None
                row = self._failure(key, entry, event, last)
        return row

    def _heard(self, key: Key, entry: Entry, event: Heard) -> ResultRow:
        """Return the row of an answer, judged once more; it fails where it is none any more."""
        outcome = self._shard.outcome(event)
        if isinstance(outcome, Completion):
            return self._answer(key, entry, event, outcome)
        what = (outcome.type, outcome.message, outcome.code)
        return self._failure(key, entry, Ended(*key, entry.attempts, event.hash, "failed", *what), event)

    def _answer(self, key: Key, entry: Entry, event: Heard, answer: Completion) -> ResultRow:
        usage = answer.usage
        return (
            *key,
            "ok",
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
            entry.attempts,
            entry.maybe_billed,
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
            _text(event) if self._raw else None,
        )

    def _failure(self, key: Key, entry: Entry, event: Event, last: Event | None) -> ResultRow:
        if not isinstance(event, Ended):
            raise TypeError(f"row {key[0]}: a journal line is not what it was")
        heard = last if isinstance(last, Heard) and last.hash == event.hash else None
        raw = _text(heard) if heard and self._raw and heard.body else None
        return (
            *key,
            event.status,
            *(None,) * 13,
            entry.attempts,
            entry.maybe_billed,
            None,
            heard.latency if heard else None,
            heard.at if heard else None,
            heard.done if heard else None,
            heard.status if heard else None,
            event.type,
            event.code,
            event.message,
            heard.request_id if heard else None,
            event.hash,
            raw,
        )


def _text(event: Heard) -> str:
    return event.exchange().body.decode("utf-8", "replace") if event.base64 else event.body


def _updated(row: ResultRow, entry: Entry) -> ResultRow:
    """Return a row of the old part, with the attempts that were made since."""
    start = _AT["attempts"]
    return (*row[:start], entry.attempts, entry.maybe_billed, *row[start + 2 :])


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
    return dict(zip(_OURS, row, strict=True))


def ended_since(rows: list[ResultRow], ms: int) -> Counter[str]:
    """Return how many of the rows of each model ended at a time or later, in ms of Unix time."""
    return Counter(row[_AT["model"]] for row in rows if (row[_AT["finished_at"]] or 0) >= ms)


def add_rows(totals: Totals, rows: list[ResultRow]) -> None:
    """Add result rows to totals."""
    if not rows:
        return
    columns = dict(zip(_OURS, zip(*rows, strict=True), strict=True))
    paid = [run is None for run in columns["reused_from"]]
    totals.reused += paid.count(False)
    totals.attempts += sum(columns["attempts"])  # also those of rows whose answer was taken from elsewhere then
    totals.maybe_billed += sum(columns["maybe_billed"])
    for name in COUNTS:
        setattr(totals, name, getattr(totals, name) + sum(filter(None, itertools.compress(columns[name], paid))))
    for (model, status), count in Counter(zip(columns["model"], columns["status"], strict=True)).items():
        setattr(totals, status, getattr(totals, status) + count)
        totals.count(model, status, count)
    costs = [cost for cost in itertools.compress(columns["cost_usd"], paid) if cost is not None]
    if costs:
        totals.cost_usd = (totals.cost_usd or 0.0) + sum(costs)
    unpriced = columns["status"].count("ok") - paid.count(False) - len(costs)
    if unpriced:
        totals.unpriced += unpriced
        _add_unpriced(totals, columns)
    if costs or any(columns["maybe_billed"]):
        for model, usd, lost, mine in zip(*(columns[name] for name in _COSTLY), paid, strict=True):
            if (mine and usd is not None) or lost:
                totals.cost(model).row(usd if mine else None, lost)
    totals.add_times(columns["sent_at"], columns["finished_at"])
    if columns["status"].count("ok") < len(rows):
        for row, status, kind, message in zip(*(columns[name] for name in _FAILURE), strict=True):
            if status != "ok":
                totals.fail(kind, row, message)


def _add_unpriced(totals: Totals, columns: dict[str, tuple[Any, ...]]) -> None:
    """Add answers whose usage is told and that no price is known for."""
    sums: dict[str, tuple[int, int, int]] = {}
    for model, status, run, usd, prompt, completion in zip(*(columns[name] for name in _UNPRICED), strict=True):
        if status == "ok" and run is None and usd is None and prompt is not None and completion is not None:
            answers, prompts, completions = sums.get(model, (0, 0, 0))
            sums[model] = answers + 1, prompts + prompt, completions + completion
    for model, (answers, prompts, completions) in sums.items():
        totals.cost(model).unpriced += Untold(answers, Tokens(prompts, completions))


_COSTLY = ("model", "cost_usd", "maybe_billed")
_UNPRICED = ("model", "status", "reused_from", "cost_usd", "prompt_tokens", "completion_tokens")
_FAILURE = ("row", "status", "error_type", "error_message")


def _batch(schema: pa.Schema, carried: pa.RecordBatch, rows: list[ResultRow]) -> pa.RecordBatch:
    columns = zip(*rows, strict=True) if rows else [()] * len(_OURS)
    arrays = {name: _array(values, kind) for name, kind, values in zip(_OURS, _TYPES, columns, strict=True)}
    arrays.update(zip(carried.schema.names, carried.columns, strict=True))
    return pa.RecordBatch.from_arrays([arrays[name] for name in schema.names], schema=schema)


def _array(values: tuple[Any, ...], kind: pa.DataType) -> pa.Array:
    # A third of the columns hold nothing, which is much faster to make.
    if values and values[0] is None and values.count(None) == len(values):
        return pa.nulls(len(values), kind)
    return pa.array(values, kind)


class _OldRows:
    """The rows of an old part, taken in the order of their input rows."""

    def __init__(self, part: Path | None) -> None:
        self._rows: dict[Key, ResultRow] = {}
        self._ahead = _old_rows(part) if part else iter(())
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


def _old_rows(part: Path) -> Iterator[ResultRow]:
    for group in whole_groups(part, _OURS, []):  # what is damaged was told when the shard was opened
        for batch in group.to_batches(SLICE_ROWS):
            yield from zip(*(column.to_pylist() for column in columns_of(batch, _PLAIN)), strict=True)
