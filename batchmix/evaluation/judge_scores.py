"""Reads the verdicts of judges from the run folder of their job, and makes one score of each result's verdicts.

Of several judges, the majority of the labels counts, or the median of the grades. Of a pair of answers that was judged
in both orders, a verdict counts only if both orders agree on it, as in Zheng et al., "Judging LLM-as-a-Judge with
MT-Bench and Chatbot Arena" (2023), section 3.4; else the pair is a tie.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from batchmix.engine import reader
from batchmix.evaluation.judge_rows import SAME_COLUMN, QuestionFile, read_questions
from batchmix.records import Completion, Request, Status
from batchmix.scorers.grades import Reading
from batchmix.scorers.indirect import PAIR_SCORES, Judge
from batchmix.scorers.settings import Score
from batchmix.scorers.verdict_forms import judged_verdict, score_of

_PAIRED = "compared"
"""The target of a result that was compared with another one. It is the same for each, as it is no right answer."""
_SWAPPED = {"A": "B", "B": "A", "TIE": "TIE"}
_COLUMNS = ["row", "model", "status", "response", "refusal", "finish_reason", "error_message", "request_hash"]


@dataclasses.dataclass(slots=True)
class Agreement:
    """What became of the judges' requests, and how far judges agree with each other, and with themselves if the order
    of two answers is swapped."""

    verdicts: int = 0
    """The number of answers with a verdict."""
    refused: int = 0
    """The number of refusals."""
    rejected: int = 0
    """The number of requests that the provider rejected."""
    several: int = 0
    """The number of results with verdicts of several judges."""
    disagreed: int = 0
    """The number of these on which the judges were not all of one mind."""
    pairs: int = 0
    """The number of pairs of answers with a verdict in both orders."""
    first: int = 0
    """The number of pairs of which a judge preferred whichever answer came first."""
    second: int = 0
    """The number of pairs of which a judge preferred whichever answer came second."""
    same: int = 0
    """The number of pairs of answers with the same text, which no judge has seen."""

    @property
    def disagreement(self) -> float | None:
        """The share of results on which several judges were not all of one mind."""
        return self.disagreed / self.several if self.several else None

    @property
    def contradicted(self) -> float | None:
        """The share of pairs whose two orders contradict each other."""
        return (self.first + self.second) / self.pairs if self.pairs else None

    @property
    def position_bias(self) -> float | None:
        """The share of pairs decided for whichever came first, less the share for whichever came second."""
        return (self.first - self.second) / self.pairs if self.pairs else None


class _Vote(NamedTuple):
    """The verdict of one judge on one result."""

    judge: str
    reading: Reading
    text: str


class HasVerdict:
    """Says whether a judge's answer to a question, which another run may have, states a verdict that can be read."""

    def __init__(self, judge: Judge, questions: Path) -> None:
        self._judge = judge
        self._questions = QuestionFile(questions)

    def __call__(self, request: Request, completion: Completion) -> bool:
        """Return whether it does. A refusal, for one, does not."""
        answer = {
            "status": Status.OK,
            "finish_reason": completion.finish_reason,
            "response": completion.response,
        }
        return _read(self._judge, answer, self._questions.row(request.row)).value is not None


