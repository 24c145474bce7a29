"""Numbers, choices and JSON are found where people and models write them, and bad text takes little time."""

from __future__ import annotations

import json
import time

import pytest

from batchmix.formats.lenient_json import MAX_DEPTH
from batchmix.scorers.choices import choice
from batchmix.scorers.json_search import JsonFound, json_in
from batchmix.scorers.numbers import numbers


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("The answer is 42.", [42]),
        ("1,234.5 and -3 or \u22124", [1234.5, -3, -4]),
        ("in 2020-2021, pages 3-5", [2020, 2021, 3, 5]),
        ("about $1,000,000 or 5%", [1_000_000, 5]),
        (".5 of 6.02e23", [0.5, 6.02e23]),
        ("H2O and v1 hold none", []),
        ("1,2,3", [1, 2, 3]),
        ("10 - 4 = 6", [10, 4, 6]),
        ("\\boxed{17}", [17]),
        ("9" * 400, []),
        ("", []),
        ("-.5e3", [-500]),
        ("50%", [50]),
        ("1.234,5 Euro, nicht 1.000.000", [1234.5, 1_000_000]),
        ("0,5 oder 12,34", [0.5, 12.34]),
        ("1,234 and 1.234", [1234, 1.234]),
        ("1\u202f234,5", [1234.5]),
        ("3/4, or 2 1/2, or -\\frac{1}{8}", [0.75, 2.5, -0.125]),
        ("on 1/2/2024", [1, 2, 2024]),
        ("1/0", []),
        ("version 2.0.1 of 3.5", [2.0, 3.5]),
    ],
)
def test_numbers_are_found_in_prose(text: str, found: list[float]) -> None:
    assert numbers(text) == found


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"),
        ("b", "B"),
        ("(c).", "C"),
        ("**D**", "D"),
        ("The answer is B.", "B"),
        ("Answer: (C)", "C"),
        ("A is tempting, but the correct answer is D", "D"),
        ("First I thought the answer is A. No: the answer is C.", "C"),
        ("B. Because of the salt", "B"),
        ("B) salt", "B"),
        ("After some thought: C", "C"),
        ("I would go with option **B** here", "B"),
        ("$\\boxed{A}$", "A"),
        ("A dog would eat it, so C it is", "C"),
        ("Both (A) and (B) are right", None),
        ("None of them.", None),
        ("A dog", None),
        ("(c) is right", "C"),
        ("Answer: b", "B"),
        ("Answer: a dog", None),
        ("Both A and B", None),
        ("It is A or B", None),
        ("not B", None),
        ("I think it's B, because the others are wrong", "B"),
        ("正确答案：C。", "C"),
        ("答案是B", "B"),
        ("Die Antwort ist D.", "D"),
        ("E", None),
        ("", None),
    ],
)
def test_a_choice_is_found_and_never_guessed(text: str, letter: str | None) -> None:
    assert choice(text, "ABCD") == letter


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "{" * 1_000_000,
        "1," * 500_000,
        "((A" * 300_000,
        "-" * 1_000_000,
        "```\n" * 200_000,
        "1.234," * 200_000,
        "1/" * 400_000,
        "1 " * 400_000,
        "answer is " * 100_000,
    ],
)
def test_bad_text_costs_little_time(text: str) -> None:
    began = time.process_time()  # CPU time of this process, independent of the machine's load
    numbers(text)
    choice(text, "ABCD")
    json_in(text, {"a": 1})
    json_in(text, [1])
    assert time.process_time() - began < 3


@pytest.mark.parametrize("depth", [150, 600, 990, 5000])
def test_deeply_nested_json_is_read_to_the_same_depth_from_anywhere_in_the_stack(depth: int) -> None:
    """At any depth of the stack, so a text that is scored twice has the same score twice."""

    def deeper(levels: int, text: str) -> object:
        return deeper(levels - 1, text) if levels else json_in(text, {})

    nested = '{"a": 1, "b": ' + "[" * depth + "7" + "]" * depth + "}"
    for text in (nested, f"```json\n{nested}\n```", f"It is {nested}, I think", "[" * depth + nested):
        found = json_in(text, {})
        assert deeper(400, text) == found
        if text[0] != "[":
            assert isinstance(found, JsonFound)
            assert found.value["a"] == 1
            assert json.dumps(found.value).count("[") == MAX_DEPTH - 1
