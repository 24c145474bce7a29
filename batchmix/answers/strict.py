"""A JSON Schema as OpenAI's strict structured outputs take it.

Strict mode takes a part of JSON Schema only (https://platform.openai.com/docs/guides/structured-outputs). The root is
an object, each object lists all its keys as required and allows no others, and many keywords are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from batchmix.answers.schema import resolved

Schema = Mapping[str, Any]

_ANNOTATIONS = frozenset({"title", "description"})
_BOUNDS = ("multipleOf", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
_BOUNDS_OF = {"integer": _BOUNDS, "number": _BOUNDS, "array": ("minItems", "maxItems")}
"""The keywords that are sent as they are, by the type that they belong to. Strict mode refuses them beside others."""
_FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"})
_STRUCTURAL = frozenset(
    {
        "not", "if", "then", "else", "dependentRequired", "dependentSchemas", "dependencies", "patternProperties",
        "prefixItems", "additionalItems", "unevaluatedProperties", "unevaluatedItems", "$dynamicRef", "$recursiveRef",
    }
)  # fmt: skip
"""Strict mode refuses these. Without them the schema would have another structure, so they are not just left out."""
_COMBINING = ("$ref", "allOf", "anyOf", "oneOf")
_LIMITING = {
    "type", "enum", "const", "required", "properties", "additionalProperties", "items", "pattern", "format",
    *_BOUNDS, "minItems", "maxItems", *_COMBINING,
}  # fmt: skip
"""The keywords that may not stand beside one that refers to other schemas or combines them."""
_DEFINITIONS = ("$defs", "definitions")
_REF = re.compile(r"#/(\$defs|definitions)/([^/~%]+)")
_BEYOND_GRAMMARS = re.compile(r"\(\?(?!:)|\\[1-9]|\\k<")
"""Matches what no grammar can express, such as a lookahead: strict mode refuses such patterns."""
_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}
_MAX_PROPERTIES, _MAX_CHOICES, _MAX_CHARS, _MAX_DEPTH = 5_000, 1_000, 120_000, 10
"""What strict mode takes: properties, values of enums, characters of their names and values, and nested levels."""


class _NotStrict(Exception):
    """Raised where strict mode can't express the schema."""


def strict_schema(schema: Schema) -> tuple[Schema, bool]:
    """Return the schema to send, and whether it can be sent as strict.

    If so, whatever fits it also fits the given schema, but for keywords that strict mode lacks (such as `minLength`,
    and that only one part of a `oneOf` may fit): these are left out, so each answer is still to be checked. All
    properties become required. An optional one must therefore allow null or have a default: otherwise the model would
    have to make it up. If the schema can't be strict, it is returned as it is, but for a `$ref` at its root.
    """
    root = resolved(dict(schema), schema)
    try:
        if not is_object_schema(root):
            raise _NotStrict
        sent = _Strict(root).root()
    except _NotStrict:
        return root, False
    return (sent, True) if _is_small(sent) else (root, False)


def is_object_schema(schema: Schema) -> bool:
    """Return whether the root of a schema says that it is an object, which only a schema in a prompt need not be."""
    return resolved(dict(schema), schema).get("type") == "object"


