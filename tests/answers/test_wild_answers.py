"""Answers in the styles of real models, labelled by hand: `valid`, `healable` (with the value) or `invalid`.

The labels are what a careful person would say, who changes no value and picks none of several. They are not to be
adapted to the code.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from batchmix.answers.check import AnswerCheck, Checked, Problem
from batchmix.answers.schema import read_schema

HERE = Path(__file__).parent
ANSWERS: list[dict[str, Any]] = [
    json.loads(line) for line in (HERE / "wild_answers.jsonl").read_text().split("\n")[:-1]
]
CHECKS = {
    name: AnswerCheck(read_schema(schema, HERE))
    for name, schema in json.loads((HERE / "wild_schemas.json").read_text()).items()
}
LEAST_HEALED = 0.98
"""The share of healable answers that must be healed, each to the right value."""


def labelled(label: str) -> list[tuple[dict[str, Any], Checked | Problem]]:
    """Return the answers with a label, and what the check makes of each."""
    return [(line, CHECKS[line["schema"]].check(line["text"])) for line in ANSWERS if line["label"] == label]


def test_there_are_many_answers_of_each_kind() -> None:
    assert {line["schema"] for line in ANSWERS} == set(CHECKS)
    assert len({(line["schema"], line["text"]) for line in ANSWERS}) == len(ANSWERS) >= 300
    assert min(len(labelled(label)) for label in ("valid", "healable", "invalid")) >= 50


def test_no_invalid_answer_is_accepted() -> None:
    assert [line["text"] for line, found in labelled("invalid") if isinstance(found, Checked)] == []


def test_every_valid_answer_is_accepted_as_it_is() -> None:
    wrong = [(line["text"], found) for line, found in labelled("valid") if found != Checked(line["value"])]
    assert wrong == []


def test_healable_answers_are_healed_to_the_right_value() -> None:
    answers = labelled("healable")
    wrong = [(line["text"], found) for line, found in answers if found != Checked(line["value"], healed=True)]
    assert len(wrong) <= (1 - LEAST_HEALED) * len(answers), wrong
    assert all(isinstance(found, Problem) for _, found in wrong), wrong


@pytest.mark.parametrize("label", ["valid", "healable"])
def test_what_has_a_value_is_only_accepted_whole(label: str) -> None:
    """Whatever is cut off within the last bracket or string has no value any more."""
    for line, _ in labelled(label):
        if not isinstance(line["value"], int):
            end = max(map(line["text"].rfind, ["}", "]"])) if not isinstance(line["value"], str) else -1
            end = end if end >= 0 else line["text"].rfind('"')
            assert isinstance(CHECKS[line["schema"]].check(line["text"][:end]), Problem), line["text"]
