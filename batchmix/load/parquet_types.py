"""Finds the Arrow types of Parquet columns, and a common type for a column whose type differs between files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from batchmix.formats.arrow_cast import storable
from batchmix.formats.arrow_values import is_binary, is_extension, is_list, is_text
from batchmix.formats.display import clean

Types = pa.types
_INTS = (pa.int8(), pa.int16(), pa.int32(), pa.int64())
_UNSIGNED = (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())
_UNITS = ("s", "ms", "us", "ns")
_READ_AS_TEXT = frozenset({"ENUM", "INTERVAL"})
_INT_DIGITS = 20
"""The maximum number of digits of a 64-bit integer."""
_MAX_DIGITS = (38, 76)
"""The maximum number of digits of a 128-bit and of a 256-bit decimal."""


def shown_type(dtype: pa.DataType) -> str:
    """Return a type as messages show it."""
    return clean(str(dtype), 80)


def type_hint(name: str) -> str:
    """Return, for a message, the advice to configure the type of a column."""
    return (
        f'Set its type under [input]: columns = [{{from = "{clean(name, 60)}", type = "string"}}], together with the'
        " other columns that you want, or leave it out there"
    )


def with_texts(schema: pa.Schema, stored: Any) -> pa.Schema:
    """Return a file's schema with text as the type of enums and intervals, which pyarrow would read as bytes.

    `stored` is the same schema as Parquet stores it: a list of all columns that are not nested, in the same order.
    """
    leaves = [_meaning(stored.column(number)) for number in range(len(stored))]
    if not _READ_AS_TEXT.intersection(leaves):
        return schema
    rest = iter(leaves)
    return pa.schema([field.with_type(_with_texts(field.type, rest)) for field in schema], schema.metadata)


def _with_texts(dtype: pa.DataType, leaves: Iterator[str]) -> pa.DataType:
    if is_extension(dtype):
        _with_texts(dtype.storage_type, leaves)
        return dtype
    if Types.is_struct(dtype):
        return pa.struct([field.with_type(_with_texts(field.type, leaves)) for field in dtype])
    if Types.is_map(dtype):
        return pa.map_(_with_texts(dtype.key_type, leaves), _with_texts(dtype.item_type, leaves))
    if Types.is_fixed_size_list(dtype):
        return pa.list_(_with_texts(dtype.value_type, leaves), dtype.list_size)
    if is_list(dtype):
        return pa.list_(_with_texts(dtype.value_type, leaves))
    return pa.string() if next(leaves) in _READ_AS_TEXT and is_binary(dtype) else dtype


def _meaning(leaf: Any) -> str:
    """Return the logical type of a Parquet column. Intervals have only the older annotation, a converted type."""
    converted: str = leaf.converted_type
    return converted if converted == "INTERVAL" else leaf.logical_type.type


def unified(left: pa.DataType, right: pa.DataType) -> pa.DataType | None:
    """Return a type that fits the values of both types. None if there is none. A single value may still not fit."""
    if left == right:
        return left
    left, right = _decoded(left), _decoded(right)
    if left == right or Types.is_null(right):
        return left
    if Types.is_null(left):
        return right
    if is_extension(left) or is_extension(right):
        return _with_meaning(left, right)
    if Types.is_struct(left) and Types.is_struct(right):
        return _struct(left, right)
    if Types.is_map(left) and Types.is_map(right):
        key, item = unified(left.key_type, right.key_type), unified(left.item_type, right.item_type)
        return None if key is None or item is None else pa.map_(key, item)
    if is_list(left) and is_list(right):
        return _list(left, right)
    return _simple(left, right)


def _decoded(dtype: pa.DataType) -> pa.DataType:
    """Return a dictionary's value type, or any other type as Parquet can store it. The null type is unchanged."""
    return (
        _decoded(dtype.value_type) if Types.is_dictionary(dtype) else dtype if Types.is_null(dtype) else storable(dtype)
    )


def _with_meaning(left: pa.DataType, right: pa.DataType) -> pa.DataType | None:
    """Return text as the common type of JSON and text. Other extension types match only themselves."""
    dtypes = [dtype.storage_type if _is_json(dtype) else dtype for dtype in (left, right)]
    return unified(*dtypes) if all(map(is_text, dtypes)) else None


