"""The JSON in an answer is found where there is one way to read it, and never taken out of something broken."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchmix.answers.healing import FoundJson, NoJson, json_of
from batchmix.formats.lenient_json import MAX_DEPTH

OBJECT = frozenset({"object"})
ARRAY = frozenset({"array"})
INTEGER = frozenset({"integer"})
STRING = frozenset({"string"})
EVERY = frozenset({"object", "array", "string", "number", "integer", "boolean", "null"})


@pytest.mark.parametrize(
    "text",
    [
        '{"a": "```json\\n{}\\n```"}',
        '{"a": "<think>x</think>{}"}',
        ' \n{"a": "x,]"}\r\n\t',
        '{"a": 1, "a": 1}',
        '{"a" : "b:c", "d": "\\":"}',
        "[]",
        '"{}"',
        "null",
    ],
)
def test_valid_json_is_not_touched(text: str) -> None:
    assert json_of(text, OBJECT) == FoundJson(json.loads(text), healed=False)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('```json\n{"a": 1}\n```', {"a": 1}),
        ('```\n{"a": 1}', {"a": 1}),
        ('~~~ JSON5\n{"a": 1}\n~~~', {"a": 1}),
        ('```{"a": 1}```', {"a": 1}),
        ('Sure!\n\n````json\n{"a": "```"}\n````\nAnything else?', {"a": "```"}),
        ('Here [1] with {x} and `[ ]`: {"a": 1} [2], {y}.', {"a": 1}),
        ('{"a": [1, {"b": 2,}, ], }', {"a": [1, {"b": 2}]}),
        ('{"a": "x,}"\n,\n}', {"a": "x,}"}),
        ('\ufeff{"a": 1}\u00a0', {"a": 1}),
        ('<think>{"a": 2} or "</think>{"a": 1}', {"a": 1}),
        ('<think></think>\n<think>x</think>{"a": "</think>"}', {"a": "</think>"}),
        ('It is {"a": 2}, no, { </think> {"a": 1,}', {"a": 1}),
        ('Here: {"a": "x </think> y", "b": {}}', {"a": "x </think> y", "b": {}}),
        ('<thinking>{"a": 2}</thinking>{"a": 1}', {"a": 1}),
        ('[THINK]{"a": 2}, or { [/THINK]{"a": 1}', {"a": 1}),
        ('{"a": 2}</seed:think>{"a": "</thought>"}', {"a": "</thought>"}),
        ("Result: {}", {}),
        ('"Fine", he wrote.\n</think>\n```\n{"a": 1}\n```', {"a": 1}),
        ('{"a": 1, "b": true}\nonce more: {"b": true, "a": 1}', {"a": 1, "b": True}),
        ('With {a, x} then {y}: {"a": 1}', {"a": 1}),
        ('So: [[{"a": 1}]]', [[{"a": 1}]]),
    ],
)
def test_what_has_one_reading_is_healed(text: str, value: Any) -> None:
    assert json_of(text, OBJECT) == FoundJson(value, healed=True)


@pytest.mark.parametrize(
    ("text", "types", "value"),
    [
        ("```json\n5\n```", INTEGER, 5),
        ("```json\n5\n", INTEGER, 5),
        ("``` 5 ```", INTEGER, 5),
        ("<think>6?</think> 5 ", INTEGER, 5),
        ("So:\n~~~\n5\n~~~\nThat is:\n~~~\n5\n~~~", INTEGER, 5),
        ('```\n"use {x} and [y]"\n```', STRING, "use {x} and [y]"),
        ("The numbers: [1, 2,]", ARRAY, [1, 2]),
        ('As [1] says: [{"a": 1}] [2]', ARRAY, [{"a": 1}]),
        ("```\n[1]\n```", EVERY, [1]),
    ],
)
def test_roots_of_other_types_are_healed_too(text: str, types: frozenset[str], value: Any) -> None:
    assert json_of(text, types) == FoundJson(value, healed=True)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "the text is empty"),
        ("\ufeff \n", "the text is empty"),
        ("<think>a</think> ", "there is nothing after the reasoning"),
        ("I can't say.", "there is no valid JSON in it"),
        ('<think>{"a": 1}', "the text ends within its reasoning, before an answer"),
        ('Well <think> {"a": 1}', "its reasoning never ends, or is not in front of the answer"),
        ('{"a": 1}\n<think>', "its reasoning never ends, or is not in front of the answer"),
        ('{"a": 1} or {"a": 2}', "it has several different JSON values, and only one is wanted"),
        ('{"a": 1} or {"a": true}', "it has several different JSON values, and only one is wanted"),
        ('{"a": 1} or {"a": "1"}', "it has several different JSON values, and only one is wanted"),
        ('{"a": 1} or [{"a": 1}]', "it has several different JSON values, and only one is wanted"),
        ("{\"a\": 1}\nCorrection: {'a': 2}", "a second value in it is malformed"),
        ('First {"a": } then {"a": 1}', "a second value in it is malformed"),
        ("{'a': 1}\n{\"a\": 2}", "a second value in it is malformed"),
        ('Such as {"a": 1}. Answer: {„a“: 2}', "a second value in it is malformed"),
        ('"a": {"b": 1}, "c": "cut', "its JSON is cut off, or the brackets don't match"),
        ("printf('{}', x)", "the brackets in it may not be meant as JSON"),
        ('<thinking>Maybe {"a": 1}', "the text ends within its reasoning, before an answer"),
        ('[THINK]Maybe {"a": 1}', "the text ends within its reasoning, before an answer"),
        ('So [THINK]Maybe {"a": 1}', "its reasoning never ends, or is not in front of the answer"),
        ('◁think▷{"a": 1}◁/think▷', "there is nothing after the reasoning"),
        ('{"a": {"b": 1}', "its JSON is cut off, or the brackets don't match"),
        ('Here: {"a": "</think> {}', "its JSON is cut off, or the brackets don't match"),
        ('"a": 1, "b": {"c": 2}}', "its JSON is cut off, or the brackets don't match"),
        ('{"a": 1}}', "its JSON is cut off, or the brackets don't match"),
        ('{"a": [1}, {"b": 2}]', "its JSON is cut off, or the brackets don't match"),
        ('{{"a": 1}}', "it is not valid JSON: object keys must be strings (byte 1)"),
        ('{"a": 1,, "b": 2}', "it is not valid JSON: object keys must be strings (byte 8)"),
        ("{,}", "it is not valid JSON: object keys must be strings (byte 1)"),
        ('{"a": [ ,]}', "it is not valid JSON: invalid character (byte 8)"),
        ("{'a': 1}", "it is not valid JSON: object keys must be strings (byte 1)"),
        ('{"a": 1 // one\n}', "it is not valid JSON: expected ',' or '}' (byte 8)"),
        ('{"a": NaN}', "it is not valid JSON: invalid character (byte 6)"),
        ('{"a": 1e999}', "a number is too large"),
        ('{"a": 1, "b": 2, "a": 3}', "the key 'a' is there twice, with different values"),
        ('{"a": 1, "a" : 2}', "the key 'a' is there twice, with different values"),
        ('{"a":1,"b":"\\":","a":true}', "the key 'a' is there twice, with different values"),
        ('```\n{"a": {"\\u001b": 1, "\\u001b": 2}}\n```', "the key '\\x1b' is there twice, with different values"),
    ],
)
def test_what_has_no_clear_reading_is_refused(text: str, sentence: str) -> None:
    assert json_of(text, OBJECT) == NoJson(sentence)


@pytest.mark.parametrize(
    ("text", "types", "sentence"),
    [
        ("The answer is 5.", INTEGER, "there is no valid JSON in it"),
        ('"a </think> 5', INTEGER, "there is no valid JSON in it"),
        ("- [ ] one\n- [ ] two", ARRAY, "the brackets in it may not be meant as JSON"),
        ("As source [3] says, none.", ARRAY, "the brackets in it may not be meant as JSON"),
        ("```python\nx = []\n```", ARRAY, "the brackets in it may not be meant as JSON"),
        ('See data["name"].', ARRAY, "the brackets in it may not be meant as JSON"),
        ("Such as [\"a\"]. Answer: ['b']", ARRAY, "a second value in it is malformed"),
        ('```\nnull\n```\nNo: {"a": 1}', EVERY, "it has several different JSON values, and only one is wanted"),
        ("```\nnull\n```\nNo: {'a': 1}", EVERY, "a second value in it is malformed"),
        ('```\nnull\n```\n```\n{"a": ', EVERY, "its JSON is cut off, or the brackets don't match"),
        ("```\n5", INTEGER, "the number at its end may be cut off"),
        ("```\n5\n```\n```\n6\n```", INTEGER, "it has several different JSON values, and only one is wanted"),
        ('[{"a": 1}], corrected: []', ARRAY, "it has several different JSON values, and only one is wanted"),
        ("[1]\nThen: [2]", ARRAY, "it has several different JSON values, and only one is wanted"),
    ],
)
def test_roots_of_other_types_are_refused_where_they_are_not_clear(
    text: str, types: frozenset[str], sentence: str
) -> None:
    assert json_of(text, types) == NoJson(sentence)


def test_json_may_be_nested_as_deeply_as_elsewhere_and_no_deeper() -> None:
    deepest = "[" * (MAX_DEPTH) + "]" * (MAX_DEPTH)
    assert json_of(deepest, ARRAY) == FoundJson(json.loads(deepest), healed=False)
    for text in (f"[{deepest}]", f"```\n[{deepest}]\n```", "[" * 50_000 + "]" * 50_000):
        assert json_of(text, ARRAY) == NoJson(f"its JSON is nested more than {MAX_DEPTH} levels deep")


def test_a_lone_surrogate_counts_as_the_sign_that_the_result_has_in_its_place() -> None:
    assert json_of('{"a": "\ud800"}', OBJECT) == FoundJson({"a": "\ufffd"}, healed=False)
    assert json_of('\ud800 {"a": 1}', OBJECT) == json_of('\ufffd {"a": 1}', OBJECT)
    assert isinstance(json_of('{"a": "\\ud800"}', OBJECT), NoJson)


SIGNS = st.sampled_from(
    ["{", "}", "[", "]", '"', "\\", ",", ":", "<think>", "</think>", "```", "\n", "a", "1", "é", " "]
)
TEXTS = st.text(max_size=20) | st.lists(SIGNS, max_size=12).map("".join)
INNER = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | TEXTS,
    lambda part: st.lists(part, max_size=3) | st.dictionaries(TEXTS, part, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(TEXTS, INNER, min_size=1, max_size=4)


AROUND = [
    ("```json\n", "\n```"),
    ("~~~~\n", "\n~~~~\n"),
    ("Here's the {JSON} [1] you \"asked for:\n", "\nHope it helps [2]!"),
    ("\ufeff ", "\n\n"),
    ("<answer>", "</answer>"),
    ('<think>Maybe {"a": "</th" or [</think>', ""),
    ('First {"a": 0}, but no.\n</think>\n\n', ""),
]
"""What may stand in front of an answer, and after it. In an answer with several of them, the last is the outermost."""


@given(OBJECTS, st.sets(st.integers(0, len(AROUND) - 1)), st.booleans(), st.booleans(), st.booleans())
def test_an_object_in_any_wrapping_comes_back_as_it_was(
    value: dict[str, Any], around: set[int], more_comma: bool, twice: bool, readable: bool
) -> None:
    text = json.dumps(value, indent=1 if twice else None, ensure_ascii=not readable)
    text = f"{text[:-1]},\n{text[-1]}" if more_comma else text
    text = f"{text}\n\n{text}" if twice else text
    for front, back in (AROUND[number] for number in sorted(around)):
        text = front + text + back
    found = json_of(text, OBJECT)
    assert found == FoundJson(value, healed=bool(around) or more_comma or twice), text


@given(OBJECTS, st.sampled_from([("", ""), ("```\n", ""), *AROUND]), st.booleans(), st.data())
def test_an_object_that_is_cut_off_is_never_accepted(
    value: dict[str, Any], around: tuple[str, str], readable: bool, data: st.DataObject
) -> None:
    text = json.dumps(value, ensure_ascii=not readable)
    cut = data.draw(st.integers(0, len(text) - 1))
    assert isinstance(json_of(around[0] + text[:cut], OBJECT), NoJson)


@given(st.lists(SIGNS | st.characters(), max_size=60).map("".join), st.sampled_from([OBJECT, ARRAY, INTEGER, EVERY]))
def test_no_text_raises(text: str, types: frozenset[str]) -> None:
    assert isinstance(json_of(text, types), FoundJson | NoJson)


HOSTILE = {
    "open braces": "{",
    "closed braces": "{}",
    "objects": '{"a":1} ',
    "nested": '{"a":[',
    "placeholders": "{x}",
    "backslashes": "\\",
    "a string of backslashes": '{"a":"\\',
    "quotes": '"',
    "escaped quotes": '"\\',
    "names of tags": "</a:think",
    "indexes": "x[0]",
    "keys without end": '{"',
    "ends of reasoning": "</think>",
    "beginnings of reasoning": "<think>",
    "much reasoning": "<think></think>",
    "reasoning in brackets": "[</think>",
    "commas": "[1" + ",",
    "spaces": " ",
    "commas and spaces": ", ",
    "fences": "```\n",
    "fences on one line": "``` ",
    "ticks": "`",
    "lines": "\n",
    "repeated keys": '{"a":1,"a":1} ',
}


@pytest.mark.parametrize("piece", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("back", ["x", ""])
@pytest.mark.parametrize("front", ["", '{"a":', '["', "```\n"])
def test_a_hostile_text_takes_time_in_proportion_to_its_length(piece: str, front: str, back: str) -> None:
    """Ten times the text takes about ten times as long; a hundred times would be quadratic."""

    def seconds(chars: int) -> float:
        text = front + piece * (chars // len(piece)) + back
        best = float("inf")
        for _ in range(2):
            began = time.process_time()
            json_of(text, EVERY)
            best = min(best, time.process_time() - began)
        return best

    assert seconds(50_000) < 40 * seconds(5_000) + 0.01


TOO_MANY = "it is not valid JSON, and has too many brackets or quotation marks to look for a value"


@pytest.mark.parametrize(
    ("piece", "sentence"),
    [
        ("{}", TOO_MANY),
        ("[1] ", TOO_MANY),
        ("<", TOO_MANY),
        ('"', TOO_MANY),
        ("</think>", TOO_MANY),
        ("</think>" + 60 * "-", "it has too many brackets or tags to tell which of them are JSON"),
        ('{"a": 1}' + 200 * " ", "there are more than 1,000 brackets side by side in it"),
    ],
)
def test_the_brackets_that_are_looked_at_are_limited(piece: str, sentence: str) -> None:
    """Each costs some time, in which no other answer is read."""
    assert json_of(1_000_000 // len(piece) * piece + '.{"a": 1}', OBJECT) == NoJson(sentence)


def test_a_valid_answer_may_have_any_number_of_brackets() -> None:
    assert json_of(json.dumps([{"a": 1}] * 60_000), ARRAY) == FoundJson([{"a": 1}] * 60_000, healed=False)
