"""Writes schemas of earlier drafts of JSON Schema as those of draft 2020-12, by which answers are made up."""

from __future__ import annotations

from typing import Any

from batchmix.rehearsal.asked_schema import Schema

_DRAFTS = (("draft-04", 4), ("draft-06", 6), ("draft-07", 7), ("2019-09", 2019))
"""What is in `$schema` for each draft before 2020-12."""
_FROM = {
    **dict.fromkeys(("const", "contains", "propertyNames"), 6),
    **dict.fromkeys(("if", "then", "else"), 7),
    **dict.fromkeys(("dependentRequired", "dependentSchemas", "minContains", "maxContains"), 2019),
    **dict.fromkeys(("unevaluatedItems", "unevaluatedProperties"), 2019),
    "prefixItems": 2020,
}  # fmt: skip
"""The draft that brought a keyword. Earlier ones pass over it."""
_FORMATS_FROM = {
    **dict.fromkeys(("json-pointer", "uri-reference", "uri-template"), 6),
    **dict.fromkeys(("regex", "relative-json-pointer"), 7),
    **dict.fromkeys(("iri", "iri-reference", "idn-hostname"), 7),
    **dict.fromkeys(("duration", "uuid"), 2019),
}
"""The draft that brought a format."""
_NAMED = ("properties", "patternProperties", "dependentSchemas", "$defs", "definitions")
_LISTED = ("allOf", "anyOf", "oneOf", "prefixItems")
_SINGLE = (
    "items", "contains", "additionalProperties", "unevaluatedItems", "unevaluatedProperties", "propertyNames", "not",
    "if", "then", "else",
)  # fmt: skip
"""The keywords whose values are schemas by name, lists of schemas, and schemas."""


def modern(schema: Schema) -> Schema:
    """Return a schema that means in draft 2020-12 what `schema` means in its own draft."""
    uri = str(schema.get("$schema", "")) if isinstance(schema, dict) else ""
    draft = next((number for name, number in _DRAFTS if name in uri), None)
    return schema if draft is None else _modern(schema, draft)


def _modern(node: Any, draft: int) -> Any:
    if not isinstance(node, dict):
        return node
    if "$ref" in node and draft <= 7:  # what is beside it has no effect, but may be referred to
        node = {key: node[key] for key in ("$ref", "$defs", "definitions") if key in node}
    known = {key: value for key, value in node.items() if _FROM.get(key, 0) <= draft}
    if isinstance(known.get("items"), list):
        known["prefixItems"] = known.pop("items")
        if "additionalItems" in known:
            known["items"] = known.pop("additionalItems")
    if isinstance(form := known.get("format"), str) and _FORMATS_FROM.get(form, 0) > draft:
        del known["format"]
    if draft == 4:
        for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
            if known.pop(exclusive, False) is True and bound in known:
                known[exclusive] = known.pop(bound)
    if draft <= 7 and isinstance(dependencies := known.pop("dependencies", None), dict):
        known["dependentRequired"] = {name: rule for name, rule in dependencies.items() if isinstance(rule, list)}
        known["dependentSchemas"] = {name: rule for name, rule in dependencies.items() if not isinstance(rule, list)}
    return {key: _inner(key, value, draft) for key, value in known.items()}


def _inner(key: str, value: Any, draft: int) -> Any:
    if key in _NAMED and isinstance(value, dict):
        return {name: _modern(schema, draft) for name, schema in value.items()}
    if key in _LISTED and isinstance(value, list):
        return [_modern(schema, draft) for schema in value]
    return _modern(value, draft) if key in _SINGLE else value
