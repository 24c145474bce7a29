"""The scorers agree with a careful person on labelled answers, and give wrong answers no full score."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from batchmix.scorers.choices import Choice
from batchmix.scorers.numbers import Number
from batchmix.scorers.settings import ScorerSettings
from tests.benchmarks.scoring import CORPORA, FILES, Verdict, broken_promises, verdicts


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_scorers_agree_with_the_labels(path: Path) -> None:
    assert broken_promises(verdicts(path)) == []


def test_no_settled_answer_is_read_otherwise_again() -> None:
    assert [verdict.text for verdict in verdicts(CORPORA / "settled_answers.jsonl") if not verdict.agrees] == []


def test_a_broken_promise_is_told() -> None:
    right = Verdict("exact", "plain", "a", "a", 1.0, 1.0, "")
    assert broken_promises([right] * 100) == []
    assert "1 of 100 answers are wrong and scored as right" in " ".join(
        broken_promises([right] * 99 + [right._replace(expected=0.0)])
    )
    assert "agree" in " ".join(broken_promises([right] * 90 + [right._replace(given=None)] * 10))


@pytest.mark.parametrize("scorer", [Choice(name="choice"), Number(name="number")], ids=lambda scorer: scorer.kind)
@pytest.mark.parametrize(
    "part",
    [
        *["[", "{", "1,", "((A", "-", "```\n", "1.234,", "1/", "1 ", "answer is ", "A ", "(A) ", "A, ", "answer: ", "is "],
        *["\\boxed{", "\\boxed{1}", "<answer>", '"answer": "', "####", "#### 1\n", " ", "\n", "not ", "B is ", "wait, no. "],
        *["A) x\n", "A. Wrong – x\n", "A is x, but ", "\\frac{1}{2}", "1.", "123 456 ", "2^", "1e5", "1万", "one hundred and ", "一二三百千", "x = ", "1(", "$"],
        *["1 x 10^", "5 ± ", "3 to ", "1:", "½", "10⁵", "<think>", "</think>", '"', "-1", "a-", "_", "\\", "\\(", "**1** "],
    ],
)  # fmt: skip
def test_a_long_answer_is_scored_quickly(scorer: ScorerSettings, part: str) -> None:
    function = scorer.score_function()
    text = part * (200_000 // len(part))
    took = []
    for _ in range(3):
        began = time.process_time()  # of this process, independent of the machine's load
        function(f"{text}{len(took)}", "B" if scorer.kind == "choice" else "42", {})
        took.append(time.process_time() - began)
    assert min(took) < 0.3
