"""The number that an answer gives is found in all forms of numbers, and one that it only mentions is not."""

from __future__ import annotations

import pytest

from batchmix.scorers.numbers import Number, given_number


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1,234.5 and -3 then \u22124", -4),
        ("H2O and v1 hold none", None),
        ("10 - 4 = 6", 6),
        ("9" * 400, None),
        ("-.5e3", -500),
        ("1.234,5 Euro, nicht 1.000.000", 1234.5),
        ("1/0", None),
        ("version 2.0.1 of 3.5", 3.5),
        ("on 1/2/2024", None),
        ("1.234", 1.234),
        ("0,125", 0.125),
        ("1'234'567.5", 1234567.5),
        ("12,34,567", 1234567),
        ("The answer is obtained by adding 3 and 4, so 7", 7),
        ("The answer, as shown in step 2, is 42.", 42),
        ("The result is 3 + 4 = 7. It holds for 2 of them.", 7),
        ("三百四十二", 342),
        ("zweiundvierzig", 42),
        ("Die Antwort ist zweiundvierzig.", 42),
        ("She has forty-two clips", 42),
        ("2π", None),
        ("2\\sqrt{3}", None),
        ("GPT-4 says: 7", 7),
        ("<think>5? 6?</think>7", 7),
    ],
)
def test_the_number_that_an_answer_gives_is_found(text: str, value: float | None) -> None:
    assert given_number(text, "last").value == value


def test_the_first_number_counts_on_request_if_the_answer_states_no_result() -> None:
    assert given_number("She sold 48 clips, then 24", "first").value == 48
    assert given_number("She sold 48 clips, then 24. Answer: 72", "first").value == 72


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("The answer is 42, since", 1),
        ("The answer is 42", None),  # of 420, perhaps
        ("\\boxed{42}", 1),
        ("The answer is 41, since", 0),
        ("There are 42 boxes with", None),
        ("42", None),
    ],
)
def test_an_answer_that_was_cut_off_has_a_score_only_if_it_had_stated_its_number(
    text: str, score: float | None
) -> None:
    found = Number().score_function()(text, "42", {"finish_reason": "length"})
    assert found.score == score
    assert score is not None or found.explanation
