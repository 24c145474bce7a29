"""A run's results as columns with one value per row of the input, for a join."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import pyarrow as pa

from batchmix.formats.pyarrow_setup import compute

_FILLED_ROWS = 4096


class RunColumns(msgspec.Struct, frozen=True):
    """Columns of a run that are to be joined to a table."""

    results: pa.RecordBatchReader
    """One row per row of the run's input, in order. The column `row` is null in a row that has no result."""
    rows: int
    """The number of rows of the run's input."""
    sources: Mapping[str, str]
    """For each new column, its name in `results`."""
    compared: Sequence[str] = ()
    """Columns of `results` that hold what the table must have under the same names."""


def rows_of(data: Any) -> int | None:
    """Return the number of rows of a table. None if only reading it would tell."""
    if isinstance(data, Mapping):
        return next((len(column) for column in data.values()), 0)
    try:
        return len(data)
    except TypeError:
        return None


def one_per_row(results: pa.RecordBatchReader, rows: int, chosen: Mapping[str, Any]) -> pa.RecordBatchReader:
    """Return the results that have the chosen values, one for each of the rows, null where there is none.

    `results` has the column `row`, in order, and those of `chosen`, such as `sample`.
    """
    schema = results.schema
    return pa.RecordBatchReader.from_batches(schema, _without_gaps(schema, _chosen(results, chosen), rows))


def _chosen(results: Iterable[pa.RecordBatch], chosen: Mapping[str, Any]) -> Iterator[pa.RecordBatch]:
    for batch in results:
        some = batch
        for name, value in chosen.items():
            some = some.filter(compute().equal(some.column(name), value))
        if some.num_rows:
            yield some


def _without_gaps(schema: pa.Schema, results: Iterator[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    first = 0
    for batch in results:
        stop = batch.column("row")[-1].as_py() + 1
        if stop - first == batch.num_rows:
            yield batch
        else:
            yield from _filled(batch, first, stop)
        first = stop
    none = [pa.nulls(0, field.type) for field in schema]
    yield from _filled(pa.RecordBatch.from_arrays(none, schema=schema), first, rows)


def _filled(batch: pa.RecordBatch, first: int, stop: int) -> Iterator[pa.RecordBatch]:
    """Yield rows `first` to `stop` in small batches, null where the batch has no such row."""
    for start in range(first, stop, _FILLED_ROWS):
        wanted = pa.array(range(start, min(start + _FILLED_ROWS, stop)), batch.schema.field("row").type)
        yield batch.take(compute().index_in(wanted, value_set=batch.column("row")))
