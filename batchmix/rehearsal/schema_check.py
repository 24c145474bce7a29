"""Decides whether a JSON value fits a JSON Schema, for answers that the rehearsal makes up.

The rules are those of draft 2020-12 (https://json-schema.org/draft/2020-12), without remote references. It is not the
validator that batchmix checks answers with, so that the two can be tested on each other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import partial
from typing import Any
from urllib.parse import unquote

import msgspec

from batchmix.rehearsal.asked_schema import Schema
from batchmix.rehearsal.format_check import has_format

_ELSEWHERE = frozenset(("$ref", "allOf", "anyOf", "oneOf", "not", "if", "dependentSchemas", "contains"))
"""Keywords whose schemas may speak of items and properties too."""
Rule = Callable[[Any, dict[str, Any], Schema], bool]
"""A function of a value, of the schema with the keyword, and of the root schema, in which references point."""
_NAMED_GROUP = re.compile(r"\(\?<(?![=!])")
"""The beginning of a named group, which Python writes with a P."""
_encoder = msgspec.json.Encoder(order="sorted")


MALFORMED = (ArithmeticError, TypeError, AttributeError, ValueError, KeyError, RecursionError, re.error)
"""What may be raised for a keyword with a value that no schema may have, and for a pattern that Python can't read."""


def fits(value: object, schema: object, root: Schema) -> bool:
    """Return whether a JSON value fits a schema. `root` is the schema in which references are looked up.

    Raises one of `MALFORMED` if that can't be told.
    """
    if not isinstance(schema, dict):
        return schema is not False
    return all(_RULES[keyword](value, schema, root) for keyword in schema if keyword in _RULES)


def resolve(reference: object, root: Schema) -> Schema:
    """Return the part of the root schema that a `$ref` points to. Any value fits one that can't be resolved."""
    found: Any = root
    pointer = unquote(str(reference)).removeprefix("#")
    for step in pointer.split("/")[1:]:
        key = step.replace("~1", "/").replace("~0", "~")
        if isinstance(found, list):
            found = found[int(key)] if key.isdecimal() and int(key) < len(found) else None
        else:
            found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, dict | bool) and str(reference).startswith("#") else True


def same(one: object, other: object) -> bool:
    """Return whether two JSON values are equal. `1` and `1.0` are, `1` and `true` are not."""
    return _key(one) == _key(other)


def _key(value: object) -> bytes:
    return _encoder.encode(_with_integers(value))


def _with_integers(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_with_integers(item) for item in value]
    if isinstance(value, dict):
        return {name: _with_integers(inner) for name, inner in value.items()}
    return value


def type_of(value: object) -> str:
    """Return the JSON type of a value. A number without a fraction is an `integer`."""
    if isinstance(value, float):
        return "integer" if value.is_integer() else "number"
    names = {bool: "boolean", int: "integer", str: "string", list: "array", dict: "object"}
    return names.get(type(value), "null")


def types(schema: Mapping[str, Any]) -> list[str]:
    """Return the types in a schema's `type`, which may be one or a list. Empty if it has none."""
    found = schema.get("type", [])
    return [found] if isinstance(found, str) else list(found)


def property_rules(name: str, schema: dict[str, Any]) -> list[Schema]:
    """Return the schemas that a property must fit, by its name."""
    named = [schema["properties"][name]] if name in schema.get("properties", {}) else []
    patterns = schema.get("patternProperties", {})
    rules = [*named, *(patterns[pattern] for pattern in patterns if _matches(name, pattern))]
    return rules or [schema.get("additionalProperties", True)]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _has_type(value: object, schema: dict[str, Any], root: Schema) -> bool:
    kind, allowed = type_of(value), types(schema)
    return kind in allowed or (kind == "integer" and "number" in allowed)


def _number_rule(keyword: str, holds: Callable[[Any, Any], bool]) -> Rule:
    return lambda value, schema, root: not _is_number(value) or holds(value, schema[keyword])


def _size_rule(keyword: str, kind: type[str | list[Any] | dict[str, Any]], holds: Callable[[int, int], bool]) -> Rule:
    return lambda value, schema, root: not isinstance(value, kind) or holds(len(value), schema[keyword])


def _is_multiple(value: float, step: float) -> bool:
    return (Fraction(str(value)) / Fraction(str(step))).denominator == 1


def _matches(value: object, pattern: str) -> bool:
    """Return whether a text matches a pattern. Raises `re.error` for one that Python can't read."""
    return not isinstance(value, str) or re.search(_NAMED_GROUP.sub("(?P<", pattern), value, re.ASCII) is not None


def _format(value: object, schema: dict[str, Any], root: Schema) -> bool:
    return not isinstance(value, str) or has_format(value, schema["format"])


