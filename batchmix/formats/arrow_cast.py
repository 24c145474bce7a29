"""Casts Arrow columns to other Arrow types without Python values, so that values beyond Python's types survive.

pyarrow's own casts do not support structs whose fields differ, dictionaries of other types, or views of lists.
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
"""The type with which pyarrow reads Parquet's intervals; cast to text, such bytes are intervals."""
_Leaf = Callable[[pa.Array, pa.DataType], pa.Array]


def fit(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """Return a column as another type. Raises `pa.ArrowInvalid` for a value that can't be cast.

    Fields of a struct are matched by name; missing ones are null.
    """
    return column if column.type == kind else _rebuilt(column, kind, _cast)


def _cast(column: pa.Array, kind: pa.DataType) -> pa.Array:
    if is_text(kind) and column.type == INTERVAL:
        return pa.array(parquet_intervals(column), kind)
    return column.cast(kind)


def fitted(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return a batch with the columns and types of a schema; missing columns are null."""
    names = batch.schema.names
    columns = [
        fit(batch.column(names.index(field.name)), field.type)
        if field.name in names
        else pa.nulls(batch.num_rows, field.type)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema) if columns else batch


def sound(column: pa.Array) -> pa.Array:
    """Return a column whose texts are valid UTF-8, with U+FFFD for invalid bytes; pyarrow does not check files."""
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        return _rebuilt(column, column.type, _repaired)
    return column


def _repaired(column: pa.Array, kind: pa.DataType) -> pa.Array:
    if not is_text(kind):
        return column
    raw = column.cast(pa.large_string()).cast(pa.large_binary()).to_pylist()
    return pa.array([None if text is None else text.decode("utf-8", "replace") for text in raw], kind)


def _rebuilt(column: pa.Array, kind: pa.DataType, leaf: _Leaf) -> pa.Array:
    """Return a column as another type; `leaf` casts the parts that are not nested."""
    has = column.type
    if Types.is_null(has):
        return pa.nulls(len(column), kind)
    if Types.is_run_end_encoded(has):
        return _rebuilt(compute().run_end_decode(column), kind, leaf)
    if Types.is_dictionary(has):
        return _from_dictionary(column, kind, leaf)
    if is_extension(has):
        inner = _rebuilt(column.storage, kind.storage_type if is_extension(kind) else kind, leaf)
        return pa.ExtensionArray.from_storage(kind, inner) if is_extension(kind) else inner
    if Types.is_struct(has) and Types.is_struct(kind):
        return _struct(column, kind, leaf)
    if Types.is_fixed_size_list(has) and Types.is_fixed_size_list(kind) and has.list_size == kind.list_size:
        items = _rebuilt(items_of(column)[0], kind.value_type, leaf)
        return pa.FixedSizeListArray.from_arrays(items, type=kind, mask=column.is_null())
    if is_list(has) and (Types.is_list(kind) or Types.is_large_list(kind)):
        return _list(column, kind, leaf)
    if Types.is_map(has) and Types.is_map(kind):
        return _map(column, kind, leaf)
    if Types.is_float16(kind) and Types.is_float16(has):
        return column
    return leaf(column, kind)


def _from_dictionary(column: pa.Array, kind: pa.DataType, leaf: _Leaf) -> pa.Array:
    if Types.is_dictionary(kind):
        return pa.DictionaryArray.from_arrays(
            column.indices.cast(kind.index_type), _rebuilt(column.dictionary, kind.value_type, leaf), kind.ordered
        )
    return _rebuilt(column.dictionary, kind, leaf).take(column.indices)


def _struct(column: pa.Array, kind: pa.DataType, leaf: _Leaf) -> pa.Array:
    there: dict[str, Any] = dict(zip([field.name for field in column.type], column.flatten(), strict=True))
    children = [
        _rebuilt(there[field.name], field.type, leaf) if field.name in there else pa.nulls(len(column), field.type)
        for field in kind
    ]
    return pa.StructArray.from_arrays(children, fields=list(kind), mask=column.is_null())


def _list(column: pa.Array, kind: pa.DataType, leaf: _Leaf) -> pa.Array:
    items, places = items_of(column)
    items = _rebuilt(items, kind.value_type, leaf)
    if any(stop != start for (_, stop), (start, _) in pairwise([(0, 0), *places])):  # list views may be in any order
        items = pa.concat_arrays([items.slice(start, stop - start) for start, stop in places])
    offsets = list(accumulate((stop - start for start, stop in places), initial=0))
    if Types.is_list(kind):
        return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), items, type=kind, mask=column.is_null())
    return pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), items, type=kind, mask=column.is_null())


def _map(column: pa.Array, kind: pa.DataType, leaf: _Leaf) -> pa.Array:
    pairs, places = items_of(column)
    keys, items = (
        _rebuilt(child, wanted, leaf)
        for child, wanted in zip(pairs.flatten(), (kind.key_type, kind.item_type), strict=True)
    )
    starts = [start if here else None for here, (start, _) in zip(column.is_valid().to_pylist(), places, strict=True)]
    return pa.MapArray.from_arrays(pa.array([*starts, len(pairs)], pa.int32()), keys, items, type=kind)


def nullable(kind: pa.DataType) -> pa.DataType:
    """Return the type with all fields of structs nullable, so that nulls of it can be made."""
    if not Types.is_struct(kind):
        return kind
    return pa.struct([field.with_type(nullable(field.type)).with_nullable(True) for field in kind])  # noqa: FBT003


def storable(kind: pa.DataType) -> pa.DataType:
    """Return the type with which a column is written to Parquet, so that every reader can read it.

    It has no views, no dictionaries inside of lists and structs (pyarrow can't read two row groups of those at once),
    and is not the null type.
    """
    if Types.is_null(kind):
        return pa.string()
    return kind if Types.is_dictionary(kind) else _plain(kind)


def _plain(kind: pa.DataType) -> pa.DataType:
    if Types.is_string_view(kind):
        return pa.string()
    if Types.is_binary_view(kind):
        return pa.binary()
    if Types.is_run_end_encoded(kind) or Types.is_dictionary(kind):
        return _plain(kind.value_type)
    if Types.is_struct(kind):
        made = pa.struct([field.with_type(_plain(field.type)) for field in kind])
    elif Types.is_map(kind):
        key, item = (field.with_type(_plain(field.type)) for field in (kind.key_field, kind.item_field))
        made = pa.map_(key, item, kind.keys_sorted)
    elif is_list(kind):
        made = _plain_list(kind)
    else:
        return kind
    return kind if made == kind else made


def _plain_list(kind: pa.DataType) -> pa.DataType:
    item = kind.value_field.with_type(_plain(kind.value_type))
    if Types.is_fixed_size_list(kind):
        return pa.list_(item, kind.list_size)
    is_large = Types.is_large_list(kind) or Types.is_large_list_view(kind)
    return pa.large_list(item) if is_large else pa.list_(item)