def _is_json(dtype: pa.DataType) -> bool:
    return is_extension(dtype) and dtype.extension_name == "arrow.json"


def _struct(left: pa.DataType, right: pa.DataType) -> pa.DataType | None:
    fields: dict[str, pa.DataType | None] = {field.name: field.type for field in left}
    for field in right:
        other_type = fields.get(field.name)
        fields[field.name] = field.type if other_type is None else unified(other_type, field.type)
    if None in fields.values() or len({field.name for field in left}) < left.num_fields:
        return None
    return pa.struct(list(fields.items()))


def _list(left: pa.DataType, right: pa.DataType) -> pa.DataType | None:
    item = unified(left.value_type, right.value_type)
    if item is None:
        return None
    if Types.is_fixed_size_list(left) and Types.is_fixed_size_list(right) and left.list_size == right.list_size:
        return pa.list_(item, left.list_size)
    is_large = any(Types.is_large_list(dtype) or Types.is_large_list_view(dtype) for dtype in (left, right))
    return pa.large_list(item) if is_large else pa.list_(item)


def _simple(left: pa.DataType, right: pa.DataType) -> pa.DataType | None:
    if is_text(left) and is_text(right):
        return pa.large_string()
    if is_binary(left) and is_binary(right):
        return pa.large_binary() if Types.is_large_binary(left) or Types.is_large_binary(right) else pa.binary()
    if Types.is_date(left) and Types.is_date(right):
        return pa.date32()
    if Types.is_timestamp(left) and Types.is_timestamp(right):
        return _timestamp(left, right)
    for test, type_for in ((Types.is_duration, pa.duration), (Types.is_time, _time)):
        if test(left) and test(right):
            return type_for(_finer(left, right))
    return _number(left, right)


def _timestamp(left: pa.DataType, right: pa.DataType) -> pa.DataType | None:
    if (left.tz is None) != (right.tz is None):
        return None  # one has no time zone, so its moments are unknown
    return pa.timestamp(_finer(left, right), left.tz if left.tz == right.tz else "UTC")


def _time(unit: str) -> pa.DataType:
    return pa.time32(unit) if unit in ("s", "ms") else pa.time64(unit)


def _finer(left: pa.DataType, right: pa.DataType) -> str:
    finer: str = max(left.unit, right.unit, key=_UNITS.index)
    return finer


def _number(left: pa.DataType, right: pa.DataType) -> pa.DataType | None:
    dtypes = (left, right)
    if all(map(Types.is_integer, dtypes)):
        same = next((family for family in (_INTS, _UNSIGNED) if left in family and right in family), None)
        return max(left, right, key=same.index) if same else _signed(dtypes)
    if all(Types.is_integer(dtype) or Types.is_floating(dtype) for dtype in dtypes):
        return pa.float32() if all(map(_fits_float32, dtypes)) else pa.float64()
    if all(Types.is_integer(dtype) or Types.is_decimal(dtype) for dtype in dtypes):
        return _decimal(dtypes)
    return None


def _signed(dtypes: tuple[pa.DataType, pa.DataType]) -> pa.DataType:
    """Return a signed type for the values of a signed and an unsigned integer type. It has at most 64 bits."""
    bits = max(dtype.bit_width * (2 if dtype in _UNSIGNED else 1) for dtype in dtypes)
    return next((dtype for dtype in _INTS if dtype.bit_width >= bits), _INTS[-1])


def _fits_float32(dtype: pa.DataType) -> bool:
    return bool(Types.is_float16(dtype) or Types.is_float32(dtype))


def _decimal(dtypes: tuple[pa.DataType, pa.DataType]) -> pa.DataType | None:
    sizes = [(dtype.precision, dtype.scale) if Types.is_decimal(dtype) else (_INT_DIGITS, 0) for dtype in dtypes]
    scale = max(scale for _, scale in sizes)
    digits = scale + max(precision - scale for precision, scale in sizes)
    if digits > _MAX_DIGITS[1]:
        return None
    return pa.decimal128(digits, scale) if digits <= _MAX_DIGITS[0] else pa.decimal256(digits, scale)