def _pattern(value: object, schema: dict[str, Any], root: Schema) -> bool:
    return _matches(value, schema["pattern"])


def _one_of(value: object, schema: dict[str, Any], root: Schema) -> bool:
    return sum(fits(value, branch, root) for branch in schema["oneOf"]) == 1


def _condition(value: object, schema: dict[str, Any], root: Schema) -> bool:
    return fits(value, schema.get("then" if fits(value, schema["if"], root) else "else", True), root)


def _properties(value: object, schema: dict[str, Any], root: Schema) -> bool:
    return not isinstance(value, dict) or all(
        fits(inner, rule, root) for name, inner in value.items() for rule in property_rules(name, schema)
    )


def _items(value: object, schema: dict[str, Any], root: Schema) -> bool:
    if not isinstance(value, list):
        return True
    first, rest = schema.get("prefixItems", []), schema.get("items", True)
    return all(fits(item, first[place] if place < len(first) else rest, root) for place, item in enumerate(value))


def _contains(value: object, schema: dict[str, Any], root: Schema) -> bool:
    if not isinstance(value, list):
        return True
    found = sum(fits(item, schema["contains"], root) for item in value)
    return bool(schema.get("minContains", 1) <= found <= schema.get("maxContains", len(value)))


def _rest_is_known(value: object, schema: dict[str, Any], root: Schema, *, keyword: str) -> bool:
    """Return whether what a schema does not speak of fits `unevaluated…`. Raises `KeyError` if other schemas may."""
    if not _ELSEWHERE.isdisjoint(schema):
        raise KeyError(keyword)
    if keyword == "unevaluatedItems":
        return "items" in schema or _items(value, {**schema, "items": schema[keyword]}, root)
    rest = schema.get("additionalProperties", schema[keyword])
    return _properties(value, {**schema, "additionalProperties": rest}, root)


def _dependent(value: object, schema: dict[str, Any], root: Schema) -> bool:
    needed = schema["dependentRequired"]
    return not isinstance(value, dict) or all(set(needed.get(name, ())) <= value.keys() for name in value)


_RULES: dict[str, Rule] = {
    "$ref": lambda value, schema, root: fits(value, resolve(schema["$ref"], root), root),
    "type": _has_type,
    "enum": lambda value, schema, root: any(same(value, allowed) for allowed in schema["enum"]),
    "const": lambda value, schema, root: same(value, schema["const"]),
    "allOf": lambda value, schema, root: all(fits(value, part, root) for part in schema["allOf"]),
    "anyOf": lambda value, schema, root: any(fits(value, branch, root) for branch in schema["anyOf"]),
    "oneOf": _one_of,
    "not": lambda value, schema, root: not fits(value, schema["not"], root),
    "if": _condition,
    "minimum": _number_rule("minimum", lambda value, bound: value >= bound),
    "maximum": _number_rule("maximum", lambda value, bound: value <= bound),
    "exclusiveMinimum": _number_rule("exclusiveMinimum", lambda value, bound: value > bound),
    "exclusiveMaximum": _number_rule("exclusiveMaximum", lambda value, bound: value < bound),
    "multipleOf": _number_rule("multipleOf", _is_multiple),
    "minLength": _size_rule("minLength", str, lambda size, bound: size >= bound),
    "maxLength": _size_rule("maxLength", str, lambda size, bound: size <= bound),
    "pattern": _pattern,
    "format": _format,
    "minItems": _size_rule("minItems", list, lambda size, bound: size >= bound),
    "maxItems": _size_rule("maxItems", list, lambda size, bound: size <= bound),
    "uniqueItems": lambda value, schema, root: (
        not (isinstance(value, list) and schema["uniqueItems"]) or len(set(map(_key, value))) == len(value)
    ),
    "prefixItems": _items,
    "items": _items,
    "contains": _contains,
    "minProperties": _size_rule("minProperties", dict, lambda size, bound: size >= bound),
    "maxProperties": _size_rule("maxProperties", dict, lambda size, bound: size <= bound),
    "required": lambda value, schema, root: not isinstance(value, dict) or set(schema["required"]) <= value.keys(),
    "properties": _properties,
    "patternProperties": _properties,
    "additionalProperties": _properties,
    **{name: partial(_rest_is_known, keyword=name) for name in ("unevaluatedItems", "unevaluatedProperties")},
    "propertyNames": lambda value, schema, root: (
        not isinstance(value, dict) or all(fits(name, schema["propertyNames"], root) for name in value)
    ),
    "dependentRequired": _dependent,
    "dependentSchemas": lambda value, schema, root: (
        not isinstance(value, dict)
        or all(fits(value, part, root) for name, part in schema["dependentSchemas"].items() if name in value)
    ),
}
"""The rule for each keyword that limits which values fit."""
