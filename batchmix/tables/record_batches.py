"""Tables of other libraries as streams of Arrow batches."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pyarrow as pa

from batchmix.errors import InputError
from batchmix.formats.arrow_cast import fitted
from batchmix.formats.arrow_values import is_extension
from batchmix.formats.display import quoted
from batchmix.formats.parquet_schema import first_line, no_column
from batchmix.tables.libraries import is_from, type_shown
from batchmix.tables.pandas_batches import pandas_batches

_READ_ROWS = 8192
"""The number of rows that are asked of a library at once. Libraries may return more."""
_STREAMED_ROWS = 1024
"""The number of rows that are collected from a library that returns single rows."""


def with_one_column(data: Any, name: str) -> Any:
    """Return a Series, or an array of Arrow, as a table with one column. Any other data is returned unchanged."""
    if is_from(data, "pandas", "Series") or is_from(data, "polars", "Series"):
        return data.to_frame(name)
    return pa.table({name: data}) if isinstance(data, pa.Array | pa.ChunkedArray) else data


def record_batches(data: Any) -> pa.RecordBatchReader | None:
    """Return the rows of a table as Arrow batches, in the types of the table. None if the data is not a table.

    A one-shot reader is read by reading the result. Raises `InputError` for a table that Arrow can't hold.
    """
    if is_from(data, "pandas", "DataFrame"):
        return pandas_batches(data)
    if is_from(data, "polars", "DataFrame", "LazyFrame"):
        return _polars(data)
    if is_from(data, "datasets", "Dataset", "IterableDataset", "DatasetDict", "IterableDatasetDict"):
        return _hugging_face(data)
    if is_from(data, "duckdb", "DuckDBPyRelation"):
        data = data.project("*")  # DuckDB 1 passes each relation on only once
    if isinstance(data, dict):
        return _columns(data)
    if isinstance(data, pa.RecordBatchReader):
        return data
    if isinstance(data, pa.RecordBatch):
        return pa.RecordBatchReader.from_batches(data.schema, [data])
    return _other(data)


def _other(data: Any) -> pa.RecordBatchReader | None:
    try:
        if is_from(data, "pyarrow.dataset", "Dataset"):
            return data.scanner(batch_size=_READ_ROWS, batch_readahead=2, fragment_readahead=1).to_reader()
        if is_from(data, "pyarrow.dataset", "Scanner"):
            return data.to_reader()
        if hasattr(data, "__arrow_c_stream__"):
            return pa.RecordBatchReader.from_stream(data)
        if hasattr(data, "__arrow_c_array__"):
            return record_batches(pa.record_batch(data))
    except (pa.ArrowException, TypeError) as error:
        raise InputError(f"Arrow can't read the data, of the type {type_shown(data)}: {first_line(error)}") from error
    return None


def _columns(data: dict[Any, Any]) -> pa.RecordBatchReader:
    columns: dict[str, Any] = {}
    for name, column in data.items():
        if isinstance(column, str | bytes | dict) or not (hasattr(column, "__len__") or hasattr(column, "__iter__")):
            raise InputError(
                f"the data is a dictionary, whose values must be columns, but {quoted(str(name))} is of the type"
                f" {type_shown(column)}; a single row goes into a list: [{{…}}]"
            )
        try:
            is_arrow = hasattr(column, "__arrow_c_stream__") or isinstance(column, pa.Array | pa.ChunkedArray)
            columns[str(name)] = (
                pa.chunked_array(column) if is_arrow else pa.array(list(column) if _is_nested(column) else column)
            )
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise no_column(str(name), error) from error
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{quoted(name)} has {length}" for name, length in list(lengths.items())[:10])
        raise InputError(f"the columns have different numbers of rows: {shown}")
    return pa.table(columns).to_reader()


def _is_nested(column: Any) -> bool:
    return is_from(column, "numpy", "ndarray") and column.ndim > 1


def _polars(data: Any) -> pa.RecordBatchReader:
    polars = sys.modules["polars"]
    schema = data.collect_schema()
    for name, dtype in schema.items():
        try:
            if dtype == polars.Object:
                raise TypeError("Polars can't pass objects of Python on")
            _frame_batches(polars.DataFrame(schema={name: dtype}))
        except (pa.ArrowException, TypeError) as error:
            raise no_column(name, error, str(dtype)) from error
    if isinstance(data, polars.DataFrame):
        return _frame_batches(data)
    empty = _frame_batches(polars.DataFrame(schema=schema))
    return pa.RecordBatchReader.from_batches(empty.schema, _collected(data))


def _frame_batches(frame: Any) -> pa.RecordBatchReader:
    is_older = not hasattr(frame, "__arrow_c_stream__")  # Polars before 1.3
    return frame.to_arrow().to_reader() if is_older else pa.RecordBatchReader.from_stream(frame)


def _collected(data: Any) -> Iterator[pa.RecordBatch]:
    if hasattr(data, "collect_batches"):
        frames = data.collect_batches(chunk_size=_READ_ROWS, maintain_order=True)
    else:  # an older Polars
        frames = [data.collect()]
    for frame in frames:
        yield from _frame_batches(frame)


def _hugging_face(data: Any) -> pa.RecordBatchReader | None:
    if isinstance(data, dict):
        raise InputError(f"the data has several splits; pass one of them, such as data[{next(iter(data), 'train')!r}]")
    if data.features is None:  # its batches may differ in their types
        return None
    schema = pa.schema([pa.field(field.name, _storage(field.type)) for field in data.features.arrow_schema])
    batches = _stored_rows(data) if is_from(data, "datasets", "Dataset") else _streamed_rows(data)
    return pa.RecordBatchReader.from_batches(schema, (fitted(batch, schema) for batch in batches))


def _stored_rows(data: Any) -> Iterator[pa.RecordBatch]:
    for table in data.with_format("arrow").iter(_READ_ROWS):
        yield from table.combine_chunks().to_batches()  # rows of a shuffled dataset come one by one


def _streamed_rows(data: Any) -> Iterator[pa.RecordBatch]:
    # Asked for Arrow, an IterableDataset guesses types for each batch, and fails where they differ.
    schema = data.features.arrow_schema
    rows = iter(data.decode(enable=False).with_format(None))
    while some := list(islice(rows, _STREAMED_ROWS)):
        columns = [pa.array([row.get(field.name) for row in some], _storage(field.type)) for field in schema]
        yield pa.RecordBatch.from_arrays(columns, names=schema.names)


def _storage(dtype: pa.DataType) -> pa.DataType:
    return dtype.storage_type if is_extension(dtype) else dtype
