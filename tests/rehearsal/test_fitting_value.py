from __future__ import annotations

import json
import re
from random import Random

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchmix.rehearsal.fitting_value import NoFittingValueError, fitting_value

CLOSED = {"additionalProperties": False}
REVIEW = {
    "type": "object",
    "properties": {
        "sentiment": {"enum": ["good", "bad", "mixed"]},
        "stars": {"type": "integer", "minimum": 1, "maximum": 5},
        "price": {"type": "number", "exclusiveMinimum": 0},
        "at": {"type": "string", "format": "date-time"},
        "code": {"type": "string", "pattern": r"^[A-Z]{3}-\d{2,4}$"},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 8}, "minItems": 2, "uniqueItems": True},
        "author": {"$ref": "#/$defs/Person"},
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
    },
    "required": ["sentiment", "stars", "price", "at", "code", "tags", "author"],
    **CLOSED,
    "$defs": {
        "Person": {
            "type": "object",
            "properties": {"name": {"type": "string"}, "friends": {"type": "array", "items": {"$ref": "#/$defs/Person"}}},
            "required": ["name"],
        }
    },
}  # fmt: skip
HARD = [
    True,
    {},
    {"type": ["integer", "null"]},
    {"const": {"a": [1, None]}},
    {"enum": [1, "a", None], "type": "string"},
    {"oneOf": [{"type": "integer"}, {"type": "number", "minimum": 5}]},
    {"oneOf": [{"multipleOf": 3}, {"multipleOf": 5}], "type": "integer"},
    {"anyOf": [False, {"type": "boolean"}]},
    {"not": {"type": "string"}, "type": ["string", "integer"]},
    {"if": {"properties": {"a": {"const": 1}}}, "then": {"required": ["b"]}, "properties": {"a": {"enum": [1, 2]}}},
    {"allOf": [{"type": "number", "minimum": 2}, {"type": "integer", "maximum": 3}]},
    {
        "allOf": [
            {"properties": {"a": {"type": "string"}}, **CLOSED},
            {"properties": {"a": {"minLength": 9}, "b": True}, "required": ["a"]},
        ]
    },
    {"type": "integer", "exclusiveMinimum": 1, "exclusiveMaximum": 3},
    {"type": "integer", "maximum": -5000},
    {"type": "number", "minimum": 0.001, "maximum": 0.002},
    {"type": "number", "multipleOf": 0.25, "minimum": 0.3},
    {"type": "object", "required": ["x"], "additionalProperties": {"type": "integer"}, "minProperties": 3},
    {
        "type": "object",
        "patternProperties": {"^x": {"type": "null"}},
        "required": ["x1"],
        "additionalProperties": False,
    },
    {"type": "object", "properties": {"a": True, "b": True}, "maxProperties": 1, "required": ["b"]},
    {"type": "object", "dependentRequired": {"a": ["b"]}, "properties": {"a": True, "b": True}, "required": ["a", "b"]},
    {"prefixItems": [{"type": "string"}, {"type": "integer"}], "items": False, "minItems": 2},
    {"type": "array", "contains": {"const": 7}, "items": {"type": "integer"}},
    {"type": "array", "items": {"type": "boolean"}, "uniqueItems": True, "minItems": 2},
    {"type": "array", "maxItems": 0},
    {"type": "string", "minLength": 200, "maxLength": 201},
    {"type": "string", "pattern": r"(?!x)", "minLength": 2},
    {"$defs": {"a/b c": {"const": 1}}, "$ref": "#/$defs/a~1b%20c"},
    {"$ref": "#/definitions/A", "definitions": {"A": {"type": "object", "properties": {"next": {"$ref": "#"}}}}},
    {"type": "object", "properties": {"self": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}, "required": ["self"]},
]
FORMATS = [
    "date-time", "date", "time", "duration", "email", "idn-email", "hostname", "idn-hostname", "uri", "uri-reference",
    "iri", "iri-reference", "uuid", "ipv4", "ipv6", "json-pointer", "relative-json-pointer", "regex", "uri-template",
]  # fmt: skip
PATTERNS = [
    r"^[A-Z]{3}-\d{2,4}$", r"^(red|green)?(?:, )x+$", r"\w+@\w+\.com", r"[^a-z]", r"^[\d.,-]{3}$", r"^a{2}b{0,1}c*?$",
    r"^.{5}$", r"^$", r"^\$\d+\.\d{2}$", r"^(\+\d{1,3}|00)[- ]?\d{3,}$", r"[a-]b", r"]",
]  # fmt: skip


