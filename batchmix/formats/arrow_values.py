"""Converts Arrow columns to JSON values: text, numbers, true, false, null, lists and objects.

Every value can be converted. Dates and times are formatted from integers, because Python's types have smaller ranges,
and because pyarrow needs pandas for nanoseconds.
"""

from __future__ import annotations

import base64
import struct
import uuid
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import msgspec
import pyarrow as pa

from batchmix.formats.iso_times import date_text, duration_text, interval_text, offsets, time_text, timestamp_text
from batchmix.formats.pyarrow_setup import compute
from batchmix.formats.text import text_of

Types = pa.types
_DAY_MS = 86_400_000
_Read = Callable[[pa.Array], list[Any]]


def values(column: pa.Array) -> list[Any]:
    """Return a column's values as JSON values. NaN becomes None.

    Dates, times and durations become ISO 8601 text. Decimals and UUIDs become text, bytes become base64 text, and maps
    become objects. JSON text of the type `arrow.json` is decoded.
    """
    arrow_type = column.type
    read = next((read for test, read in _READERS if test(arrow_type)), _one_by_one)
    return read(column)


def row_values(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """Return a batch's rows as dictionaries."""
    if not batch.num_columns:
        return [{} for _ in range(batch.num_rows)]
    names = batch.schema.names
    return [dict(zip(names, row, strict=True)) for row in zip(*map(values, batch.columns), strict=True)]


def is_text(arrow_type: pa.DataType) -> bool:
    """Return whether a type's values are text."""
    if Types.is_dictionary(arrow_type):
        return is_text(arrow_type.value_type)
    return bool(Types.is_string(arrow_type) or Types.is_large_string(arrow_type) or Types.is_string_view(arrow_type))


def is_binary(arrow_type: pa.DataType) -> bool:
    """Return whether a type's values are bytes."""
    of_any_length = Types.is_binary(arrow_type) or Types.is_large_binary(arrow_type) or Types.is_binary_view(arrow_type)
    return bool(of_any_length or Types.is_fixed_size_binary(arrow_type))


def is_list(arrow_type: pa.DataType) -> bool:
    """Return whether a type's values are lists."""
    plain = Types.is_list(arrow_type) or Types.is_large_list(arrow_type) or Types.is_fixed_size_list(arrow_type)
    return bool(plain or Types.is_list_view(arrow_type) or Types.is_large_list_view(arrow_type))


def is_extension(arrow_type: pa.DataType) -> bool:
    """Return whether a type is an extension type, which wraps a storage type."""
    return isinstance(arrow_type, pa.BaseExtensionType)


def _plain(column: pa.Array) -> list[Any]:
    plain: list[Any] = column.to_pylist()
    return plain


def _texts(column: pa.Array) -> list[str | None]:
    try:
        texts: list[str | None] = column.to_pylist()
    except UnicodeDecodeError:  # pyarrow does not check the texts of a file
        raw = column.cast(pa.large_string()).cast(pa.large_binary()).to_pylist()
        return [None if value is None else value.decode("utf-8", "replace") for value in raw]
    return texts


def _floats(column: pa.Array) -> list[float | None]:
    if Types.is_float16(column.type):
        column = column.cast(pa.float32()).cast(pa.float64())
    floats: list[float | None]
    if Types.is_float32(column.type):  # through text, so that 0.1 does not become 0.10000000149011612
        floats = [None if text is None else float(text) for text in column.cast(pa.string()).to_pylist()]
    else:
        floats = column.to_pylist()
    has_nan = compute().any(compute().is_nan(column)).as_py()
    return [None if value != value else value for value in floats] if has_nan else floats


def _each(column: pa.Array, convert: Callable[[Any], Any]) -> list[Any]:
    return [None if value is None else convert(value) for value in column.to_pylist()]


def _decimals(column: pa.Array) -> list[str | None]:
    return _each(column, str)


def _base64(column: pa.Array) -> list[str | None]:
    return _each(column, lambda value: base64.b64encode(value).decode())


def _dates(column: pa.Array) -> list[str | None]:
    if Types.is_date32(column.type):
        return _each(column.view(pa.int32()), date_text)
    return _each(column.view(pa.int64()), lambda ms: date_text(ms // _DAY_MS))


def _times(column: pa.Array) -> list[str | None]:
    counts = column.view(pa.int32() if Types.is_time32(column.type) else pa.int64())
    return _each(counts, partial(time_text, unit=column.type.unit))


def _timestamps(column: pa.Array) -> list[str | None]:
    arrow_type = column.type
    offset_of = offsets(arrow_type.tz) if arrow_type.tz else None
    return _each(column.view(pa.int64()), lambda count: timestamp_text(count, arrow_type.unit, offset_of))


def _durations(column: pa.Array) -> list[str | None]:
    return _each(column.view(pa.int64()), partial(duration_text, unit=column.type.unit))


def _intervals(column: pa.Array) -> list[str | None]:
    return _each(column, lambda value: interval_text(*value))


def parquet_intervals(column: pa.Array) -> list[str | None]:
    """Return Parquet's intervals as text. pyarrow reads them as bytes that hold months, days and milliseconds."""

    def text(value: bytes) -> str:
        months, days, milliseconds = struct.unpack("<III", value)
        return interval_text(months, days, milliseconds * 1_000_000)

    return _each(column, text)


def _dictionary(column: pa.Array) -> list[Any]:
    entries = values(column.dictionary)
    return _each(column.indices, entries.__getitem__)


def _objects(column: pa.Array) -> list[dict[str, Any] | None]:
    names = [field.name for field in column.type]
    children = [values(child) for child in column.flatten()]
    rows = zip(*children, strict=True) if children else [()] * len(column)
    valid = column.is_valid().to_pylist()
    return [dict(zip(names, row, strict=True)) if is_valid else None for is_valid, row in zip(valid, rows, strict=True)]


def items_of(column: pa.Array) -> tuple[pa.Array, list[tuple[int, int]]]:
    """Return the items of a column's lists, and each list's range of items. The range of a null list is arbitrary."""
    arrow_type = column.type
    if Types.is_fixed_size_list(arrow_type):
        size = arrow_type.list_size
        items = column.values.slice(column.offset * size, len(column) * size)
        return items, [(at * size, at * size + size) for at in range(len(column))]
    starts = column.offsets.to_pylist()
    if Types.is_list_view(arrow_type) or Types.is_large_list_view(arrow_type):
        sizes = column.sizes.to_pylist()
        return column.values, [(start, start + size) for start, size in zip(starts, sizes, strict=True)]
    first, last = starts[0], starts[-1]
    return column.values.slice(first, last - first), [(a - first, b - first) for a, b in pairwise(starts)]


def _lists(column: pa.Array) -> list[list[Any] | None]:
    items, places = items_of(column)
    converted, valid = values(items), column.is_valid().to_pylist()
    return [converted[a:b] if is_valid else None for is_valid, (a, b) in zip(valid, places, strict=True)]


def _maps(column: pa.Array) -> list[dict[str, Any] | None]:
    pairs, places = items_of(column)
    keys, items = (values(child) for child in pairs.flatten())
    entries = list(zip(map(text_of, keys), items, strict=True))
    valid = column.is_valid().to_pylist()
    return [dict(entries[a:b]) if is_valid else None for is_valid, (a, b) in zip(valid, places, strict=True)]


def _extension(column: pa.Array) -> list[Any]:
    stored = values(column.storage)
    read = _MEANINGS.get(column.type.extension_name)
    return [None if value is None else read(value) for value in stored] if read else stored


def _uuid(value: str) -> str:
    return str(uuid.UUID(bytes=base64.b64decode(value)))


def json_or_text(text: str) -> Any:
    """Return the value of a JSON text, or the text itself if it is not valid JSON."""
    try:
        return msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return text


def _one_by_one(column: pa.Array) -> list[Any]:
    """Return the values of a type that has no entry in `_READERS`."""
    return [_any(scalar) for scalar in column]


def _any(scalar: pa.Scalar) -> Any:
    try:
        value = scalar.as_py()
        return msgspec.json.decode(msgspec.json.encode(value))
    except (ValueError, TypeError, OverflowError, RecursionError, ImportError, pa.ArrowException):
        return str(scalar)


_MEANINGS: dict[str, Callable[[Any], Any]] = {"arrow.uuid": _uuid, "arrow.json": json_or_text, "arrow.bool8": bool}
_READERS: list[tuple[Callable[[pa.DataType], bool], _Read]] = [
    (is_extension, _extension),
    (Types.is_dictionary, _dictionary),
    (is_text, _texts),
    (Types.is_floating, _floats),
    (
        lambda arrow_type: Types.is_integer(arrow_type) or Types.is_boolean(arrow_type) or Types.is_null(arrow_type),
        _plain,
    ),
    (Types.is_timestamp, _timestamps),
    (Types.is_date, _dates),
    (Types.is_time, _times),
    (Types.is_decimal, _decimals),
    (Types.is_struct, _objects),
    (is_list, _lists),
    (Types.is_map, _maps),
    (is_binary, _base64),
    (Types.is_duration, _durations),
    (Types.is_interval, _intervals),
    (Types.is_run_end_encoded, lambda column: values(compute().run_end_decode(column))),
]
