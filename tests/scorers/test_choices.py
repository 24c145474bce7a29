"""The letter that an answer chooses is found, and one that it only names, weighs or denies is not."""

from __future__ import annotations

import pytest

from batchmix.scorers.choices import Choice, chosen_letter


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"),
        ("b", "B"),
        ("[assistant] **B**", "B"),
        ("[[rehearsal:echo]] B", "B"),
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
    assert chosen_letter(text, "ABCD").value == letter


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("The answer is A. And the answer is B.", "different results"),
        ("The answer is A. Scratch that.", "takes its result back"),
    ],
)
def test_an_answer_that_contradicts_itself_has_no_score(text: str, why: str) -> None:
    found = Choice().score(text, "A")
    assert found.score is None
    assert why in (found.explanation or "")


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("The answer is B, since", 1),
        ("The answer is C, since", 0),
        ("B", 1),
        ("B) Paris. It is the", 1),
        ("I will now go through the options.\n\nSo B", None),
        ("<think>It may be B", None),
        ("", None),
    ],
)
def test_an_answer_that_was_cut_off_has_a_score_only_if_it_had_stated_its_letter(
    text: str, score: float | None
) -> None:
    found = Choice().score_function()(text, "B", {"finish_reason": "length"})
    assert found.score == score
    assert score is not None or found.explanation
