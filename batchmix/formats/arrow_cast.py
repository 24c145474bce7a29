"""Casts Arrow columns to other Arrow types.

pyarrow's own casts do not support structs with different fields, dictionaries with different value types, or list
views. Apart from Parquet's intervals and texts with invalid bytes, values are not converted to Python objects on the
way, because Python's types can't represent all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate, pairwise
from typing import Any

import pyarrow as pa

from batchmix.formats.arrow_values import is_extension, is_list, is_text, items_of, parquet_intervals
from batchmix.formats.pyarrow_setup import compute

Types = pa.types
INTERVAL = pa.binary(12)
"""The type with which pyarrow reads Parquet's intervals. Cast to text, its values become ISO 8601 text."""
_Leaf = Callable[[pa.Array, pa.DataType], pa.Array]


def fit(column: pa.Array, arrow_type: pa.DataType) -> pa.Array:
    """Return a column cast to another type. Raises `pa.ArrowInvalid` if a value can't be cast.

    Fields of a struct are matched by name. Missing fields are null.
    """
    return column if column.type == arrow_type else _rebuilt(column, arrow_type, _cast)


def _cast(column: pa.Array, arrow_type: pa.DataType) -> pa.Array:
    if is_text(arrow_type) and column.type == INTERVAL:
        return pa.array(parquet_intervals(column), arrow_type)
    return column.cast(arrow_type)


