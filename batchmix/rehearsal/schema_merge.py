"""Joins schemas that a value must fit at the same time, so that a fitting value can be made from one."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from batchmix.rehearsal.asked_schema import Schema
from batchmix.rehearsal.schema_check import resolve, same

_MAX_REFERENCES = 100
"""The most references that are followed for one value. More are a circle."""


def flat_schema(schema: object, root: Schema, depth: int = 0) -> Schema:
    """Return a schema with the same meaning, but without `$ref` and `allOf`. False if no value can fit it."""
    if not isinstance(schema, dict) or depth > _MAX_REFERENCES:
        return isinstance(schema, dict | bool) and bool(schema) and depth <= _MAX_REFERENCES
    if "$ref" not in schema and "allOf" not in schema:
        return schema
    result: Schema = {name: value for name, value in schema.items() if name not in {"$ref", "allOf"}}
    parts = [*([resolve(schema["$ref"], root)] if "$ref" in schema else []), *schema.get("allOf", [])]
    for part in parts:
        result = both(result, flat_schema(part, root, depth + 1))
    return result


def both(one: Schema, other: Schema) -> Schema:
    """Return a schema that a value fits if it fits two schemas, neither with `$ref` or `allOf`."""
    if not isinstance(one, dict) or not isinstance(other, dict):
        return (one if other else False) if not isinstance(other, dict) else (other if one else False)
    result = {**other, **one}
    for keyword in one.keys() & other.keys():
        if keyword in _JOIN:
            result[keyword] = _JOIN[keyword](one[keyword], other[keyword])
    if "properties" in result or "additionalProperties" in result:
        result["properties"] = _properties(one, other)
    impossible = result.get("type") == [] or result.get("enum") == [] or result.get("const") is _NEVER
    return False if impossible else result


def _properties(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Return the properties of both schemas. One that only one schema names must fit the other's rule for the rest."""
    mine, others = one.get("properties", {}), other.get("properties", {})
    rest, others_rest = one.get("additionalProperties", True), other.get("additionalProperties", True)
    names = list(dict.fromkeys((*mine, *others)))
    return {name: _all(mine.get(name, rest), others.get(name, others_rest)) for name in names}


def _all(one: object, other: object) -> object:
    if one is True or other is True:
        return other if one is True else one
    return {"allOf": [one, other]} if one is not False and other is not False else False


def _types(one: str | list[str], other: str | list[str]) -> list[str]:
    first, second = ([found] if isinstance(found, str) else found for found in (one, other))
    number = {"integer", "number"}
    return [
        "integer" if kind in number and not {kind} & set(second) else kind
        for kind in first
        if kind in second or (kind in number and number & set(second))
    ]


_NEVER = object()
_JOIN: dict[str, Callable[[Any, Any], Any]] = {
    "type": _types,
    "enum": lambda one, other: [value for value in one if any(same(value, allowed) for allowed in other)],
    "const": lambda one, other: one if same(one, other) else _NEVER,
    "required": lambda one, other: list(dict.fromkeys((*one, *other))),
    "patternProperties": lambda one, other: {
        pattern: _all(one.get(pattern, True), other.get(pattern, True)) for pattern in {**one, **other}
    },
    **dict.fromkeys(("additionalProperties", "items", "propertyNames", "contains"), _all),
    **dict.fromkeys(
        ("anyOf", "oneOf"), lambda one, other: [_all(mine, its) for mine, its in itertools.product(one, other)]
    ),
    "not": lambda one, other: {"anyOf": [one, other]},
    **dict.fromkeys(("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties", "multipleOf"), max),
    **dict.fromkeys(("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"), min),
    "uniqueItems": lambda one, other: one or other,
}
"""For keywords that two schemas may both have: what joins their values. Of others, the first schema's value counts."""
