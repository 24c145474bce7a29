"""The stand-in plays a judge for prompts that ask for a verdict in their last line."""

from __future__ import annotations

import pytest

from batchmix.rehearsal.asked_verdict import asked_verdict
from batchmix.scorers.indirect import Judge
from batchmix.scorers.verdict_forms import form_text


def test_it_understands_what_judges_are_asked() -> None:
    grades = asked_verdict("A rubric\n\n" + form_text(Judge(model="m", rubric="", scale=(1, 5)), {}))
    labels = asked_verdict("A rubric\n\n" + form_text(Judge(model="m", rubric="", labels=("PASS", "FAIL")), {}))
    assert grades is not None
    assert labels is not None
    assert {grades.ending(draw).rpartition(": ")[2] for draw in range(9)} == {"3", "4", "5"}
    assert {labels.ending(draw).rpartition(": ")[2] for draw in range(9)} == {"PASS", "FAIL"}
    assert grades.ending(0).startswith("VERDICT-")


@pytest.mark.parametrize("prompt", ["", "VERDICT-1: 4", "VERDICT-1: <a number from 1 to 5>\nmore", "VERDICT-1: <any>"])
def test_other_prompts_ask_for_no_verdict(prompt: str) -> None:
    assert asked_verdict(prompt) is None
