"""The schema alone fixes a column's type, and each answer that fits the schema can be stored in it."""

from __future__ import annotations

import datetime
import json
from typing import Any

import jsonschema_rs
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchmix.answers.column import AnswerColumn, flat_arrays, flattened
from batchmix.formats.arrow_build import MakeArray, array_of
from tests.documents import page, quoted, tables

TEXT, UTC = pa.string(), pa.timestamp("us", tz="UTC")
POINT = {"type": "object", "properties": {"x": {"type": "number"}}}
DEFS = {"$defs": {"Point": POINT, "Mood": {"enum": ["good", "bad"]}}}


@pytest.mark.parametrize(
    ("schema", "type_"),
    [
        ({"type": "string"}, TEXT),
        ({"enum": ["a", "b", None]}, TEXT),
        ({"enum": [1, None]}, pa.int64()),
        ({"type": "string", "format": "date-time"}, UTC),
        ({"type": ["null", "string"], "format": "date"}, pa.date32()),
        ({"type": "string", "format": "email"}, TEXT),
        ({"type": "integer"}, pa.int64()),
        ({"type": "number"}, pa.float64()),
        ({"type": ["integer", "number"]}, pa.float64()),
        ({"type": "boolean"}, pa.bool_()),
        ({"type": ["integer", "null"]}, pa.int64()),
        ({"type": "array", "items": {"type": "integer"}}, pa.list_(pa.int64())),
        (POINT, pa.struct({"x": pa.float64()})),
        ({"type": "object", "properties": {"b": POINT, "a": True}}, pa.struct({"b": pa.struct({"x": pa.float64()}), "a": TEXT})),
        ({"anyOf": [{"type": "null"}, {"type": "integer"}]}, pa.int64()),
        ({"oneOf": [{"type": "integer"}, {"const": None}]}, pa.int64()),
        ({"anyOf": [{"type": "integer"}, {"type": "number"}, {"type": "null"}]}, pa.float64()),
        ({"anyOf": [{"const": "a"}, {"type": "string", "maxLength": 3}]}, TEXT),
        ({"const": 1}, pa.int64()),
        ({"const": True}, pa.bool_()),
        ({"enum": [1, 2.5]}, pa.float64()),
        ({"allOf": [{"$ref": "#/$defs/Point"}], "title": "P", **DEFS}, pa.struct({"x": pa.float64()})),
        ({"$ref": "#/$defs/Point", "properties": {"y": {"type": "integer"}}, **DEFS}, pa.struct({"x": pa.float64(), "y": pa.int64()})),
        ({"type": "array", "items": {"$ref": "#/$defs/Mood"}, **DEFS}, pa.list_(TEXT)),
    ],
)  # fmt: skip
def test_a_schema_with_one_type_has_its_arrow_type(schema: dict[str, Any], type_: pa.DataType) -> None:
    assert AnswerColumn(schema).type == type_


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"not": {"type": "string"}},
        {"properties": {"a": {"type": "string"}}},
        {"type": "object"},
        {"type": "object", "additionalProperties": {"type": "integer"}},
        {"type": "object", "properties": {}},
        {"type": "array"},
        {"type": "array", "items": {}},
        {"type": "array", "items": False},
        {"type": "array", "prefixItems": [{"type": "integer"}], "items": {"type": "string"}},
        {"type": ["string", "integer"]},
        {"type": "null"},
        {"anyOf": [{"type": "string"}, {"type": "integer"}]},
        {"anyOf": [{"type": "string"}, {}]},
        {"anyOf": [POINT, {"type": "object", "properties": {"y": {}}}]},
        {"anyOf": [{"type": "string", "format": "date"}, {"type": "string"}]},
        {"allOf": [{"type": "string"}, {"maxLength": 3}]},
        {"enum": ["a", 1]},
        {"enum": [True, 1]},
        {"enum": [2**63, 1]},
        {"const": -(2**63) - 1},
        {"const": {"a": 1}},
    ],
)
def test_a_schema_with_no_type_or_several_is_json_text(schema: dict[str, Any]) -> None:
    value = {"b": ["é", None], "a": 1}
    column = AnswerColumn(schema)
    assert column.array([value, "x", None]).equals(pa.array(['{"b":["é",null],"a":1}', '"x"', None], TEXT))


