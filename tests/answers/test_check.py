"""An answer is checked by its schema; what is wrong is said in one sentence, with its place."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchmix.answers.check import AnswerCheck, Checked, Problem
from batchmix.answers.column import AnswerColumn
from tests.documents import quoted, table

REVIEW: dict[str, Any] = {
    "type": "object",
    "properties": {
        "mood": {"enum": ["good", "bad"]},
        "stars": {"type": "integer", "minimum": 1},
        "share": {"type": ["number", "null"]},
        "at": {"type": "string", "format": "date-time"},
        "day": {"type": "string", "format": "date"},
        "code": {"type": "string", "pattern": "^(?=[A-Z0-9])(\\w+\\s?)*$"},
        "items": {"type": "array", "items": {"$ref": "#/$defs/item"}},
        "note": {"anyOf": [{"type": "string", "maxLength": 3}, {"type": "null"}]},
        "shape": {
            "oneOf": [
                {"type": "object", "properties": {"kind": {"const": "circle"}, "r": {"type": "number"}}, "required": ["kind", "r"]},
                {"type": "object", "properties": {"kind": {"const": "square"}, "side": {"type": "number"}}, "required": ["kind", "side"]},
            ]
        },
    },
    "required": ["mood"],
    "additionalProperties": {"type": "object"},
    "$defs": {"item": {"type": "object", "properties": {"n/a": {"type": "integer"}}, "required": ["n/a"]}},
}  # fmt: skip
CHECK = AnswerCheck(REVIEW)


def checked(**members: Any) -> Checked | Problem:
    return CHECK.check(json.dumps({"mood": "good", **members}))


def test_a_valid_answer_comes_back_as_its_value() -> None:
    value = {"mood": "bad", "stars": 5, "share": 0.5, "at": "2024-02-29T12:00:00Z", "items": [{"n/a": 1}], "note": None}
    assert CHECK.check(json.dumps(value)) == Checked(value)
    assert CHECK.check(f"Sure: {json.dumps(value)}") == Checked(value, healed=True)


@pytest.mark.parametrize(
    ("members", "path", "sentence"),
    [
        ({"mood": "fine"}, "/mood", '"fine" is not one of "good" or "bad"'),
        ({"stars": "5"}, "/stars", '"5" is not of type "integer"'),
        ({"stars": 0}, "/stars", "0 is less than the minimum of 1"),
        ({"stars": 1.5}, "/stars", '1.5 is not of type "integer"'),
        ({"at": "yesterday"}, "/at", '"yesterday" is not a "date-time"'),
        ({"at": "2024-02-30T00:00:00Z"}, "/at", '"2024-02-30T00:00:00Z" is not a "date-time"'),
        ({"at": "0000-01-01T00:00:00Z"}, "/at", '"0000-01-01T00:00:00Z" is not a "date-time of the years 1 to 9999"'),
        ({"day": "2023-02-29"}, "/day", '"2023-02-29" is not a "date"'),
        ({"day": "0000-12-31"}, "/day", '"0000-12-31" is not a "date of the years 1 to 9999"'),
        ({"items": [{"n/a": 1}, {}]}, "/items/1", '"n/a" is a required property'),
        ({"items": [{"n/a": None}]}, "/items/0/n~1a", 'null is not of type "integer"'),
        ({"note": 4}, "/note", '4 is not of type "string" or "null"'),
        ({"note": "long"}, "/note", '"long" is longer than 3 characters'),
        ({"shape": {"kind": "square"}}, "/shape", '"side" is a required property'),
        ({"mood": "fine", "stars": "5", "items": [{}]}, "/items/0", '"n/a" is a required property (and 2 more)'),
        ({"a\x1b[31m\nb": 1}, "/a\\x1b[31m\\nb", '1 is not of type "object"'),
    ],
)
def test_what_is_wrong_is_said_with_its_path(members: dict[str, Any], path: str, sentence: str) -> None:
    assert checked(**members) == Problem(path, sentence)


@pytest.mark.parametrize("text", [None, "", "no", '{"mood": "good"', "<think>", '{"mood":"good","mood":"bad"}'])
def test_an_answer_without_json_has_no_path(text: str | None) -> None:
    problem = CHECK.check(text)
    assert isinstance(problem, Problem)
    assert problem.path == ""


def test_the_place_of_a_problem_is_the_same_for_each_position_in_a_list() -> None:
    assert Problem("/items/3/tags/12", "").place == "/items/*/tags/*"
    assert Problem("/v2/2x", "").place == "/v2/2x"
    assert Problem("", "").place == ""


@pytest.mark.parametrize("stars", ["9223372036854775808", "1e19", "9223372036854775808.0", "9" * 300])
def test_a_whole_number_that_does_not_fit_into_its_column_is_refused(stars: str) -> None:
    problem = CHECK.check(f'{{"mood": "good", "stars": {stars}}}')
    assert isinstance(problem, Problem)
    assert problem.path == "/stars"
    assert "greater than the maximum" in problem.sentence


def test_numbers_up_to_the_limits_of_their_columns_are_accepted() -> None:
    assert isinstance(checked(stars=2**63 - 1, share=1.5e308), Checked)
    assert isinstance(checked(share=10**307, code="9" * 400), Checked)
    assert CHECK.check(f'{{"mood": "good", "share": 0.{"3" * 400}}}') == Checked({"mood": "good", "share": 1 / 3})
    assert checked(share=10**308) == checked(share=-(10**400)) == Problem("", "a number is too large")


@pytest.mark.parametrize(
    "text",
    [
        '{"mood": "good", "stars": 9223372036854775807, "share": -1.7e308, "day": "0001-01-01"}',
        '{"mood": "good", "stars": 1e3, "at": "9999-12-31T23:59:59.999999999Z", "day": "9999-12-31"}',
        '{"mood": "good", "stars": 5.0, "at": "2016-12-31t23:59:60z"}',
        '{"mood": "good", "at": "0001-01-01T00:00:00-00:00"}',
        '{"mood": "good", "at": "0001-01-01T00:00:00+00:01"}',
        '{"mood": "good", "at": "9999-12-31T23:59:59-00:01"}',
        '{"mood": "good", "stars": 1e300}',
    ],
)
def test_what_is_accepted_fits_into_the_column(text: str) -> None:
    """No field that the answer has is null in the column."""
    found = CHECK.check(text)
    row = AnswerColumn(REVIEW).array([json.loads(text)]).to_pylist()[0]
    assert isinstance(found, Checked) == all(row[name] is not None for name in json.loads(text))


def test_bounds_reach_every_integer_and_leave_names_and_examples_alone() -> None:
    schema = {
        "properties": {"type": {"type": "integer"}, "p": {"prefixItems": [{"type": "integer"}]}},
        "items": {"anyOf": [{"type": "integer", "maximum": 5}, {"type": "string"}]},
        "default": {"type": "integer"},
        "$defs": {"properties": {"type": "integer"}},
    }
    before = json.dumps(schema)
    check = AnswerCheck(schema)
    for text, ok in [
        ('{"type": 1}', True),
        ('{"type": 18446744073709551616}', False),
        ('{"p": [18446744073709551616]}', False),
        ("[5]", True),
        ("[6]", False),
        ("[-18446744073709551616]", False),
    ]:
        assert isinstance(check.check(text), Checked) == ok, text
    assert json.dumps(schema) == before
    assert isinstance(AnswerCheck({"not": {"type": "integer"}}).check(str(2**64)), Problem)


@pytest.mark.parametrize(
    ("schema", "text", "value"),
    [
        ({"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"type": "object"}}}, 'See [1]: {"a": 1}', {"a": 1}),
        ({"anyOf": [{"type": "object"}, {"type": "null"}]}, 'See [1]: {"a": 1}', {"a": 1}),
        ({"type": "array"}, "So: [1]", [1]),
        ({"enum": ["yes", "no"]}, '```\n"yes"\n```', "yes"),
        ({"const": True}, "```\ntrue\n```", True),
        ({"properties": {}}, "```\n5\n```", 5),
    ],
)
def test_the_schema_says_what_counts_amid_other_text(schema: dict[str, Any], text: str, value: Any) -> None:
    assert AnswerCheck(schema).check(text) == Checked(value, healed=True)


@pytest.mark.parametrize("address", ["https://example.com/a.json", "file:///etc/hostname"])
def test_no_schema_is_fetched(address: str) -> None:
    with pytest.raises(ValueError, match="Retrieval is disabled"):
        AnswerCheck({"$ref": address})


def test_a_pattern_that_would_take_for_ever_does_not_match() -> None:
    began = time.process_time()
    assert checked(code="A" * 40 + "!") != checked(code="A")
    assert time.process_time() - began < 2


@pytest.mark.parametrize("value", ["x" * 100_000, {"x" * 5000: "y"}, [[1]] * 20_000, "\u202e\x00\n" * 1000])
def test_a_sentence_stays_short_and_ends_with_what_is_wrong(value: Any) -> None:
    problem = checked(stars=value)
    assert isinstance(problem, Problem)
    assert len(problem.sentence) < 1000
    assert problem.sentence.isprintable()
    assert problem.sentence.endswith('is not of type "integer"')


def test_many_errors_are_not_all_counted() -> None:
    problem = checked(items=[{}] * 10_000)
    assert problem == Problem("/items/0", '"n/a" is a required property (and 49 or more)')


@given(st.text() | st.text('{}[]":,\\\ud800\x00 1atruenl-.eE').map(lambda text: f'{{"mood": "good", "x": {text}'))
def test_no_text_raises(text: str) -> None:
    assert isinstance(CHECK.check(text), Checked | Problem)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda part: st.lists(part) | st.dictionaries(st.text() | st.sampled_from(list(REVIEW["properties"])), part),
)


@given(JSON)
def test_no_value_raises_and_the_same_problem_is_found_again(value: Any) -> None:
    text = json.dumps(value)
    assert CHECK.check(text) == AnswerCheck(REVIEW).check(text)


def test_what_the_page_says_of_healing_is_so() -> None:
    stars = {"type": "object", "properties": {"stars": {"type": "integer"}}, "required": ["stars"]}
    check = AnswerCheck(stars)
    for row in table("jobs/answers.md", "answer", "value", "healed"):
        (text,) = quoted(row["answer"])
        found = check.check(text.replace("\\n", "\n"))
        if row["value"] == "none":
            assert isinstance(found, Problem), text
            assert not row["healed"]
        else:
            assert found == Checked(json.loads(quoted(row["value"])[0]), healed=row["healed"] == "yes"), text
