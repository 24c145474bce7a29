"""Scorers: functions that score an answer. If an answer can't be scored, its score is None, and no error is raised.

To add a scorer: add a class with its settings to `batchmix/job/eval_table.py`, where `tag` is its `kind` in the job
file; write a function like `_exact` here; and enter both in `_SCORERS` below.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from batchmix.errors import JobError
from batchmix.evaluate.custom_scorer import CustomFunction, ScorerCall
from batchmix.evaluate.extract import NOTHING, choice, find_json, numbers
from batchmix.formats.text import text_of
from batchmix.job.eval_table import Choice, Custom, Exact, Includes, Json, Number, Regex, Scorer, Similarity

_MAX_CHARS = 50_000
"""The most characters of each text that `similarity` compares. Its time grows with the product of both lengths."""
_REGEX_S = 0.5
"""Seconds of processor time that a pattern may take for one answer."""
_LATE_REGEX_S = 0.01
"""Seconds of processor time for one answer, once the pattern has timed out `_SLOW_MATCHES` times."""
_SLOW_MATCHES = 10
"""The number of time-outs after which a pattern gets less time."""


class Score(msgspec.Struct, frozen=True, gc=False):
    """The result of one scorer for one answer."""

    score: float | None
    """A number from 0 to 1, or any number from a custom scorer. None if there is none; `explanation` then says why."""
    target: str | None = None
    extracted: str | None = None
    """The part of the answer that was compared with the target."""
    explanation: str | None = None


Row = Mapping[str, Any]
"""The carried columns of a result."""
ScoreFunction = Callable[[str, Any, Row], Score]
"""Scores one answer, given its text, its target (None if the scorer has no target column) and its row."""
ScorerMaker = Callable[[Any, Path | None], ScoreFunction]
"""Makes a score function from a scorer's settings and the job file's folder. Raises `JobError`."""


def score_function(config: Scorer, folder: Path | None) -> ScoreFunction:
    """Return the function for a scorer other than a judge, given its settings. Raises `JobError`.

    `folder` is the folder of the job file. It is None if there is no job file. Then custom scorers are refused, because
    a run folder may come from somebody else and must not name code to run.
    """
    return _SCORERS[type(config)](config, folder)


def target_text(value: Any) -> str:
    """Return a target, or what is compared with it, as text. A whole number stored as a double gets no `.0`."""
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return text_of(value)


def _exact(config: Exact, response: str, target: str, _: Row) -> Score:
    extracted = response.strip() if config.strip else response
    wanted = target.strip() if config.strip else target
    return Score(float(_same(extracted, wanted, casefold=config.casefold)), target, extracted)


def _includes(config: Includes, response: str, target: str, _: Row) -> Score:
    is_included = target.casefold() in response.casefold() if config.casefold else target in response
    return Score(float(is_included), target)


def _number(config: Number, response: str, target: str, _: Row) -> Score:
    wanted, found = numbers(target), numbers(response)
    if len(wanted) != 1:
        return Score(None, target, None, "the target is not one number")
    if not found:
        return Score(0.0, target, None, "no number in the answer")
    value = found[-1 if config.take == "last" else 0]
    near = math.isclose(value, wanted[0], rel_tol=config.relative, abs_tol=config.tolerance)
    return Score(float(near), target, target_text(value))


def _choice(config: Choice, response: str, target: str, _: Row) -> Score:
    wanted = choice(target, config.letters)
    if wanted is None:
        return Score(None, target, None, f"the target is none of {config.letters}")
    found = choice(response, config.letters)
    return Score(float(found == wanted), target, found, None if found else "no clear choice in the answer")


def _json(config: Json, response: str, target: str, _: Row) -> Score:
    wanted = find_json(target)
    if wanted is NOTHING:
        return Score(None, target, None, "the target is not JSON")
    found = find_json(response)
    if found is NOTHING:
        return Score(0.0, target, None, "no JSON in the answer")
    extracted = target_text(found)
    if not isinstance(wanted, dict):
        return Score(float(_equal(found, wanted, config)), target, extracted)
    fields = config.fields or tuple(wanted)
    if not isinstance(found, dict) or not fields:
        return Score(float(found == wanted), target, extracted, "the answer is not an object")
    wrong = [name for name in fields if name not in found or not _equal(found[name], wanted.get(name), config)]
    return Score(
        (len(fields) - len(wrong)) / len(fields), target, extracted, f"wrong: {', '.join(wrong)}" if wrong else None
    )


def _equal(found: Any, wanted: Any, config: Json) -> bool:
    if isinstance(found, str) and isinstance(wanted, str):
        return _same(found.strip(), wanted.strip(), casefold=config.casefold)
    if isinstance(found, bool) or isinstance(wanted, bool):
        return found is wanted
    if isinstance(found, dict) and isinstance(wanted, dict):
        return found.keys() == wanted.keys() and all(_equal(found[key], wanted[key], config) for key in wanted)
    if isinstance(found, list) and isinstance(wanted, list):
        return len(found) == len(wanted) and all(_equal(a, b, config) for a, b in zip(found, wanted, strict=True))
    return bool(found == wanted)


def _similarity(config: Similarity, response: str, target: str, _: Row) -> Score:
    from rapidfuzz import fuzz

    pair = [text.casefold() if config.casefold else text for text in (response[:_MAX_CHARS], target[:_MAX_CHARS])]
    return Score(fuzz.ratio(*pair) / 100, target)


def _same(left: str, right: str, *, casefold: bool) -> bool:
    return left.casefold() == right.casefold() if casefold else left == right


def _regex(config: Regex, _: Path | None) -> ScoreFunction:
    import regex  # the standard library's `re` has no time-out, and some patterns never finish

    try:
        pattern = regex.compile(config.pattern, regex.IGNORECASE if config.casefold else 0)
    except regex.error as error:
        raise JobError(f"eval.scorers: {config.name}: the pattern has an error: {error}") from None
    slow = 0

    def score(response: str, target: Any, _: Row) -> Score:
        nonlocal slow
        limit_s = _REGEX_S if slow < _SLOW_MATCHES else _LATE_REGEX_S
        wanted = None if target is None else target_text(target)
        try:
            match = pattern.search(response, timeout=limit_s)
        except TimeoutError:
            slow += 1
            return Score(None, wanted, None, f"the pattern took longer than {limit_s} s")
        if match is None:
            return Score(0.0, wanted, None, "the pattern is not in the answer")
        extracted = match[1] if pattern.groups and match[1] is not None else match[0]
        right = wanted is None or _same(extracted.strip(), wanted.strip(), casefold=config.casefold)
        return Score(float(right), wanted, extracted)

    return score


class CustomScorer:
    """Scores answers with a user's own function (kind `own`), which runs in a separate process.

    `scores` sends many answers at once, which saves round trips to the process.
    """

    def __init__(self, config: Custom, folder: Path | None) -> None:
        if folder is None:
            raise JobError(
                f"eval.scorers: {config.name} is a function of your own; give the job file, since a run folder names no"
                " code"
            )
        if not re.fullmatch(r"[^:]+:[^:]+", config.python):
            raise JobError(f"eval.scorers: {config.name}: python must be module:function")
        self._function = CustomFunction(config, folder)

    def __call__(self, response: str, target: Any, row: Row) -> Score:
        """Score one answer."""
        return self.scores([(response, target, row)])[0]

    def scores(self, calls: Sequence[ScorerCall]) -> list[Score]:
        """Score many answers, each with its target and its row."""
        return [
            Score(number, None if target is None else target_text(target), None, explanation)
            for (number, explanation), (_, target, _) in zip(self._function.scores(calls), calls, strict=True)
        ]


def _with_text(compare: Callable[[Any, str, Any, Row], Score]) -> ScorerMaker:
    """Return the maker for a function of settings, answer, target and row. The function gets the target as text."""

    def make(config: Scorer, _: Path | None) -> ScoreFunction:
        def score(response: str, target: Any, row: Row) -> Score:
            return compare(config, response, None if target is None else target_text(target), row)

        return score

    return make


_SCORERS: dict[type[Scorer], ScorerMaker] = {
    Exact: _with_text(_exact),
    Includes: _with_text(_includes),
    Regex: _regex,
    Number: _with_text(_number),
    Choice: _with_text(_choice),
    Json: _with_text(_json),
    Similarity: _with_text(_similarity),
    Custom: CustomScorer,
}
"""The maker for each type of settings. Only `Judge` has none, because a judge scores through a job (see `judge`)."""