def fitted(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return a batch with the columns and types of a schema. Missing columns are null."""
    names = batch.schema.names
    columns = [
        fit(batch.column(names.index(field.name)), field.type)
        if field.name in names
        else pa.nulls(batch.num_rows, field.type)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema) if columns else batch


def with_valid_utf8(column: pa.Array) -> pa.Array:
    """Return a column with U+FFFD in place of invalid bytes in its texts. pyarrow reads texts without checking them."""
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        return _rebuilt(column, column.type, _repaired)
    return column


def _repaired(column: pa.Array, arrow_type: pa.DataType) -> pa.Array:
    if not is_text(arrow_type):
        return column
    raw = column.cast(pa.large_string()).cast(pa.large_binary()).to_pylist()
    return pa.array([None if text is None else text.decode("utf-8", "replace") for text in raw], arrow_type)


def _rebuilt(column: pa.Array, arrow_type: pa.DataType, leaf: _Leaf) -> pa.Array:
    """Return a column cast to another type, level by level. `leaf` casts the columns that are not nested."""
    has = column.type
    if Types.is_null(has):
        return pa.nulls(len(column), arrow_type)
    if Types.is_run_end_encoded(has):
        return _rebuilt(compute().run_end_decode(column), arrow_type, leaf)
    if Types.is_dictionary(has):
        return _from_dictionary(column, arrow_type, leaf)
    if is_extension(has):
        inner = _rebuilt(column.storage, arrow_type.storage_type if is_extension(arrow_type) else arrow_type, leaf)
        return pa.ExtensionArray.from_storage(arrow_type, inner) if is_extension(arrow_type) else inner
    if Types.is_struct(has) and Types.is_struct(arrow_type):
        return _struct(column, arrow_type, leaf)
    if Types.is_fixed_size_list(has) and Types.is_fixed_size_list(arrow_type) and has.list_size == arrow_type.list_size:
        items = _rebuilt(items_of(column)[0], arrow_type.value_type, leaf)
        return pa.FixedSizeListArray.from_arrays(items, type=arrow_type, mask=column.is_null())
    if is_list(has) and (Types.is_list(arrow_type) or Types.is_large_list(arrow_type)):
        return _list(column, arrow_type, leaf)
    if Types.is_map(has) and Types.is_map(arrow_type):
        return _map(column, arrow_type, leaf)
    if Types.is_float16(arrow_type) and Types.is_float16(has):
        return column
    return leaf(column, arrow_type)


def _from_dictionary(column: pa.Array, arrow_type: pa.DataType, leaf: _Leaf) -> pa.Array:
    if Types.is_dictionary(arrow_type):
        return pa.DictionaryArray.from_arrays(
            column.indices.cast(arrow_type.index_type),
            _rebuilt(column.dictionary, arrow_type.value_type, leaf),
            ordered=arrow_type.ordered,
        )
    return _rebuilt(column.dictionary, arrow_type, leaf).take(column.indices)


def _struct(column: pa.Array, arrow_type: pa.DataType, leaf: _Leaf) -> pa.Array:
    children_by_name: dict[str, Any] = dict(zip([field.name for field in column.type], column.flatten(), strict=True))
    children = [
        _rebuilt(children_by_name[field.name], field.type, leaf)
        if field.name in children_by_name
        else pa.nulls(len(column), field.type)
        for field in arrow_type
    ]
    return pa.StructArray.from_arrays(children, fields=list(arrow_type), mask=column.is_null())


def _list(column: pa.Array, arrow_type: pa.DataType, leaf: _Leaf) -> pa.Array:
    items, places = items_of(column)
    items = _rebuilt(items, arrow_type.value_type, leaf)
    if any(stop != start for (_, stop), (start, _) in pairwise([(0, 0), *places])):  # list views may be in any order
        items = pa.concat_arrays([items.slice(start, stop - start) for start, stop in places])
    offsets = list(accumulate((stop - start for start, stop in places), initial=0))
    if Types.is_list(arrow_type):
        return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), items, type=arrow_type, mask=column.is_null())
    return pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), items, type=arrow_type, mask=column.is_null())


def _map(column: pa.Array, arrow_type: pa.DataType, leaf: _Leaf) -> pa.Array:
    pairs, places = items_of(column)
    keys, items = (
        _rebuilt(child, wanted, leaf)
        for child, wanted in zip(pairs.flatten(), (arrow_type.key_type, arrow_type.item_type), strict=True)
    )
    starts = [
        start if is_valid else None for is_valid, (start, _) in zip(column.is_valid().to_pylist(), places, strict=True)
    ]
    return pa.MapArray.from_arrays(pa.array([*starts, len(pairs)], pa.int32()), keys, items, type=arrow_type)


def nullable(arrow_type: pa.DataType) -> pa.DataType:
    """Return a type with all fields of structs made nullable, so that an array of nulls can have the type."""
    if not Types.is_struct(arrow_type):
        return arrow_type
    return pa.struct([field.with_type(nullable(field.type)).with_nullable(True) for field in arrow_type])  # noqa: FBT003


def storable(arrow_type: pa.DataType) -> pa.DataType:
    """Return the type with which to write a column to Parquet, so that every reader can read the column.

    The null type becomes text. Views become ordinary types, also as the values of a dictionary. Dictionaries inside
    lists and structs become ordinary types too, because pyarrow can't read two row groups of such dictionaries at once.
    """
    if Types.is_null(arrow_type):
        return pa.string()
    if not Types.is_dictionary(arrow_type):
        return _plain(arrow_type)
    value_type = _plain(arrow_type.value_type)
    if value_type == arrow_type.value_type:
        return arrow_type
    return pa.dictionary(arrow_type.index_type, value_type, arrow_type.ordered)


def _plain(arrow_type: pa.DataType) -> pa.DataType:
    if Types.is_string_view(arrow_type):
        return pa.string()
    if Types.is_binary_view(arrow_type):
        return pa.binary()
    if Types.is_run_end_encoded(arrow_type) or Types.is_dictionary(arrow_type):
        return _plain(arrow_type.value_type)
    if Types.is_struct(arrow_type):
        plain = pa.struct([field.with_type(_plain(field.type)) for field in arrow_type])
    elif Types.is_map(arrow_type):
        key, item = (field.with_type(_plain(field.type)) for field in (arrow_type.key_field, arrow_type.item_field))
        plain = pa.map_(key.with_nullable(False), item, arrow_type.keys_sorted)  # noqa: FBT003
    elif is_list(arrow_type):
        plain = _plain_list(arrow_type)
    else:
        return arrow_type
    return arrow_type if plain == arrow_type else plain


def _plain_list(arrow_type: pa.DataType) -> pa.DataType:
    item = arrow_type.value_field.with_type(_plain(arrow_type.value_type))
    if Types.is_fixed_size_list(arrow_type):
        return pa.list_(item, arrow_type.list_size)
    is_large = Types.is_large_list(arrow_type) or Types.is_large_list_view(arrow_type)
    return pa.large_list(item) if is_large else pa.list_(item)
