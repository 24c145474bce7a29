"""Parquet rows as JSON would have given them: nothing but text, numbers, true, false, null, lists and objects."""

from __future__ import annotations

from typing import Any

import msgspec
import pyarrow as pa

from batchmix.load.jsonl import BadLineError, decode_value

Types = pa.types


def row_dicts(batch: pa.RecordBatch, mode: str) -> list[dict[str, Any]]:
    """Return a batch's rows; in `plain` and `batch` mode with `messages` and `body` as the provider wants them."""
    names = batch.schema.names
    if not names:
        return [{} for _ in range(batch.num_rows)]
    columns = [values(batch.column(number)) for number in range(len(names))]
    if mode != "template":
        columns = [
            [asked_value(value) for value in column] if name in ("messages", "body") else column
            for name, column in zip(names, columns, strict=True)
        ]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def values(column: pa.Array) -> list[Any]:
    """Return a column's values; dates and times become ISO text, decimals text, bytes base64."""
    kind = column.type
    if Types.is_timestamp(kind) and kind.unit == "ns":
        column = column.cast(pa.timestamp("us", kind.tz), safe=False)  # Python has no nanoseconds
    elif Types.is_time64(kind) and kind.unit == "ns":
        column = column.cast(pa.time64("us"), safe=False)
    elif Types.is_float16(kind):
        column = column.cast(pa.float32())
    found: list[Any] = column.to_pylist()
    return found if is_json(kind) else [_plain(value) for value in found]


def is_json(kind: pa.DataType) -> bool:
    """Return whether a type's values are JSON's as they are."""
    if Types.is_dictionary(kind):
        return is_json(kind.value_type)
    if Types.is_struct(kind):
        return all(is_json(kind.field(number).type) for number in range(kind.num_fields))
    if Types.is_list(kind) or Types.is_large_list(kind) or Types.is_fixed_size_list(kind):
        return is_json(kind.value_type)
    floats = Types.is_float32(kind) or Types.is_float64(kind)
    return is_text(kind) or floats or Types.is_integer(kind) or Types.is_boolean(kind) or Types.is_null(kind)


def is_text(kind: pa.DataType) -> bool:
    """Return whether a type's values are text."""
    if Types.is_dictionary(kind):
        return is_text(kind.value_type)
    return bool(Types.is_string(kind) or Types.is_large_string(kind) or Types.is_string_view(kind))


def _plain(value: Any) -> Any:
    try:
        return msgspec.to_builtins(value)
    except (TypeError, ValueError):
        return str(value)


def asked_value(value: Any) -> Any:
    """Return `messages` or `body`, which may come as structs or as JSON text."""
    if isinstance(value, str):
        try:
            return decode_value(value.encode())
        except BadLineError:
            return value
    return _without_filling(value)


def _without_filling(value: Any) -> Any:
    """Return a value without the nulls that only fill up structs; a message keeps `content: null`."""
    if isinstance(value, list):
        return [_without_filling(item) for item in value]
    if isinstance(value, dict):
        return {key: _without_filling(item) for key, item in value.items() if item is not None or key == "content"}
    return value
