"""The Arrow column of the answers that fit a JSON Schema.

The schema alone fixes the type, so the same columns come out each night. Each type follows from a keyword that every
valid answer fulfils, so each valid answer can be stored. What Arrow has no type for is stored as JSON text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import pyarrow as pa

from batchmix.answers.dates import days_since_1970, microseconds_since_1970
from batchmix.answers.schema import resolved
from batchmix.formats.arrow_build import MakeArray, array_maker
from batchmix.formats.text import json_text, utf8

_INT64 = range(-(2**63), 2**63)


class AnswerColumn:
    """The column `answer` for a schema that `read_schema` returned."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self._shape = _shape(schema, schema)
        self.type: pa.DataType = self._shape.type
        """The Arrow type, in which everything may be null."""

    def array(self, values: Sequence[Any]) -> pa.Array:
        """Return JSON values that fit the schema as an Arrow array. None becomes null.

        What Arrow's type can't hold becomes null: an integer beyond 64 bits, a number beyond a double, a date outside
        the years 1 to 9999.
        """
        return _array(self._shape, list(values), array_maker())


def flattened(column: AnswerColumn) -> list[tuple[str, pa.DataType]]:
    """Return the names and types of the columns that take the place of `answer` if it is flattened.

    That is `answer.FIELD` for each top-level field, or only `answer` if an answer is not an object.
    """
    if not pa.types.is_struct(column.type):
        return [("answer", column.type)]
    return [(f"answer.{field.name}", field.type) for field in column.type]


def field_paths(type_: pa.DataType) -> dict[str, tuple[str, ...]]:
    """Return the keys that lead to each field of an answer, at all levels, by the name of its column in a CSV file.

    That is `address.city`. The whole answer, to which no keys lead, is called `answer`. `type_` is that of an
    `AnswerColumn`. Within lists and JSON text there are no fields. If dots make two names the same, the one on the
    upper level counts.
    """
    paths = list(_key_paths(type_))
    named = {".".join(keys): keys for keys in sorted(paths, key=len, reverse=True)}
    return {name: named[name] for name in map(".".join, paths)} | {"answer": named.get("answer", ())}