def check(schema, value):
    jsonschema_rs.validator_for(schema, validate_formats=True).validate(value)


@pytest.mark.parametrize("schema", [REVIEW, *HARD], ids=str)
def test_a_value_fits(schema):
    for seed in range(50):
        value = fitting_value(schema, Random(seed))
        check(schema, json.loads(json.dumps(value)))


def scalars():
    small = st.integers(0, 6)
    return st.one_of(
        st.just({"type": "boolean"}),
        st.builds(lambda low, more: {"type": "integer", "minimum": low, "maximum": low + more}, small, small),
        st.builds(lambda low, more: {"type": "number", "exclusiveMinimum": low, "maximum": low + more + 1}, small, small),
        st.builds(lambda low, more: {"type": "string", "minLength": low, "maxLength": low + more}, small, small),
        st.builds(lambda form: {"type": "string", "format": form}, st.sampled_from(FORMATS)),
        st.builds(lambda pattern: {"type": "string", "pattern": pattern}, st.sampled_from(PATTERNS)),
        st.builds(lambda values: {"enum": values}, st.lists(st.integers() | st.text() | st.none(), min_size=1)),
        st.builds(lambda value: {"const": value}, st.integers() | st.text() | st.booleans()),
        st.builds(lambda kinds: {"type": kinds}, st.lists(st.sampled_from(["null", "string", "integer"]), min_size=1, unique=True)),
    )  # fmt: skip


def objects(inner):
    def build(fields, closed):
        return {
            "type": "object",
            "properties": {name: schema for name, (schema, _) in fields.items()},
            "required": [name for name, (_, required) in fields.items() if required],
            "additionalProperties": closed,
        }

    return st.builds(
        build, st.dictionaries(st.text(max_size=3), st.tuples(inner, st.booleans()), max_size=5), st.just(False) | inner
    )


def schemas():
    def grow(inner):
        return st.one_of(
            objects(inner),
            st.builds(lambda item, low, more: {"type": "array", "items": item, "minItems": low, "maxItems": low + more}, inner, st.integers(0, 3), st.integers(0, 3)),
            st.builds(lambda branches: {"anyOf": branches}, st.lists(inner, min_size=1, max_size=3)),
            st.builds(lambda schema: {"allOf": [schema, {"description": "x"}]}, inner),
            st.builds(lambda schema: {"oneOf": [schema, {"type": "object", "properties": {"only": {"const": 1}}, "required": ["only"], **CLOSED}]}, scalars()),
        )  # fmt: skip

    return st.recursive(scalars(), grow, max_leaves=12)


@settings(max_examples=600, deadline=None)
@given(schemas(), st.integers(0, 2**32))
def test_a_value_fits_whatever_the_schema(schema, seed):
    check(schema, fitting_value(schema, Random(seed)))


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_text_matches_a_pattern(pattern):
    for seed in range(50):
        assert re.search(pattern, fitting_value({"type": "string", "pattern": pattern}, Random(seed)))


def test_the_same_random_numbers_give_the_same_value():
    assert fitting_value(REVIEW, Random(3)) == fitting_value(REVIEW, Random(3)) != fitting_value(REVIEW, Random(4))


def test_optional_properties_and_nulls_vary():
    values = [fitting_value(REVIEW, Random(seed)) for seed in range(200)]
    notes = [value["note"] for value in values if "note" in value]
    assert 120 < len(notes) < 190
    assert 5 < notes.count(None) < 60
    assert {value["sentiment"] for value in values} == {"good", "bad", "mixed"}


@pytest.mark.parametrize(
    "schema",
    [
        False,
        {"type": "integer", "minimum": 3, "maximum": 2},
        {"allOf": [{"type": "string"}, {"type": "integer"}]},
        {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
        {"$ref": "#"},
        {"type": 5},
        {"type": "number", "multipleOf": 0},
        {"type": "string", "minLength": 1e308},
        {"type": "array", "items": {"type": "null"}, "uniqueItems": True, "minItems": 2},
    ],
    ids=str,
)
def test_a_schema_that_nothing_fits_is_an_error(schema):
    with pytest.raises(NoFittingValueError):
        fitting_value(schema, Random(0))
