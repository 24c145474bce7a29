"""Scorers: from an answer and a target to a score. What fails for one answer is that answer's."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from batchmix.errors import JobError
from batchmix.evaluate.extract import NOTHING, choice, json_value, numbers
from batchmix.evaluate.own_scorers import OwnFunction, RunContext
from batchmix.formats.text import text_of as value_text
from batchmix.job.eval_table import Choice, Exact, Includes, Json, Judge, Number, Own, Regex, Scorer, Similarity

_LONGEST = 50_000
"""Characters of a text that are compared by likeness, which takes time by their product."""
_REGEX_S = 0.5
"""Processor time; so is that of the later ones."""
_LATE_REGEX_S = 0.01
_SLOW_MATCHES = 10
"""After so many that were cut off, a pattern gets the shorter time."""


class Score(msgspec.Struct, frozen=True, gc=False):
    """What a scorer says of one answer."""

    score: float | None
    """From 0 to 1 but for scorers of your own; None: there is none, and `explanation` says why."""
    target: str | None = None
    extracted: str | None = None
    """What of the answer was compared."""
    explanation: str | None = None


Row = Mapping[str, Any]
"""The carried columns of a result."""
Score1 = Callable[[str, Any, Row], Score]
"""Scores one answer: its text, its target (None where the scorer has none), its row."""


def scorer_of(asked: Scorer, folder: Path | None) -> Score1:
    """Return what scores single answers.

    `folder` is the job file's; None where there is no job file at hand, and then there is no scorer of your own:
    code is named by a person's job file, never by data that may come from elsewhere. Raises `JobError`.
    """
    if isinstance(asked, Own):
        return OwnScorer(asked, folder)
    if isinstance(asked, Regex):
        return _regex(asked)
    if isinstance(asked, Judge):
        raise TypeError("a judge is asked through a job")
    compare = _BY_TEXT[type(asked)]

    def score(response: str, target: Any, row: Row) -> Score:
        return compare(asked, response, text_of(target), row)

    return score


def text_of(value: Any) -> str:
    """Return a target as text; whole numbers, which may be carried as doubles, without their `.0`."""
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return value_text(value)


def _exact(asked: Exact, response: str, target: str, _: Row) -> Score:
    extracted = response.strip() if asked.strip else response
    wanted = target.strip() if asked.strip else target
    return Score(float(_same(extracted, wanted, casefold=asked.casefold)), target, extracted)


def _includes(asked: Includes, response: str, target: str, _: Row) -> Score:
    found = target.casefold() in response.casefold() if asked.casefold else target in response
    return Score(float(found), target)


def _number(asked: Number, response: str, target: str, _: Row) -> Score:
    wanted, found = numbers(target), numbers(response)
    if len(wanted) != 1:
        return Score(None, target, None, "the target is not one number")
    if not found:
        return Score(0.0, target, None, "no number in the answer")
    value = found[-1 if asked.take == "last" else 0]
    near = math.isclose(value, wanted[0], rel_tol=asked.relative, abs_tol=asked.tolerance)
    return Score(float(near), target, text_of(value))


def _choice(asked: Choice, response: str, target: str, _: Row) -> Score:
    wanted = choice(target, asked.letters)
    if wanted is None:
        return Score(None, target, None, f"the target is none of {asked.letters}")
    found = choice(response, asked.letters)
    return Score(float(found == wanted), target, found, None if found else "no clear choice in the answer")


def _json(asked: Json, response: str, target: str, _: Row) -> Score:
    wanted = json_value(target)
    if wanted is NOTHING:
        return Score(None, target, None, "the target is not JSON")
    found = json_value(response)
    if found is NOTHING:
        return Score(0.0, target, None, "no JSON in the answer")
    extracted = text_of(found)
    if not isinstance(wanted, dict):
        return Score(float(_equal(found, wanted, asked)), target, extracted)
    fields = asked.fields or tuple(wanted)
    if not isinstance(found, dict) or not fields:
        return Score(float(found == wanted), target, extracted, "the answer is not an object")
    wrong = [name for name in fields if name not in found or not _equal(found[name], wanted.get(name), asked)]
    return Score(
        (len(fields) - len(wrong)) / len(fields), target, extracted, f"wrong: {', '.join(wrong)}" if wrong else None
    )


def _equal(found: Any, wanted: Any, asked: Json) -> bool:
    if isinstance(found, str) and isinstance(wanted, str):
        return _same(found.strip(), wanted.strip(), casefold=asked.casefold)
    if isinstance(found, bool) or isinstance(wanted, bool):
        return found is wanted
    if isinstance(found, dict) and isinstance(wanted, dict):
        return found.keys() == wanted.keys() and all(_equal(found[key], wanted[key], asked) for key in wanted)
    if isinstance(found, list) and isinstance(wanted, list):
        return len(found) == len(wanted) and all(_equal(a, b, asked) for a, b in zip(found, wanted, strict=True))
    return bool(found == wanted)


def _similarity(asked: Similarity, response: str, target: str, _: Row) -> Score:
    from rapidfuzz import fuzz

    pair = [text.casefold() if asked.casefold else text for text in (response[:_LONGEST], target[:_LONGEST])]
    return Score(fuzz.ratio(*pair) / 100, target)


def _same(one: str, other: str, *, casefold: bool) -> bool:
    return one.casefold() == other.casefold() if casefold else one == other


_BY_TEXT: dict[type, Callable[[Any, str, str, Row], Score]] = {
    Exact: _exact,
    Includes: _includes,
    Number: _number,
    Choice: _choice,
    Json: _json,
    Similarity: _similarity,
}


def _regex(asked: Regex) -> Score1:
    import regex  # the standard library's `re` has no time-out, and a pattern can take for ever

    try:
        pattern = regex.compile(asked.pattern, regex.IGNORECASE if asked.casefold else 0)
    except regex.error as error:
        raise JobError(f"eval.scorers: {asked.name}: the pattern has an error: {error}") from None
    slow = 0

    def score(response: str, target: Any, _: Row) -> Score:
        nonlocal slow
        limit_s = _REGEX_S if slow < _SLOW_MATCHES else _LATE_REGEX_S
        wanted = None if target is None else text_of(target)
        try:
            match = pattern.search(response, timeout=limit_s)
        except TimeoutError:
            slow += 1
            return Score(None, wanted, None, f"the pattern took longer than {limit_s} s")
        if match is None:
            return Score(0.0, wanted, None, "the pattern is not in the answer")
        extracted = match[1] if pattern.groups and match[1] is not None else match[0]
        right = wanted is None or _same(extracted.strip(), wanted.strip(), casefold=asked.casefold)
        return Score(float(right), wanted, extracted)

    return score


class OwnScorer:
    """A function of a person's own; scores many answers at once, which saves the way to its process and back."""

    def __init__(self, asked: Own, folder: Path | None) -> None:
        if folder is None:
            raise JobError(
                f"eval.scorers: {asked.name} is a function of your own; give the job file, since a run folder names no"
                " code"
            )
        if not re.fullmatch(r"[^:]+:[^:]+", asked.python):
            raise JobError(f"eval.scorers: {asked.name}: python must be module:function")
        self._function = OwnFunction(asked, folder)

    def __call__(self, response: str, target: Any, row: Row) -> Score:
        """Score one answer."""
        return self.scores([(response, target, row)])[0]

    def scores(self, calls: Sequence[RunContext]) -> list[Score]:
        """Score answers, each with its target and its row."""
        given = self._function.scores(calls)
        return [
            Score(number, None if target is None else text_of(target), None, words)
            for (number, words), (_, target, _) in zip(given, calls, strict=True)
        ]