class JudgeScores:
    """A judge's scores, read from the folder of its job in ascending order of row numbers."""

    def __init__(self, folder: Path, judge: Judge) -> None:
        self.agreement = Agreement()
        self._judge = judge
        self._orders = 2 if judge.compares else 1
        self._answers = _answers(folder / "run")
        self._questions = enumerate(read_questions(folder / "questions.jsonl"))
        self._next: dict[str, Any] | None = next(self._answers, None)

    def at(self, number: int) -> Score:
        """Return the score of the result with this number. Numbers must not decrease from call to call."""
        questions = [self._question(number * self._orders + order) for order in range(self._orders)]
        answers: dict[str, list[dict[str, Any]]] = {}
        for answer in self._answers_up_to(number * self._orders + self._orders - 1):
            if answer["row"] >= number * self._orders:
                answers.setdefault(answer["model"], []).append(answer)
        if questions[0].get(SAME_COLUMN):
            self.agreement.same += 1
            return Score(PAIR_SCORES["TIE"], _PAIRED, "TIE", "both runs have the same answer")
        if self._judge.compares and questions[0].get("response") is None:
            return Score(None, None, None, "the other run has no answer to compare with")
        votes = [self._vote(model, answers.get(model, []), questions) for model in self._judge.judges]
        score = self._decided(votes)
        return Score(score.score, _PAIRED, score.extracted, score.explanation) if self._judge.compares else score

    def _question(self, row: int) -> dict[str, Any]:
        return next((question for at, question in self._questions if at == row), {})

    def _answers_up_to(self, row: int) -> Iterator[dict[str, Any]]:
        while self._next is not None and self._next["row"] <= row:
            yield self._next
            self._next = next(self._answers, None)

    def _vote(self, model: str, answers: list[dict[str, Any]], questions: list[dict[str, Any]]) -> _Vote:
        if len(answers) < self._orders:
            return _Vote(model, Reading(None, "the judge gave no answer: not requested"), "")
        readings = [self._reading(*both) for both in zip(answers, questions, strict=True)]
        text = "\n\n".join(answer["response"] or "" for answer in answers)
        failed = next((reading for reading in readings if reading.value is None), None)
        if failed or not self._judge.compares:
            return _Vote(model, failed or readings[0], text)
        return _Vote(model, self._of_pair(str(readings[0].value), str(readings[1].value)), text)

    def _reading(self, answer: dict[str, Any], question: dict[str, Any]) -> Reading:
        found = _read(self._judge, answer, question)
        self.agreement.verdicts += found.value is not None
        self.agreement.refused += bool(answer["refusal"]) and found.value is None
        self.agreement.rejected += answer["status"] == Status.REJECTED and bool(answer["request_hash"])
        return found

    def _of_pair(self, shown: str, swapped: str) -> Reading:
        """Return the verdict on a pair, given those in which this run's answer was A, and in which it was B."""
        self.agreement.pairs += 1
        self.agreement.first += shown == swapped == "A"
        self.agreement.second += shown == swapped == "B"
        return Reading(shown if shown == _SWAPPED[swapped] else "TIE")

    def _decided(self, votes: list[_Vote]) -> Score:
        given = [vote for vote in votes if vote.reading.value is not None]
        text = votes[0].text if len(votes) == 1 else "\n\n".join(f"{vote.judge}: {vote.text}" for vote in votes)
        if 2 * len(given) <= len(votes):
            missing = next(vote for vote in votes if vote.reading.value is None)
            who = "" if len(votes) == 1 else f"{missing.judge}: "
            return Score(None, None, None, f"{who}{missing.reading.reason}: {missing.text}")
        values = [vote.reading.value for vote in given if vote.reading.value is not None]
        if len(votes) > 1:
            self.agreement.several += 1
            self.agreement.disagreed += len(set(values)) > 1
        value = self._combined(values)
        if value is None:
            return Score(None, None, None, f"the judges are divided: {', '.join(map(str, values))}: {text}")
        shown = value if isinstance(value, str) else f"{value:g}"
        return Score(score_of(self._judge, value), None, shown, text)

    def _combined(self, values: list[str | float]) -> str | float | None:
        """Return the median of grades, or the most frequent label. None if several labels are."""
        grades = [value for value in values if not isinstance(value, str)]
        if grades:
            return float(statistics.median(grades))
        (label, count), *others = Counter(map(str, values)).most_common()
        if others and others[0][1] == count:
            return "TIE" if self._judge.compares else None
        return label


def _read(judge: Judge, answer: Mapping[str, Any], question: Mapping[str, Any]) -> Reading:
    if answer["status"] != Status.OK:
        return Reading(None, f"the judge gave no answer: {answer['error_message']}")
    if answer["finish_reason"] == "length":  # a quotation at the cut may look like a verdict
        return Reading(None, "the judge's answer was cut off; allow it more max_tokens")
    return judged_verdict(judge, answer["response"] or "", question)


def _answers(run: Path) -> Iterator[dict[str, Any]]:
    for batch in reader.results(run, _COLUMNS):
        yield from batch.to_pylist()