def _key_paths(type_: pa.DataType, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for field in type_ if pa.types.is_struct(type_) else ():
        yield (*above, field.name)
        yield from _key_paths(field.type, (*above, field.name))


def flat_arrays(array: pa.Array) -> list[pa.Array]:
    """Return an array of answers as one array for each name that `flattened` returns."""
    return list(array.flatten()) if pa.types.is_struct(array.type) else [array]


@dataclass(frozen=True)
class _PlainShape:
    """Values that `pyarrow.array` takes as `stored` once they are converted."""

    type: pa.DataType
    stored: pa.DataType
    converted: Callable[[list[Any]], list[Any]]
    is_direct: bool
    """Whether `pyarrow.array` takes nearly all values as they are."""


@dataclass(frozen=True)
class _ListShape:
    """Lists."""

    type: pa.DataType
    item: _Shape
    is_direct: bool


@dataclass(frozen=True)
class _ObjectShape:
    """Objects whose keys are known."""

    type: pa.DataType
    fields: tuple[tuple[str, _Shape], ...]
    direct: pa.DataType
    """A struct of those fields that are direct."""

    @property
    def is_direct(self) -> bool:
        return len(self.fields) == len(self.direct.names)


_Shape = _PlainShape | _ListShape | _ObjectShape


def _each(convert: Callable[[Any], Any]) -> Callable[[list[Any]], list[Any]]:
    return lambda values: [None if value is None else convert(value) for value in values]


def _texts(values: list[Any]) -> list[Any]:
    if "".join([value for value in values if value is not None]).isascii():
        return values
    return [utf8(value) for value in values]


def _whole(value: float) -> int | None:
    """Return a whole number as an integer, also 1.0 and 1e3. None beyond 64 bits."""
    number = int(value)
    return number if number in _INT64 else None


def _double(value: float) -> float | None:
    """Return the nearest double. None beyond its range."""
    try:
        return float(value)
    except OverflowError:
        return None


def _simple(type_: pa.DataType, converted: Callable[[list[Any]], list[Any]]) -> _PlainShape:
    return _PlainShape(type_, type_, converted, is_direct=True)


_JSON = _PlainShape(pa.string(), pa.string(), lambda values: [json_text(value) for value in values], is_direct=False)
_TEXT = _simple(pa.string(), _texts)
_INTEGER = _simple(pa.int64(), _each(_whole))
_NUMBER = _simple(pa.float64(), _each(_double))
_BOOLEAN = _simple(pa.bool_(), list)
_TYPES = {"string": _TEXT, "integer": _INTEGER, "number": _NUMBER, "boolean": _BOOLEAN}
_FORMATS = {
    "date-time": _PlainShape(pa.timestamp("us", tz="UTC"), pa.int64(), _each(microseconds_since_1970), is_direct=False),
    "date": _PlainShape(pa.date32(), pa.int32(), _each(days_since_1970), is_direct=False),
}
_PYTHON_TYPES: dict[type, _Shape] = {str: _TEXT, bool: _BOOLEAN, int: _INTEGER, float: _NUMBER}


def _shape(schema: dict[str, Any], given: Any) -> _Shape:
    """Return how to store the values of a schema within `schema`."""
    node = resolved(schema, given)
    named = node.get("type", [])
    types = ({named} if isinstance(named, str) else set(named)) - {"null"}
    if not types:
        return _untyped(schema, node)
    if types == {"integer", "number"}:
        return _NUMBER
    if len(types) > 1:
        return _JSON
    (type_,) = types
    if type_ == "object":
        return _fields(schema, node)
    if type_ == "array":
        return _items(schema, node)
    return _FORMATS.get(node.get("format", ""), _TEXT) if type_ == "string" else _TYPES[type_]


def _fields(schema: dict[str, Any], node: dict[str, Any]) -> _Shape:
    if not node.get("properties"):
        return _JSON
    fields = tuple((name, _shape(schema, inner)) for name, inner in node["properties"].items())
    direct = [(name, shape.type) for name, shape in fields if shape.is_direct]
    return _ObjectShape(pa.struct([(name, shape.type) for name, shape in fields]), fields, pa.struct(direct))


def _items(schema: dict[str, Any], node: dict[str, Any]) -> _Shape:
    items = node.get("items")
    if not isinstance(items, dict) or not items or "prefixItems" in node:
        return _JSON
    item = _shape(schema, items)
    return _ListShape(pa.list_(item.type), item, item.is_direct)


def _untyped(schema: dict[str, Any], node: dict[str, Any]) -> _Shape:
    """Return how to store values whose schema names no type, but may say it in other words."""
    if "const" in node or "enum" in node:
        shapes = [
            _JSON if type(value) is int and value not in _INT64 else _PYTHON_TYPES.get(type(value), _JSON)
            for value in ([node["const"]] if "const" in node else node["enum"])
            if value is not None
        ]
    elif len(node.get("allOf", ())) == 1:
        return _shape(schema, node["allOf"][0])
    else:
        options = node.get("anyOf") or node.get("oneOf") or []
        shapes = [_shape(schema, option) for option in options if not _is_null(resolved(schema, option))]
    return _common(shapes)


def _is_null(node: dict[str, Any]) -> bool:
    return node.get("type") in ("null", ["null"]) or ("const" in node and node["const"] is None)


def _common(shapes: list[_Shape]) -> _Shape:
    """Return the one way to store values of several schemas: JSON text if they differ in more than `.0`."""
    distinct = set(shapes)
    if distinct == {_INTEGER, _NUMBER}:
        return _NUMBER
    return distinct.pop() if len(distinct) == 1 else _JSON


def _array(shape: _Shape, values: list[Any], make: MakeArray) -> pa.Array:
    if isinstance(shape, _PlainShape):
        array = make(shape.converted(values), shape.stored)
        return array if shape.type == shape.stored else array.view(shape.type)
    if shape.is_direct and (array := _direct_array(shape.type, values, make)) is not None:
        return array
    nulls = make([value is None for value in values], pa.bool_()) if None in values else None
    if isinstance(shape, _ListShape):
        items = _array(shape.item, [item for value in values if value is not None for item in value], make)
        offsets = accumulate([0 if value is None else len(value) for value in values], initial=0)
        return pa.ListArray.from_arrays(make(list(offsets), pa.int32()), items, type=shape.type, mask=nulls)
    return pa.StructArray.from_arrays(_children(shape, values, make), fields=list(shape.type), mask=nulls)


def _children(shape: _ObjectShape, values: list[Any], make: MakeArray) -> list[pa.Array]:
    """Return an array for each field: of the direct ones all at once, of others one after another."""
    array = _direct_array(shape.direct, values, make)
    arrays = {} if array is None else dict(zip(shape.direct.names, array.flatten(), strict=True))
    return [
        arrays[name]
        if name in arrays
        else _array(inner, [None if value is None else value.get(name) for value in values], make)
        for name, inner in shape.fields
    ]


def _direct_array(type_: pa.DataType, values: list[Any], make: MakeArray) -> pa.Array | None:
    """Return values as `pyarrow.array` takes them, several times as fast as field by field.

    None if it may not be called, since it would import pandas, or if a value has to be converted after all.
    """
    if make is not pa.array:
        return None
    try:
        return make(values, type_)
    except (ValueError, OverflowError):  # lone surrogates, whole numbers beyond 64 bits
        return None