@pytest.mark.parametrize("make", [pa.array, array_of])
@pytest.mark.parametrize(
    ("schema", "values"),
    [
        ({"type": "integer"}, {1.0: 1, -(2**63): -(2**63), 2**63: None, 1e300: None, 1e3: 1000}),
        ({"type": "number"}, {1: 1.0, 2**53 + 1: 2.0**53, 10**400: None, 1.5: 1.5}),
        ({"type": "string"}, {"é": "é", "a\ud800b": "a\ufffdb", "": ""}),
        ({"enum": ["a", None]}, {"a": "a", None: None}),
        ({"type": ["string", "integer"]}, {"\ud800": '"\\ud800"', 2**70: str(2**70)}),
    ],
)
def test_what_the_type_cannot_hold_becomes_null_or_the_nearest(
    schema: dict[str, Any], values: dict[Any, Any], make: MakeArray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By itself, in lists and in objects, whether or not `pyarrow.array` may be called."""
    monkeypatch.setattr("batchmix.answers.column.array_maker", lambda: make)
    given, stored = list(values), list(values.values())
    assert AnswerColumn(schema).array(given).to_pylist() == stored
    assert AnswerColumn({"type": "array", "items": schema}).array([given, None]).to_pylist() == [stored, None]
    column = AnswerColumn({"type": "object", "properties": {"a": schema, "b": {"type": "boolean"}, "c": {}}})
    objects = column.array([{"a": value, "b": True} for value in given]).to_pylist()
    assert objects == [{"a": value, "b": True, "c": None} for value in stored]


def test_the_page_has_the_type_of_each_schema() -> None:
    rows = [row for _, rows in tables(page("jobs/answers.md")) for row in rows if "type of the column" in row]
    assert len(rows) > 20
    for row in rows:
        (schema,), (type_,) = quoted(row["schema"]), quoted(row["type of the column"])
        assert str(AnswerColumn(json.loads(schema)).type) == type_, schema


def test_date_times_become_utc_and_dates_days() -> None:
    utc = datetime.UTC
    values = {
        "2024-02-29T23:30:00.1234569+01:30": datetime.datetime(2024, 2, 29, 22, 0, 0, 123456, utc),
        "2024-01-01t00:00:00z": datetime.datetime(2024, 1, 1, tzinfo=utc),
        "1969-12-31T23:59:59.5-00:00": datetime.datetime(1969, 12, 31, 23, 59, 59, 500000, utc),
        "2016-12-31T23:59:60Z": datetime.datetime(2017, 1, 1, tzinfo=utc),
        "0001-01-01T00:00:00Z": datetime.datetime(1, 1, 1, tzinfo=utc),
        "9999-12-31T23:59:59.999999Z": datetime.datetime(9999, 12, 31, 23, 59, 59, 999999, utc),
        "0000-12-31T23:00:00Z": None,
        "0001-01-01T00:00:00+00:01": None,
        "9999-12-31T23:59:59-00:01": None,
        "9999-12-31T23:59:60Z": None,
    }
    schema = {"type": "string", "format": "date-time"}
    validator = jsonschema_rs.validator_for(schema, validate_formats=True)
    assert all(map(validator.is_valid, values))
    assert AnswerColumn(schema).array(list(values)).to_pylist() == list(values.values())
    dates = {"2024-02-29": datetime.date(2024, 2, 29), "0001-01-01": datetime.date(1, 1, 1), "0000-01-01": None}
    assert AnswerColumn({"type": "string", "format": "date"}).array(list(dates)).to_pylist() == list(dates.values())


def test_objects_keep_the_fields_of_the_schema_and_lose_others() -> None:
    column = AnswerColumn(
        {"type": "object", "properties": {"b": {"type": "integer"}, "a": {"type": "array", "items": POINT}}}
    )
    answers = [{"a": [{"x": 1, "z": 2}, {}], "more": 1, "b": 2.0}, None, {}]
    assert column.array(answers).to_pylist() == [{"b": 2, "a": [{"x": 1.0}, {"x": None}]}, None, {"b": None, "a": None}]
    assert column.array(answers).validate(full=True) is None


def test_a_flattened_column_has_one_for_each_field() -> None:
    column = AnswerColumn({"type": "object", "properties": {"b": {"type": "integer"}, "a": POINT}})
    assert flattened(column) == [("answer.b", pa.int64()), ("answer.a", pa.struct({"x": pa.float64()}))]
    array = column.array([{"b": 1}, None])
    assert [one.to_pylist() for one in flat_arrays(array)] == [[1, None], [None, None]]
    assert pa.table({"answer": array}).flatten().column_names == [name for name, _ in flattened(column)]
    whole = AnswerColumn({"type": "integer"})
    assert flattened(whole) == [("answer", pa.int64())]
    assert flat_arrays(whole.array([1])) == [pa.array([1])]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)
TIMES = st.from_regex(
    r"\A(0000|0001|2016|9999)-(01|12|02)-(01|31|29)[Tt](00|23):(00|59):(00|59|60)(\.[0-9]{1,9})?([Zz]|[+-](00|01|23):(00|59))\Z"
)
DATES = st.from_regex(r"\A(0000|0001|2024|9999)-(01|12|02)-(01|31|29)\Z")


def fitting(schema: dict[str, Any], values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.tuples(st.just(schema), values)


LEAVES = st.one_of(
    fitting({"type": "string"}, st.text()),
    fitting({"type": "string", "format": "date-time"}, TIMES),
    fitting({"type": "string", "format": "date"}, DATES),
    fitting(
        {"type": "integer"},
        st.integers() | st.floats(allow_nan=False, allow_infinity=False).map(lambda x: float(int(x))),
    ),
    fitting({"type": "number"}, st.integers() | st.floats(allow_nan=False, allow_infinity=False)),
    fitting({"type": "boolean"}, st.booleans()),
    fitting({}, JSON),
    fitting({"enum": ["a", None, "b"]}, st.sampled_from(["a", None, "b"])),
    fitting({"enum": [2**63, 1]}, st.sampled_from([2**63, 1])),
    fitting({"enum": [1, 2.5, 3.0]}, st.sampled_from([1, 2.5, 3.0, 3])),
    fitting({"type": ["string", "integer", "null"]}, st.none() | st.text() | st.integers()),
)


@st.composite
def schemas_and_answers(draw: st.DrawFn, depth: int = 3) -> tuple[dict[str, Any], Any]:
    """Draw a schema, and a value that should fit it."""
    kind = draw(st.sampled_from(["leaf", "list", "object", "nullable", "anyOf", "allOf"])) if depth else "leaf"
    if kind == "leaf":
        return draw(LEAVES)
    if kind == "object":
        fields = {
            name: draw(schemas_and_answers(depth - 1))
            for name in draw(st.lists(st.text(max_size=3), unique=True, max_size=4))
        }
        schema = {"type": "object", "properties": {name: inner for name, (inner, _) in fields.items()}}
        return schema, {name: value for name, (_, value) in fields.items() if draw(st.booleans())} | {"more": 1}
    inner, value = draw(schemas_and_answers(depth - 1))
    if kind == "list":
        return {"type": "array", "items": inner}, [value] * draw(st.integers(0, 3))
    if kind == "nullable":
        return {draw(st.sampled_from(["anyOf", "oneOf"])): [inner, {"type": "null"}]}, draw(
            st.sampled_from([value, None])
        )
    if kind == "anyOf":
        other, second = draw(schemas_and_answers(depth - 1))
        return {"anyOf": [inner, other]}, draw(st.sampled_from([value, second]))
    return {"allOf": [inner]}, value


@settings(max_examples=300, deadline=None)
@given(schemas_and_answers(), st.lists(st.booleans(), max_size=4))
def test_every_answer_that_the_validator_accepts_can_be_stored(
    drawn: tuple[dict[str, Any], Any], there: list[bool]
) -> None:
    schema, answer = drawn
    accepted = jsonschema_rs.validator_for(schema, validate_formats=True).is_valid(answer)
    column = AnswerColumn(schema)
    array = column.array([answer if accepted and one else None for one in there])
    array.validate(full=True)
    assert array.type == column.type == AnswerColumn(schema).type
    assert len(array) == len(there)
    assert [type_ for _, type_ in flattened(column)] == [one.type for one in flat_arrays(array)]


@settings(max_examples=100, deadline=None)
@given(schemas_and_answers())
def test_an_array_is_the_same_with_and_without_pandas(drawn: tuple[dict[str, Any], Any]) -> None:
    schema, answer = drawn
    if jsonschema_rs.validator_for(schema, validate_formats=True).is_valid(answer):
        arrays = []
        for make in (pa.array, array_of):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("batchmix.answers.column.array_maker", lambda make=make: make)
                arrays.append(AnswerColumn(schema).array([answer, None, answer]))
        assert arrays[0].equals(arrays[1])
