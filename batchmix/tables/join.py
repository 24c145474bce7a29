"""Joins columns of a run to the table that the run was made from, in the table's own kind."""

from __future__ import annotations

import contextlib
import os
import sys
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sized
from typing import Any

import pyarrow as pa

from batchmix.errors import UsageError
from batchmix.tables.alignment import check_aligned, other_number
from batchmix.tables.frames import pandas_array
from batchmix.tables.joined_streams import already_there, joined_reader, joined_rows
from batchmix.tables.libraries import is_from
from batchmix.tables.record_batches import record_batches, with_one_column
from batchmix.tables.rows_of_run import RunColumns

Columns = Mapping[str, pa.ChunkedArray]
"""The new columns by name, with one value per row of the input."""


def joined_table(data: Any, run: RunColumns, name_of_text: str) -> Any:
    """Return data with columns of a run: the same kind of table, with the same rows, order, index and types.

    A Series becomes a DataFrame, an array of Arrow a table. A dataset or scanner of Arrow, and a reader, become a
    reader. A list or tuple stays one, of new dictionaries. Any other iterable becomes an iterator of dictionaries.
    Another object with Arrow's interface becomes an Arrow table. A lazy table stays lazy. Raises `UsageError` if a new
    column exists already, or if the data does not have the rows of the run, in the same order: for readers and
    iterators once they are read.
    """
    if isinstance(data, str | os.PathLike):
        raise UsageError(f"{os.fspath(data)}: is a path, and only a table or rows can be joined; read the file first")
    data = with_one_column(data, name_of_text)
    join = next((join for is_kind, join in _KINDS if is_kind(data)), None)
    if join is not None:
        table = run.results.read_all()
        columns = {name: table.column(source) for name, source in run.sources.items()}
        joined = join(data, columns)  # it checks the number of rows, and that the names are new
        if run.compared or is_from(data, "datasets", "IterableDataset"):  # whose rows nobody has counted yet
            check_aligned(data, table, run.compared)
        return joined
    if isinstance(data, pa.RecordBatchReader) or is_from(data, "pyarrow.dataset", "Dataset", "Scanner"):
        reader = record_batches(data)
        assert reader is not None
        _check(reader.schema.names, None, run.sources)
        return joined_reader(reader, run)
    if not isinstance(data, Iterator) and (reader := record_batches(data)) is not None:
        return joined_table(reader.read_all(), run, name_of_text)
    if isinstance(data, Sized) and len(data) != run.rows:
        raise other_number(len(data), run.rows)
    rows = joined_rows(data, run, name_of_text)
    return type(data)(rows) if type(data) in (list, tuple) else rows


def _check(names: Collection[str], rows: int | None, columns: Mapping[str, Sized]) -> None:
    """Raise `UsageError` if a column exists already, or if the table has another number of rows (None if unknown)."""
    taken = [name for name in columns if name in names]
    if taken:
        raise already_there("the table", taken)
    for column in columns.values():
        if rows is not None and rows != len(column):
            raise other_number(rows, len(column))


def _pandas(data: Any, columns: Columns) -> Any:
    _check({str(name) for name in data.columns}, len(data), columns)
    return data.assign(**{name: pandas_array(column) for name, column in columns.items()})


def _polars(data: Any, columns: Columns) -> Any:
    polars = sys.modules["polars"]
    is_lazy = isinstance(data, polars.LazyFrame)
    rows = data.select(polars.len()).collect().item() if is_lazy else data.height
    _check(data.collect_schema().names(), rows, columns)
    return data.with_columns(polars.from_arrow(column).alias(name) for name, column in columns.items())


def _arrow(data: Any, columns: Columns) -> Any:
    _check(data.schema.names, data.num_rows, columns)
    for name, column in columns.items():
        data = data.append_column(name, column)
    return data


def _arrow_batch(data: pa.RecordBatch, columns: Columns) -> pa.RecordBatch:
    _check(data.schema.names, data.num_rows, columns)
    for name, column in columns.items():
        data = data.append_column(name, _in_one_piece(column))
    return data


def _in_one_piece(column: pa.ChunkedArray) -> pa.Array:
    whole = column.combine_chunks()
    return pa.concat_arrays(whole.chunks) if isinstance(whole, pa.ChunkedArray) else whole


def _dataset(data: Any, columns: Columns) -> Any:
    _check(data.column_names, len(data), columns)
    with _quiet():
        for name, column in columns.items():
            # For a fingerprint of its own, datasets would make several copies of the column.
            data = data.add_column(name, column, new_fingerprint=uuid.uuid4().hex)
    return data


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep datasets from showing its bar while it puts rows in order."""
    library = sys.modules["datasets"]
    was_quiet = library.are_progress_bars_disabled()
    library.disable_progress_bars()
    try:
        yield
    finally:
        if not was_quiet:
            library.enable_progress_bars()


def _streamed_dataset(data: Any, columns: Columns) -> Any:
    _check(data.column_names or (), None, columns)
    library = sys.modules["datasets"]
    added = library.Dataset(pa.table(dict(columns))).to_iterable_dataset()
    return library.concatenate_datasets([data, added], axis=1)


def _relation(data: Any, columns: Columns) -> Any:
    _check(data.columns, data.count("*").fetchall()[0][0], columns)
    results = pa.table(dict(columns))
    try:
        rows = f"batchmix_rows_{uuid.uuid4().hex}"  # not the name in a relation that was joined before
        joined = data.query(rows, f"from {rows} positional join results")  # DuckDB finds the variable `results`
    except sys.modules["duckdb"].CatalogException as error:
        raise UsageError(
            "DuckDB can't see the run's columns: it has python_enable_replacements = false; join an Arrow table instead"
        ) from error
    assert results is not None
    return joined


def _columns(data: dict[str, Any], columns: Columns) -> dict[str, Any]:
    _check(data, len(next(iter(data.values()), ())), columns)
    return {**data, **{name: column.to_pylist() for name, column in columns.items()}}


_KINDS: list[tuple[Callable[[Any], bool], Callable[[Any, Columns], Any]]] = [
    (lambda data: is_from(data, "pandas", "DataFrame"), _pandas),
    (lambda data: is_from(data, "polars", "DataFrame", "LazyFrame"), _polars),
    (lambda data: is_from(data, "datasets", "Dataset"), _dataset),
    (lambda data: is_from(data, "datasets", "IterableDataset"), _streamed_dataset),
    (lambda data: is_from(data, "duckdb", "DuckDBPyRelation"), _relation),
    (lambda data: isinstance(data, dict), _columns),
    (lambda data: isinstance(data, pa.Table), _arrow),
    (lambda data: isinstance(data, pa.RecordBatch), _arrow_batch),
]
