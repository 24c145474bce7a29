"""Texts are compared as a person would read them, and never so that another text would be the same."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest

from batchmix.scorers.json_fields import Json
from batchmix.scorers.numbers import Number
from batchmix.scorers.settings import Score, ScorerSettings
from batchmix.scorers.texts import Exact, Includes, Regex, Similarity, TokenF1


def scored(scorer: ScorerSettings, response: str, target: Any, finish_reason: str = "stop") -> Score:
    named = msgspec.structs.replace(scorer, name=scorer.title)
    return named.score_function()(response, target, {"finish_reason": finish_reason})


def test_no_pattern_is_compiled_for_each_target(monkeypatch: pytest.MonkeyPatch) -> None:
    score = Includes().score_function()
    score("It is 1234 (1,234).", "1234", {})
    monkeypatch.setattr("re._compiler.compile", lambda pattern, flags: pytest.fail(f"compiled {pattern}"))
    for number in range(1000, 1600):
        assert score(f"It is {number} ({number:,}).", str(number), {}).score == 1


@pytest.mark.parametrize(
    ("scorer", "response", "target", "score"),
    [
        (Exact(), "“Paris”.", "Paris", 1),
        (Exact(), "Paris", "Paris.", 1),
        (Exact(), "init", "__init__", 0),
        (Exact(), "__init__", "__init__", 1),
        (Exact(), "?", "!", 0),
        (Exact(), "C", "C++", 0),
        (Exact(), "A > B", "A>B", 0),
        (Exact(strip=False), "Paris.", "Paris", 0),
        (Exact(normalize=True), "The  Eiffel-Tower!", "eiffel tower", 1),
        (Exact(normalize=True), "Ｐａｒｉｓ", "paris", 1),
        (Exact(normalize=True), "10.5", "105", 0),
        (Exact(normalize=True), "-5", "5", 0),
        (Exact(normalize=True), "1,234", "1234", 1),
        (Exact(normalize=True), "The", "the", 1),
        (Exact(), "lyon", ["Paris", "Lyon"], 0),
        (Exact(), "Lyon", ["Paris", "Lyon"], 1),
        (Exact(), '["Paris", "Lyon"]', ["Paris", "Lyon"], 1),
        (Includes(), "We went to Lyon", ["Paris", "Lyon"], 1),
        (Includes(), "concatenate", "cat", 0),
        (Includes(words=False), "concatenate", "cat", 1),
        (Includes(), "日本の首都は東京です", "東京", 1),
        (Includes(), "我在Paris呢", "Paris", 1),
        (Includes(), "서울은 한국의 수도", "서울", 1),
        (Includes(), "It is -5 degrees", "5", 0),
        (Includes(), "It is 5.", "5", 1),
        (Includes(), "C++ is fast", "C++", 1),
        (Includes(normalize=True), "It is the U.S.A.", "USA", 1),
        (Regex(pattern=r"Answer: (\w)"), "Answer: A\nAnswer: B", "B", 1),
        (Regex(pattern=r"Answer: (\w)", take="first"), "Answer: A\nAnswer: B", "B", 0),
        (Regex(pattern=r"Answer: (.*)"), "Answer: B\nbecause", "B", 1),
        (Regex(pattern=r"Answer: (\w)"), "<think>Answer: B</think>Answer: A", "B", 0),
        (Regex(pattern=r"<think>.*</think>"), "<think>\nA\n</think>B", None, 1),
        (Regex(pattern=r"(\S+) EUR"), "12.50 EUR", ["1", "12.5"], 1),
        (TokenF1(), "The Eiffel Tower", "Eiffel tower", 1),
        (TokenF1(), "in Paris", "Paris", 2 / 3),
        (TokenF1(), "Rome", "Paris", 0),
        (TokenF1(), "", "Paris", 0),
        (TokenF1(), "北京市", "北京", 0.8),
        (TokenF1(), "Lyon", ["Paris", "Lyon"], 1),
        (Similarity(), "<think>x</think>kitten", "kitten", 1),
    ],
)  # fmt: skip
def test_a_text_gets_its_score(scorer: ScorerSettings, response: str, target: Any, score: float) -> None:
    assert scored(scorer, response, target).score == pytest.approx(score)


@pytest.mark.parametrize(
    ("scorer", "response", "score"),
    [
        (Exact(), "New York", 1),
        (Exact(), "New", None),
        (Exact(), "Old", 0),
        (Includes(), "It is New York, which", 1),
        (Includes(), "It is", None),
        (Regex(pattern="city: (.*)"), "It is", None),
        (Regex(pattern="city: (.*)"), "city: New", None),
        (Regex(pattern="city: (.*)"), "city: Rome\nbecause", 0),
        (TokenF1(), "New", 2 / 3),
        (Similarity(), "New York", 1),
    ],
)  # fmt: skip
def test_an_answer_that_was_cut_off_is_wrong_only_if_the_rest_cannot_be_right(
    scorer: ScorerSettings, response: str, score: float | None
) -> None:
    found = scored(scorer, response, "New York", "length")
    assert found.score == (None if score is None else pytest.approx(score))
    assert score is not None or "cut off" in (found.explanation or "")


@pytest.mark.parametrize("scorer", [Exact(normalize=True), Includes(), Includes(normalize=True), TokenF1()])
@pytest.mark.parametrize("part", ["a", "1,", "the ", "‘", "é", "-", "東", "12,345 ", "</think>"])
def test_a_long_text_is_compared_quickly(scorer: ScorerSettings, part: str) -> None:
    text = part * (200_000 // len(part))
    function = msgspec.structs.replace(scorer, name="x").score_function()
    began = time.process_time()
    function(text, part * 50, {})
    assert time.process_time() - began < 1


_UNSEEN = ["", "   ", "\u200b", '""', '"   "', '"\\u200b"', '[""]', '["", "\u200b"]', [], [" "], [None]]


@pytest.mark.parametrize(
    "scorer", [Exact(), Includes(), Includes(words=False), Regex(pattern="."), Similarity(), TokenF1()]
)
@pytest.mark.parametrize("target", _UNSEEN)
def test_a_target_with_nothing_to_be_seen_in_it_is_empty_also_as_json_text(scorer: ScorerSettings, target: Any) -> None:
    """A column of mixed types has its texts as JSON."""
    assert scorer.is_empty(target)


@pytest.mark.parametrize(
    ("scorer", "target", "is_empty"),
    [
        (Json(), '""', True),
        (Json(), "[]", False),
        (Json(), "{}", False),
        (Json(), '"a"', False),
        (Number(), '" "', True),
        (Exact(), ".", False),
        (Exact(normalize=True), ".", True),
        (Includes(normalize=True), [".", "…"], True),
        (TokenF1(), "?!", True),
        (TokenF1(), "the", False),
    ],
)
def test_a_target_is_empty_if_nothing_of_it_is_compared(scorer: ScorerSettings, target: Any, *, is_empty: bool) -> None:
    """Otherwise each answer would be right, or each wrong."""
    assert scorer.is_empty(target) is is_empty


def test_an_empty_text_beside_others_is_no_right_answer() -> None:
    assert scored(Includes(normalize=True), "It is Rome.", ["!", "Paris"]).score == 0
    assert scored(Includes(), "It is Rome.", ["\u200b", "Paris"]).score == 0
    assert scored(Includes(), "It is Rome.", "\u200b").score is not None  # and the search comes to an end
