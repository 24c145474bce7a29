"""Checks that a table has the rows that a run was made from, before they are joined."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import count, islice
from typing import Any

import pyarrow as pa

from batchmix.errors import UsageError
from batchmix.formats.arrow_cast import fit
from batchmix.formats.arrow_values import values
from batchmix.formats.display import clean, quoted
from batchmix.formats.text import json_text, text_of, utf8
from batchmix.load.jsonl import decode_row
from batchmix.tables.record_batches import record_batches, with_one_column
from batchmix.tables.row_dicts import json_line, row_dict

COMPARED_ROWS = 1024
"""The number of rows that are compared at once."""
Rows = Any
"""Consecutive rows: a batch of Arrow, or a list of dictionaries."""


def check_aligned(data: Any, run: pa.Table, names: Sequence[str]) -> None:
    """Raise `UsageError` unless a table has the same rows as a run, in the same order.

    `run` has one row per row of the input, with the column `row`, which is null where there is no result, and the
    columns to compare with those of the table, if it has them. A lazy table is evaluated once.
    """
    for first, here, there in paired(rows_in(data, ""), run.to_batches(COMPARED_ROWS)):
        check_rows(first, here, there, names)


def rows_in(data: Any, name_of_text: str) -> Iterator[Rows]:
    """Yield the rows of any data in small batches. Raises `InputError`."""
    data = with_one_column(data, name_of_text)
    batches = record_batches(data)
    return _row_dicts(data, name_of_text) if batches is None else batches


def _row_dicts(rows: Iterable[Any], name_of_text: str) -> Iterator[list[dict[str, Any]]]:
    numbered = enumerate(rows)
    while some := [row_dict(row, number, name_of_text) for number, row in islice(numbered, COMPARED_ROWS)]:
        yield some


def paired(table: Iterable[Rows], run: Iterable[pa.RecordBatch]) -> Iterator[tuple[int, Any, pa.RecordBatch]]:
    """Yield the same rows of a table and of a run, as (number of the first row, rows of the table, rows of the run).

    Raises `UsageError` at the end of the shorter one, if the other has more rows.
    """
    results, first = iter(run), 0
    there = _next(results)
    for rows in table:
        here = rows
        while size := min(len(here), COMPARED_ROWS):
            if there is None:
                raise UsageError(f"the table has more rows than the run, which has {first:,}; {_ADVICE_TO_SHORTEN}")
            size = min(size, len(there))
            yield first, _slice(here, 0, size), there.slice(0, size)
            first, here, there = first + size, _slice(here, size, len(here)), there.slice(size)
            if not len(there):
                there = _next(results)
    if there is not None:
        raise other_number(first, first + len(there) + sum(map(len, results)))


_ADVICE = "join the table that the run was made from"
_ADVICE_TO_SHORTEN = f"{_ADVICE}, or only its first rows if the run has a limit"


def other_number(rows: int, of_run: int) -> UsageError:
    """Return the error for a table that has another number of rows than the run."""
    advice = (
        _ADVICE_TO_SHORTEN
        if rows > of_run
        else _ADVICE
        if rows
        else "a reader or an iterator is used up by a run, so make it anew"
    )
    return UsageError(f"the table has {rows:,} rows and the run has {of_run:,}; {advice}")


def _next(batches: Iterator[pa.RecordBatch]) -> pa.RecordBatch | None:
    return next((batch for batch in batches if len(batch)), None)


def _slice(rows: Any, start: int, stop: int) -> Any:
    return rows[start:stop] if isinstance(rows, list) else rows.slice(start, stop - start)


def check_rows(first: int, table: Rows, run: pa.RecordBatch, names: Sequence[str]) -> None:
    """Raise `UsageError` if a column that both have differs in a row. `first` is the number of the first row."""
    results = run.column("row").is_valid().to_pylist()
    for name, here in _differing(first, table, run, names):
        for row, value, other, has_result in zip(count(first), here, values(run.column(name)), results, strict=False):
            if has_result and value != other and not _is_text_of(other, value):
                raise UsageError(
                    f"row {row} of the table is not row {row} of the run: the column {quoted(name)} is"
                    f" {_shown(value)} in the table and {_shown(other)} in the run; {_ADVICE}, in the same order"
                )


def _differing(
    first: int, table: Rows, run: pa.RecordBatch, names: Sequence[str]
) -> Iterator[tuple[str, Iterable[Any]]]:
    """Yield the columns of a table, each with its JSON values, that may differ from the run's."""
    if isinstance(table, list):
        rows = [
            decode_row(json_line({name: row[name] for name in names if name in row}, number))
            for number, row in enumerate(table, first)
        ]
        for name in {name: None for row in rows for name in row}:
            yield name, [row.get(name) for row in rows]
    else:
        for name in names:
            if name in table.schema.names and not _is_same(table.column(name), run.column(name)):
                yield name, values(table.column(name))


def _is_same(table: pa.Array, run: pa.Array) -> bool:
    """Return whether two columns are the same, as far as Arrow can tell: not if they have a NaN or other types."""
    try:
        return bool(fit(table, run.type).equals(run))
    except (pa.ArrowException, TypeError, NotImplementedError):
        return False


def _is_text_of(text: Any, value: Any) -> bool:
    """Return whether a carried text stands for a JSON value, as in a column of values of several types."""
    return isinstance(text, str) and text in (json_text(value), utf8(value) if isinstance(value, str) else None)


def _shown(value: Any) -> str:
    return "null" if value is None else quoted(clean(text_of(value), 60))
