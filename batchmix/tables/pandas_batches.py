"""A DataFrame of pandas as Arrow batches, without its index."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from batchmix.errors import InputError
from batchmix.formats.display import clean, quoted
from batchmix.tables.libraries import type_shown

_BATCH_ROWS = 8192


def pandas_batches(data: Any) -> pa.RecordBatchReader:
    """Return the columns of a DataFrame as Arrow batches. The names of columns become text.

    Raises `InputError` for a column that Arrow can't hold.
    """
    frame = _plain_columns(data)
    try:
        schema = pa.Schema.from_pandas(frame, preserve_index=False)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise _refused(frame, error) from error
    return pa.RecordBatchReader.from_batches(schema, _batches(frame, schema))


def _batches(frame: Any, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for start in range(0, len(frame), _BATCH_ROWS):
        some = frame.iloc[start : start + _BATCH_ROWS]
        try:
            table = pa.Table.from_pandas(some, schema=schema, preserve_index=False)
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise _refused(some, error) from error
        yield from table.to_batches()


def _plain_columns(frame: Any) -> Any:
    """Return a DataFrame with text as names, and with periods and sparse columns as Arrow can hold them."""
    pandas = sys.modules["pandas"]
    if frame.columns.nlevels > 1:
        raise InputError("the columns have several levels; give each one name: df.columns = ['_'.join(c) for c in df]")
    names = [name if isinstance(name, str) else str(name) for name in frame.columns]
    for name, count in Counter(names).items():
        if count > 1:
            raise InputError(f"the table has {count} columns named {quoted(name)}")
    frame = frame.set_axis(names, axis=1)
    for name, dtype in zip(names, frame.dtypes, strict=True):
        if isinstance(dtype, pandas.PeriodDtype):
            frame = frame.assign(**{name: frame[name].astype(str).where(frame[name].notna(), None)})
        elif isinstance(dtype, pandas.SparseDtype):
            frame = frame.assign(**{name: frame[name].sparse.to_dense()})
    return frame


def _refused(frame: Any, error: Exception) -> InputError:
    for name in frame.columns:
        column = frame[name]
        try:
            pa.array(column, from_pandas=True)
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as why:
            return InputError(f"the column {quoted(name)} {_reason(column, why)}; convert it or leave it out")
    return InputError(f"Arrow can't hold the table: {clean(str(error))}")


def _reason(column: Any, error: Exception) -> str:
    """Return what is wrong with a column: two types in one column of objects, or else Arrow's own reason."""
    first: tuple[int, Any] | None = None
    missing = column.isna()
    for row, value in enumerate(column if column.dtype == object else ()):
        if missing.iloc[row]:
            continue
        first = first or (row, value)
        if type(value) is not type(first[1]):
            return (
                f"holds values of two types, {type_shown(first[1])} (in row {first[0]}) and {type_shown(value)}"
                f" (in row {row})"
            )
    return f"can't be read: {clean(str(error))}"
