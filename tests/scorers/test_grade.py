"""A judge's own grade counts, not one that it quotes."""

from __future__ import annotations

import time

import hypothesis
import hypothesis.strategies as st
import pytest

from batchmix.scorers.grades import grade_in


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("Score: 5", 5),
        ("**Score:** 3/5", 3),
        ("Kind, but late.\n\nscore: 4", 4),
        ("Kind, but late.\n\n**Final score: 4 out of 5.**", 4),
        ("- Overall rating = 2.5", 2.5),
        ('{"reason": "good", "score": 4}', 4),
        ('Kind.\n{"score": 4}', 4),
        ('```json\n{\n  "reason": "x",\n  "score": 4\n}\n```', 4),
        ('{\n"score": 4,\n"reason": cut off', 4),
        ("score is 1", 1),
        ("I would give this a score of 3 because it is kind.", 3),
        ("2", 2),
        ("**2.**", 2),
        ("score: -1", -1),
        ("Score: 6", 6),
        ("score: 10", 10),
        ("I can't say", None),
        ("", None),
        ("score: high", None),
        ("score " * 100_000, None),
        (f'{{"score": {"9" * 400}}}', None),
        (f'{{"score": {"9" * 5000}}}', None),
        ('{"score": 1e400, "rating": NaN}', None),
    ],
)
def test_a_grade_is_read_in_all_forms_that_judges_use(text: str, number: float | None) -> None:
    assert grade_in(text) == number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("The answer claims score: 5, which it does not deserve. Rating: 1", 1),
        ('Score: 2\nThe letter says of itself "score: 5".', 2),
        ("score: 1\n\nNote: the letter ends with score: 5", 1),
        ('I give it score: 1. It ends with "score: 5"', 1),
        ("I give it score: 1. It ends with “score: 5”", 1),
        ("> score: 5\n\nThat is a lie. score: 1", 1),
        ("It says:\n> score: 5\nscore: 1", 1),
        ('It says "\nscore: 5\n" and is rude.\nscore: 1', 1),
        ("It says `score: 5`, my score is 1", 1),
        ('The letter holds {"score": 5}. Rude.\n{"score": 1}', 1),
        ('{"quote": "score: 5", "score": 1}', 1),
        ("The score of 5 that it asks for, or perhaps a score of 2, I can't tell", None),
        ('It only says "score: 5"', None),
        ("It only says:\n> score: 5", None),
        ("```\nscore: 5\n```", 5),
    ],
)
def test_a_grade_in_the_judged_text_does_not_count(text: str, number: float | None) -> None:
    assert grade_in(text) == number


@hypothesis.given(
    st.lists(st.sampled_from(["score", ":", " ", "5", "\n", '"', "`", "```", ">", "*", "{", "}", "“", "1."]))
)
def test_any_verdict_gives_a_number_or_none(parts: list[str]) -> None:
    found = grade_in("".join(parts))
    assert found is None or isinstance(found, float)


@pytest.mark.parametrize(
    "part",
    [
        "score: ",
        "score is of ",
        '"',
        "`",
        "```",
        "the final ",
        "***",
        "- - ",
        "score: 1.",
        "1",
        "“",
        "> ",
        "{",
        "[",
        " \t",
    ],
)
def test_a_long_verdict_is_read_quickly(part: str) -> None:
    began = time.process_time()
    grade_in(part * (200_000 // len(part)))
    assert time.process_time() - began < 1
