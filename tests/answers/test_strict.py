"""A schema is sent as strict only where strict mode can express it, and then it allows nothing that it did not."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from batchmix.answers.strict import is_object_schema, strict_schema

CHECKED_ONLY_HERE = ("minLength", "uniqueItems", "default", "pattern", "format")
"""The keywords of the generated schemas that strict mode may leave out."""


def an_object(properties: dict[str, Any], **keywords: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties} | keywords


def strict(properties: dict[str, Any]) -> dict[str, Any]:
    return an_object(properties, required=list(properties), additionalProperties=False)


@pytest.mark.parametrize(
    ("given_as", "sent_as"),
    [
        ({"type": "string", "minLength": 2, "title": "A"}, {"type": "string", "title": "A"}),
        ({"type": "string", "format": "uri"}, {"type": "string"}),
        ({"type": "string", "format": "date"}, {"type": "string", "format": "date"}),
        ({"type": "string", "pattern": "^a+$"}, {"type": "string", "pattern": "^a+$"}),
        ({"type": "string", "pattern": "^(?!b)a"}, {"type": "string"}),
        ({"type": "string", "minimum": 1, "required": ["b"], "maxItems": 2}, {"type": "string"}),
        ({"type": "integer", "pattern": "a", "format": "date", "maximum": 2}, {"type": "integer", "maximum": 2}),
        ({"enum": ["a", None]}, {"enum": ["a", None], "type": ["string", "null"]}),
        ({"const": 1}, {"const": 1, "type": "integer"}),
        ({"type": "integer", "minimum": 1, "x-unit": "s"}, {"type": "integer", "minimum": 1}),
        ({"oneOf": [{"type": "null"}, {"type": "number"}]}, {"anyOf": [{"type": "null"}, {"type": "number"}]}),
        ({"allOf": [{"type": "null"}], "description": "d"}, {"type": "null", "description": "d"}),
        ({"type": "array", "items": {"type": "null"}}, {"type": "array", "items": {"type": "null"}}),
        (an_object({"b": {"type": "null", "default": None}}), strict({"b": {"type": "null"}})),
        (an_object({}, additionalProperties=False), strict({})),
    ],
)
def test_what_strict_mode_knows_is_kept(given_as: dict[str, Any], sent_as: dict[str, Any]) -> None:
    assert strict_schema(an_object({"a": given_as}, required=["a"])) == (strict({"a": sent_as}), True)


@pytest.mark.parametrize(
    "schema",
    [
        an_object({"a": {"type": "string"}}),  # the model would have to make up what may be left out
        an_object({"a": {"enum": [1, 2]}}),
        an_object({"a": {"type": ["string", "null"], "enum": ["b"]}}),
        an_object({}),
        an_object({"a": {"type": "null"}}, additionalProperties=True),
        an_object({"a": {"type": "null"}}, additionalProperties={"type": "string"}),
        an_object({"a": {"type": "null"}}, required=["a", "b"]),
        an_object({"a": {"type": "object"}}, required=["a"]),
        an_object({"a": {}}, required=["a"]),
        an_object({"a": True}, required=["a"]),
        an_object({"a": {"type": "array"}}, required=["a"]),
        an_object({"a": {"type": "array", "prefixItems": [{"type": "null"}]}}, required=["a"]),
        an_object({"a": {"enum": [{}]}}, required=["a"]),
        an_object({"a": {"allOf": [{"type": "null"}, {"type": "null"}]}}, required=["a"]),
        an_object({"a": {"anyOf": [{"type": "null"}], "type": "null"}}, required=["a"]),
        an_object({"a": {"type": "null", "not": {"const": 1}}}, required=["a"]),
        an_object({"a": {"$ref": "#/$defs/B"}}, required=["a"]),
        an_object({"a": {"$ref": "#/properties/b"}, "b": {"type": "null"}}, required=["a"]),
        {"type": "array", "items": {"type": "string"}},
        {"anyOf": [an_object({}, additionalProperties=False)]},
        {},
    ],
)
def test_what_strict_mode_does_not_know_is_sent_as_it_is(schema: dict[str, Any]) -> None:
    assert strict_schema(schema) == (schema, False)


def test_definitions_refer_to_others_and_need_not_be_strict_if_none_refers_to_them() -> None:
    definitions = {"B": {"$ref": "#/$defs/C"}, "C": {"type": "null"}, "D": {"not": {}}}
    schema = an_object({"a": {"$ref": "#/$defs/B"}}, required=["a"])
    sent = strict({"a": {"$ref": "#/$defs/B"}}) | {"$defs": {"B": {"$ref": "#/$defs/C"}, "C": {"type": "null"}}}
    assert strict_schema(schema | {"$defs": definitions}) == (sent, True)


def test_references_stay_but_for_a_description_beside_them_and_the_root() -> None:
    inner = an_object({"b": {"type": "string", "maxLength": 3}}, required=["b"])
    refs = {"a": {"$ref": "#/$defs/B"}, "c": {"$ref": "#/$defs/B", "description": "another"}}
    definitions = {"B": inner, "C": an_object(refs, required=["a", "c"])}
    sent = strict({"b": {"type": "string"}})
    sent_refs = {"a": {"$ref": "#/$defs/B"}, "c": sent | {"description": "another"}}

    assert strict_schema({"$ref": "#/$defs/C", "$defs": definitions}) == (
        strict(sent_refs) | {"$defs": {"B": sent}},
        True,
    )
    assert is_object_schema({"$ref": "#/$defs/C", "$defs": definitions})


@pytest.mark.parametrize(
    "properties",
    [
        {f"p{number}": {"type": "null"} for number in range(5_001)},
        {"a": {"enum": list(range(1_001))}},
        {"a": {"enum": ["b" * 120_001]}},
    ],
)
def test_what_is_too_large_for_strict_mode_is_sent_as_it_is(properties: dict[str, Any]) -> None:
    schema = an_object(properties, required=list(properties))
    assert strict_schema(schema) == (schema, False)


def test_what_is_nested_too_deeply_for_strict_mode_is_sent_as_it_is() -> None:
    depths = []
    schema: dict[str, Any] = {"type": "null"}
    for _ in range(12):
        schema = an_object({"a": schema}, required=["a"])
        depths.append(strict_schema(schema)[1])
    assert depths == [True] * 10 + [False] * 2


names = st.sampled_from("abc")
leaves = (
    st.fixed_dictionaries(
        {"type": st.just("string")},
        optional={
            "minLength": st.integers(0, 2),
            "default": st.just("a"),
            "pattern": st.sampled_from(["^a", "(?=a)"]),
            "format": st.sampled_from(["date", "uri"]),
        },
    )
    | st.fixed_dictionaries({"type": st.sampled_from(["integer", "number"])}, optional={"minimum": st.integers(-2, 2)})
    | st.just({"type": ["boolean", "null"]})
    | st.fixed_dictionaries({"enum": st.lists(st.sampled_from(["a", 1, None, True]), min_size=1, unique=True)})
    | st.just({"const": "a"})
)


def objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    properties = st.dictionaries(names, inner, min_size=1, max_size=3)
    keywords = st.fixed_dictionaries({}, optional={"additionalProperties": st.sampled_from([False, False, True])})
    all_required = properties.map(lambda them: an_object(them, required=list(them)))
    some_required = st.builds(an_object, properties, required=st.lists(names, unique=True, max_size=1))
    return st.builds(dict.__or__, all_required | all_required | some_required, keywords)


parts = st.recursive(
    leaves,
    lambda inner: (
        objects(inner)
        | st.fixed_dictionaries(
            {"type": st.just("array"), "items": inner},
            optional={"minItems": st.integers(0, 1), "uniqueItems": st.just(True)},
        )
        | st.fixed_dictionaries({"anyOf": st.lists(inner, min_size=1, max_size=2)}, optional={"title": st.just("t")})
        | st.fixed_dictionaries({"oneOf": st.lists(inner, min_size=1, max_size=2)})
        | st.fixed_dictionaries(
            {"allOf": st.lists(inner, min_size=1, max_size=2)}, optional={"description": st.just("d")}
        )
        | st.just({"$ref": "#/$defs/D"})
        | st.fixed_dictionaries({"$ref": st.just("#/$defs/D"), "description": st.just("d")})
    ),
    max_leaves=6,
)
schemas = st.builds(lambda root, defined: root | {"$defs": {"D": defined}}, objects(parts), leaves | objects(leaves))


def relaxed(schema: Any) -> Any:
    """Return a schema without what strict mode leaves out."""
    if isinstance(schema, list):
        return [relaxed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if "properties" in schema:
        inner = {name: relaxed(part) for name, part in schema["properties"].items()}
        return {key: relaxed(value) for key, value in schema.items()} | {"properties": inner}
    return {
        {"oneOf": "anyOf"}.get(key, key): relaxed(value)
        for key, value in schema.items()
        if key not in CHECKED_ONLY_HERE
    }


def values_of(schema: dict[str, Any], root: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Return values for a strict schema. Most fit it; some lack a key, have another one, or are beyond its bounds."""
    if "$ref" in schema:
        return values_of(root["$defs"]["D"], root)
    if "anyOf" in schema:
        return st.one_of([values_of(part, root) for part in schema["anyOf"]])
    if "enum" in schema or "const" in schema:
        return st.sampled_from(schema.get("enum") or [schema["const"]])
    types = {
        "string": st.sampled_from(["a", "b", ""]),
        "integer": st.integers(-3, 3),
        "number": st.floats(-3, 3),
        "boolean": st.booleans(),
        "null": st.none(),
    }
    match schema["type"]:
        case "object":
            inner = {name: values_of(part, root) for name, part in schema["properties"].items()}
            extra = {name: st.just("a") for name in "abc" if name not in inner}
            whole = st.fixed_dictionaries(inner)
            return whole | st.fixed_dictionaries({}, optional=inner) | st.fixed_dictionaries(inner, optional=extra)
        case "array":
            return st.lists(values_of(schema["items"], root), max_size=2)
        case list():
            return st.one_of([types[name] for name in schema["type"]])
        case name:
            return types[name]


@given(st.data())
def test_what_fits_the_strict_schema_has_the_structure_of_the_given_one(data: st.DataObject) -> None:
    schema = data.draw(schemas)
    sent, is_strict = strict_schema(schema)
    assert is_strict or sent == schema
    assume(is_strict)  # Hypothesis complains if this is too rare
    anything = st.recursive(st.none() | st.sampled_from(["a", 1, True]), lambda inner: st.dictionaries(names, inner))
    value = data.draw(values_of(dict(sent), dict(sent)) | anything)
    assert jsonschema_rs.is_valid(relaxed(schema), value) or not jsonschema_rs.is_valid(sent, value)
