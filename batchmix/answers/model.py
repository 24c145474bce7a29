"""Turns a Python class into a JSON Schema, or, run as a program by its path, a class that a job file names.

The module of a named class is the user's code: it may hang, exit, or print. So it is imported in a process of its own,
which also leaves batchmix's own modules as they are. The program imports nothing from batchmix.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import inspect

_MARKS = ("__struct_fields__", "__dataclass_fields__", "__total__")
"""What a msgspec Struct, a dataclass and a TypedDict have, each its own."""


_DECIMAL = r"^[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?$"
_TIME = r"^([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]+)?$"
_BASE64 = r"^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"
_BYTES = (inspect.BytesType, inspect.ByteArrayType, inspect.MemoryViewType)
_RECORDS = (inspect.StructType, inspect.DataclassType, inspect.TypedDictType, inspect.NamedTupleType)


def model_schema(model: Any) -> dict[str, Any]:
    """Return the JSON Schema of a pydantic model, a msgspec Struct, a dataclass or a TypedDict.

    A `datetime` is a `date-time`. Raises `TypeError` for a class that is none of them, or with a field of another
    library's type.
    """
    own = getattr(model, "model_json_schema", None) or getattr(pydantic_adapter(model), "json_schema", None)
    if callable(own):
        schema: dict[str, Any] = own()
        return schema
    if not isinstance(model, type) or not any(hasattr(model, mark) for mark in _MARKS):
        raise TypeError(f"{model!r:.100} is not a pydantic model, a msgspec Struct, a dataclass or a TypedDict")
    schema = msgspec.json.schema(model)
    _complete(schema, schema, inspect.type_info(model), set())
    return schema


def pydantic_adapter(model: Any) -> Any:
    """Return pydantic's `TypeAdapter` for a dataclass of pydantic's own. None for any other class."""
    dataclasses = sys.modules.get("pydantic.dataclasses")  # it need not be installed; such a class has imported it
    if dataclasses is None or not dataclasses.is_pydantic_dataclass(model):
        return None
    return sys.modules["pydantic"].TypeAdapter(model)


def _complete(schema: dict[str, Any], node: dict[str, Any], of: inspect.Type, seen: set[str]) -> None:
    """Add what msgspec leaves out of the schema of a type: what texts for times, decimals and bytes are, and the order.

    `node` is the part of `schema` for the type `of`. What `seen` refers to is complete.
    """
    while isinstance(of, inspect.Metadata):
        of = of.type
    if (ref := node.get("$ref")) is not None:
        if ref in seen:
            return
        seen.add(ref)
        node = schema["$defs"][ref.rpartition("/")[2]]
    if isinstance(of, inspect.DateTimeType) and of.tz is None:
        node["format"] = "date-time"
    elif isinstance(of, inspect.TimeType) and of.tz is not True:
        node["pattern"] = _TIME
    elif isinstance(of, inspect.DecimalType):
        node["pattern"] = _DECIMAL
    elif isinstance(of, _BYTES):
        node["pattern"] = _BASE64
    elif isinstance(of, inspect.TypedDictType):  # msgspec sorts its fields
        names = getattr(of.cls, "__origin__", of.cls).__annotations__
        node["properties"] = {name: node["properties"][name] for name in names}
    for inner, type_ in _parts(node, of):
        _complete(schema, inner, type_, seen)


def _parts(node: dict[str, Any], of: inspect.Type) -> Iterator[tuple[dict[str, Any], inspect.Type]]:
    """Yield each schema directly within that of a type, and the type it is for."""
    if isinstance(of, _RECORDS):
        listed = node.get("prefixItems", [])  # has the tag in front, if the class has one
        rest = listed[len(listed) - len(of.fields) :]
        named = rest or [node["properties"][field.encode_name] for field in of.fields]
        yield from zip(named, [field.type for field in of.fields], strict=True)
    elif isinstance(of, inspect.CollectionType) and "items" in node:
        yield node["items"], of.item_type
    elif isinstance(of, inspect.TupleType):
        yield from zip(node.get("prefixItems", []), of.item_types, strict=True)
    elif isinstance(of, inspect.DictType) and "additionalProperties" in node:
        yield node["additionalProperties"], of.value_type
    elif isinstance(of, inspect.UnionType):
        others = [type_ for type_ in of.types if not isinstance(type_, inspect.NoneType)]
        yield from zip(_options(node), sorted(others, key=_is_object), strict=True)


def _options(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the schemas of a union's types but null: those of classes that share a tag are a union within it."""
    for option in node["anyOf"]:
        if "discriminator" in option:
            yield from option["anyOf"]
        elif option != {"type": "null"}:
            yield option


def _is_object(type_: inspect.Type) -> bool:
    """Return whether a type of a union is a Struct that becomes an object, which stands last in the union's schema."""
    while isinstance(type_, inspect.Metadata):
        type_ = type_.type
    return isinstance(type_, inspect.StructType) and not type_.array_like


def _answer(paths: list[str], place: str) -> str:
    """Return `{"schema": …}` as JSON, or `{"problem": …}` with the reason why there is none."""
    sys.path[:] = paths
    module, _, name = place.partition(":")
    try:
        model: Any = importlib.import_module(module)
        for part in name.split("."):
            model = getattr(model, part)
        return json.dumps({"schema": model_schema(model)})
    except BaseException as error:  # noqa: BLE001 - the import runs the user's code
        return json.dumps({"problem": f"{type(error).__name__}: {error}"})


def main() -> None:
    """Read `[paths, place]` as JSON from standard input, and write the answer to standard output."""
    answer_to = os.dup(1)
    os.dup2(2, 1)  # what the user's code prints is no answer
    answer = _answer(*json.load(sys.stdin)).encode()
    while answer:
        answer = answer[os.write(answer_to, answer) :]
    os._exit(0)  # threads of the user's code may still run


if __name__ == "__main__":
    main()