class _Strict:
    """Turns the parts of one schema into their strict form."""

    def __init__(self, root: Schema) -> None:
        self._root = root
        self._open: list[str] = []
        self._referred_to: dict[str, None] = {}

    def root(self) -> dict[str, Any]:
        """Return the strict form of the whole schema, with the definitions that it needs. Raises `_NotStrict`."""
        sent = self._of(self._root)
        done = 0
        while done < len(self._referred_to):  # a definition may refer to further ones
            ref = list(self._referred_to)[done]
            _, key, name = ref.split("/")
            sent.setdefault(key, {})[name] = self._of(self._target(ref))
            done += 1
        return sent

    def _of(self, schema: Any) -> dict[str, Any]:
        if not isinstance(schema, Mapping) or _STRUCTURAL & schema.keys():
            raise _NotStrict
        for key in _COMBINING:
            if key in schema:
                return self._combined(schema, key)
        types = _types_of(schema)
        kept = {"enum", "const", *_ANNOTATIONS, *(key for type_ in types for key in _BOUNDS_OF.get(type_, ()))}
        sent = {key: schema[key] for key in schema if key in kept}
        sent["type"] = types[0] if len(types) == 1 else types
        if "string" in types and schema.get("format") in _FORMATS:
            sent["format"] = schema["format"]
        if "string" in types and "pattern" in schema and not _BEYOND_GRAMMARS.search(schema["pattern"]):
            sent["pattern"] = schema["pattern"]
        if "array" in types:
            sent["items"] = self._of(schema.get("items"))
        if "object" in types:
            sent |= self._object(schema)
        return sent

    def _combined(self, schema: Schema, key: str) -> dict[str, Any]:
        """Return the strict form of a schema that consists of others. Beside them it may only have annotations."""
        if schema.keys() & _LIMITING - {key}:
            raise _NotStrict
        beside = {name: schema[name] for name in schema if name in _ANNOTATIONS}
        if key == "$ref":
            return self._referred(schema["$ref"], beside)
        parts = [self._of(part) for part in schema[key]]
        if key != "allOf":
            return beside | {"anyOf": parts}
        if len(parts) != 1 or "$ref" in parts[0]:
            raise _NotStrict
        return parts[0] | beside

    def _referred(self, ref: str, beside: dict[str, Any]) -> dict[str, Any]:
        """Return a reference, or its target if there is a description beside it: strict mode takes either, not both."""
        target = self._target(ref)
        if "description" not in beside:
            self._referred_to[ref] = None
            return {"$ref": ref}
        if ref in self._open:
            raise _NotStrict  # it refers to itself
        self._open.append(ref)
        sent = self._of(target) | beside
        self._open.pop()
        return sent

    def _target(self, ref: Any) -> Any:
        match = _REF.fullmatch(ref) if isinstance(ref, str) else None
        definitions = self._root.get(match[1], {}) if match else {}
        if match is None or match[2] not in definitions:
            raise _NotStrict
        return definitions[match[2]]

    def _object(self, schema: Schema) -> dict[str, Any]:
        """Return the keywords of a strict object. Raises `_NotStrict` if it may have other keys, or fewer."""
        properties, required = schema.get("properties", {}), schema.get("required", ())
        if schema.get("additionalProperties", not properties) is not False:
            raise _NotStrict  # any keys may be there; where nothing is said of keys beside the named, none are wanted
        for name, below in properties.items():
            if name not in required and not (
                isinstance(below, Mapping) and ("default" in below or self._null_fits(below))
            ):
                raise _NotStrict
        if any(name not in properties for name in required):
            raise _NotStrict
        return {
            "properties": {name: self._of(below) for name, below in properties.items()},
            "required": list(properties),
            "additionalProperties": False,
        }

    def _null_fits(self, schema: Any, depth: int = 0) -> bool:
        """Return whether a property may be null. Its other keywords concern no null, or are refused elsewhere."""
        if not isinstance(schema, Mapping) or depth > _MAX_DEPTH:
            return False
        if "$ref" in schema:
            return self._null_fits(self._target(schema["$ref"]), depth + 1)
        parts = [part for key in ("allOf", "anyOf", "oneOf") for part in schema.get(key, ())]
        if parts:
            return any(self._null_fits(part, depth + 1) for part in parts)
        return "null" in _types_of(schema) and None in schema.get("enum", (None,))


def _types_of(schema: Schema) -> list[str]:
    """Return the names of a schema's types, where there are none those of its choices. Raises `_NotStrict`."""
    given = schema.get("type")
    if given is not None:
        return [given] if isinstance(given, str) else list(given)
    choices = [schema["const"]] if "const" in schema else schema.get("enum", ())
    if not choices or any(type(choice) not in _TYPES for choice in choices):
        raise _NotStrict
    return list(dict.fromkeys(_TYPES[type(choice)] for choice in choices))


def _is_small(schema: Schema) -> bool:
    """Return whether a schema is within the bounds of strict mode."""
    properties = [name for below, _ in _schemas_in(schema, 0) for name in below.get("properties", ())]
    choices = [str(choice) for below, _ in _schemas_in(schema, 0) for choice in below.get("enum", ())]
    return (
        len(properties) <= _MAX_PROPERTIES
        and len(choices) <= _MAX_CHOICES
        and sum(map(len, properties + choices)) <= _MAX_CHARS
        and max(depth for _, depth in _schemas_in(schema, 0)) <= _MAX_DEPTH
    )


def _schemas_in(schema: Schema, depth: int) -> Iterator[tuple[Schema, int]]:
    """Yield a strict schema and all within it, each with the number of objects and lists around it."""
    yield schema, depth
    for key in ("properties", *_DEFINITIONS):
        for below in schema.get(key, {}).values():
            yield from _schemas_in(below, depth + (key == "properties"))
    for below in schema.get("anyOf", ()):
        yield from _schemas_in(below, depth)
    if "items" in schema:
        yield from _schemas_in(schema["items"], depth + 1)
