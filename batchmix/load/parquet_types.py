"""What a Parquet file says of its columns, and the type that holds those of several files and loses nothing."""

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
_TEXTS = frozenset({"ENUM", "INTERVAL"})
_INT_DIGITS = 20
_MOST_DIGITS = (38, 76)
"""Of a decimal of 128 and of 256 bits."""


def shown_type(kind: pa.DataType) -> str:
    """Return a type as messages show it."""
    return clean(str(kind), 80)


def type_hint(name: str) -> str:
    """Return how a person tells the type of a column."""
    return (
        f'Tell its type under [input]: columns = [{{from = "{clean(name, 60)}", type = "string"}}], together with the'
        " other columns that you want, or leave it out there"
    )


def spelt(schema: pa.Schema, stored: Any) -> pa.Schema:
    """Return a file's schema with its enums and intervals as text; pyarrow takes them for bytes.

    `stored` is Parquet's own schema, whose columns are the leaves of the other in their order.
    """
    leaves = [_told(stored.column(number)) for number in range(len(stored))]
    if not _TEXTS.intersection(leaves):
        return schema
    rest = iter(leaves)
    return pa.schema([field.with_type(_spelt(field.type, rest)) for field in schema], schema.metadata)


def _spelt(kind: pa.DataType, leaves: Iterator[str]) -> pa.DataType:
    if is_extension(kind):
        _spelt(kind.storage_type, leaves)
        return kind
    if Types.is_struct(kind):
        return pa.struct([field.with_type(_spelt(field.type, leaves)) for field in kind])
    if Types.is_map(kind):
        return pa.map_(_spelt(kind.key_type, leaves), _spelt(kind.item_type, leaves))
    if Types.is_fixed_size_list(kind):
        return pa.list_(_spelt(kind.value_type, leaves), kind.list_size)
    if is_list(kind):
        return pa.list_(_spelt(kind.value_type, leaves))
    return pa.string() if next(leaves) in _TEXTS and is_binary(kind) else kind


def _told(leaf: Any) -> str:
    """Return what Parquet tells of a column's values; of intervals only its older word does."""
    word: str = leaf.converted_type
    return word if word == "INTERVAL" else leaf.logical_type.type


def unified(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """Return a type for the values of both, or None. Whether each value really goes into it, the values must tell."""
    if one == other:
        return one
    one, other = _decoded(one), _decoded(other)
    if one == other or Types.is_null(other):
        return one
    if Types.is_null(one):
        return other
    if is_extension(one) or is_extension(other):
        return _with_meaning(one, other)
    if Types.is_struct(one) and Types.is_struct(other):
        return _struct(one, other)
    if Types.is_map(one) and Types.is_map(other):
        key, item = unified(one.key_type, other.key_type), unified(one.item_type, other.item_type)
        return None if key is None or item is None else pa.map_(key, item)
    if is_list(one) and is_list(other):
        return _list(one, other)
    return _simple(one, other)


def _decoded(kind: pa.DataType) -> pa.DataType:
    """Return the type of a dictionary's words; all others are as they can be stored."""
    return _decoded(kind.value_type) if Types.is_dictionary(kind) else kind if Types.is_null(kind) else storable(kind)


def _with_meaning(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """JSON is text; whatever else has a meaning of its own has no other type's."""
    kinds = [kind.storage_type if _is_json(kind) else kind for kind in (one, other)]
    return unified(*kinds) if all(map(is_text, kinds)) else None


def _is_json(kind: pa.DataType) -> bool:
    return is_extension(kind) and kind.extension_name == "arrow.json"


def _struct(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    fields: dict[str, pa.DataType | None] = {field.name: field.type for field in one}
    for field in other:
        known = fields.get(field.name)
        fields[field.name] = field.type if known is None else unified(known, field.type)
    if None in fields.values() or len({field.name for field in one}) < one.num_fields:
        return None
    return pa.struct(list(fields.items()))


def _list(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    item = unified(one.value_type, other.value_type)
    if item is None:
        return None
    if Types.is_fixed_size_list(one) and Types.is_fixed_size_list(other) and one.list_size == other.list_size:
        return pa.list_(item, one.list_size)
    is_large = any(Types.is_large_list(kind) or Types.is_large_list_view(kind) for kind in (one, other))
    return pa.large_list(item) if is_large else pa.list_(item)


def _simple(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    if is_text(one) and is_text(other):
        return pa.large_string()
    if is_binary(one) and is_binary(other):
        return pa.large_binary() if Types.is_large_binary(one) or Types.is_large_binary(other) else pa.binary()
    if Types.is_date(one) and Types.is_date(other):
        return pa.date32()
    if Types.is_timestamp(one) and Types.is_timestamp(other):
        return _timestamp(one, other)
    for test, made in ((Types.is_duration, pa.duration), (Types.is_time, _time)):
        if test(one) and test(other):
            return made(_finer(one, other))
    return _number(one, other)


def _timestamp(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    if (one.tz is None) != (other.tz is None):
        return None  # nobody says which zone the one without is in
    return pa.timestamp(_finer(one, other), one.tz if one.tz == other.tz else "UTC")


def _time(unit: str) -> pa.DataType:
    return pa.time32(unit) if unit in ("s", "ms") else pa.time64(unit)


def _finer(one: pa.DataType, other: pa.DataType) -> str:
    finer: str = max(one.unit, other.unit, key=_UNITS.index)
    return finer


def _number(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    kinds = (one, other)
    if all(map(Types.is_integer, kinds)):
        same = next((family for family in (_INTS, _UNSIGNED) if one in family and other in family), None)
        return max(one, other, key=same.index) if same else _signed(kinds)
    if all(Types.is_integer(kind) or Types.is_floating(kind) for kind in kinds):
        return pa.float32() if all(map(_fits_float32, kinds)) else pa.float64()
    if all(Types.is_integer(kind) or Types.is_decimal(kind) for kind in kinds):
        return _decimal(kinds)
    return None


def _signed(kinds: tuple[pa.DataType, pa.DataType]) -> pa.DataType:
    """Return what holds whole numbers with and without a sign."""
    bits = max(kind.bit_width * (2 if kind in _UNSIGNED else 1) for kind in kinds)
    return next((kind for kind in _INTS if kind.bit_width >= bits), _INTS[-1])


def _fits_float32(kind: pa.DataType) -> bool:
    return bool(Types.is_float16(kind) or Types.is_float32(kind))


def _decimal(kinds: tuple[pa.DataType, pa.DataType]) -> pa.DataType | None:
    sizes = [(kind.precision, kind.scale) if Types.is_decimal(kind) else (_INT_DIGITS, 0) for kind in kinds]
    scale = max(scale for _, scale in sizes)
    digits = scale + max(precision - scale for precision, scale in sizes)
    if digits > _MOST_DIGITS[1]:
        return None
    return pa.decimal128(digits, scale) if digits <= _MOST_DIGITS[0] else pa.decimal256(digits, scale)
