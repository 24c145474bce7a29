"""Scorers: from an answer and a target to a score. What fails for one answer is that answer's."""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from batchmix import texts
from batchmix.errors import JobError
from batchmix.eval_table import Choice, Exact, Includes, Json, Judge, Number, Own, Regex, Scorer, Similarity
from batchmix.evaluate.extract import NOTHING, choice, json_value, numbers

_LONGEST = 50_000
"""Characters of a text that are compared by likeness, which takes time by their product."""
_REGEX_S = 0.5
"""Processor time; so is that of the later ones."""
_LATE_REGEX_S = 0.01
_SLOW_MATCHES = 10
"""After so many that were cut off, a pattern gets the shorter time."""
_SLOW_CALLS = 10
"""After so many that were cut off, a function of your own is called no more."""


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
        return _own(asked, folder)
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
    return texts.text_of(value)


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


def _own(asked: Own, folder: Path | None) -> Score1:
    if folder is None:
        raise JobError(
            f"eval.scorers: {asked.name} is a function of your own; give the job file, since a run folder names no code"
        )
    function = _imported(asked, folder)
    slow = 0

    def score(response: str, target: Any, row: Row) -> Score:
        nonlocal slow
        wanted = None if target is None else text_of(target)
        if slow == _SLOW_CALLS:
            return Score(None, wanted, None, f"{asked.python}: was cut off {slow} times, and is called no more")
        try:
            with _cut_off(asked.timeout_s):
                given = function(response, target, dict(row))
            value, explanation = given if isinstance(given, tuple) else (given, None)
            number = None if value is None else float(value)
        except _TooLongError:
            slow += 1
            return Score(None, wanted, None, f"{asked.python}: took longer than {asked.timeout_s:g} s")
        except (Exception, SystemExit) as error:  # noqa: BLE001 - anybody's code hurts only the one answer
            return Score(None, wanted, None, f"{asked.python}: {type(error).__name__}: {error}")
        if number is not None and not math.isfinite(number):
            return Score(None, wanted, None, f"{asked.python}: {number} is no score")
        return Score(number, wanted, None, None if explanation is None else str(explanation))

    return score


class _TooLongError(BaseException):
    """Not an `Exception`, which anybody's code may well catch."""


@contextlib.contextmanager
def _cut_off(seconds: float) -> Iterator[None]:
    """End what takes longer, by a signal; elsewhere than in the main thread, where none comes, nothing is ended."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(*_: object) -> None:
        raise _TooLongError

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _imported(asked: Own, folder: Path) -> Callable[..., Any]:
    module, colon, name = asked.python.partition(":")
    if not colon or not module or not name:
        raise JobError(f"eval.scorers: {asked.name}: python must be module:function")
    sys.path.insert(0, str(folder.resolve()))
    try:
        function = getattr(importlib.import_module(module), name)
    except Exception as error:  # anybody's code
        raise JobError(f"eval.scorers: {asked.name}: can't import {asked.python}: {error}") from error
    finally:
        sys.path.pop(0)
    if not callable(function):
        raise JobError(f"eval.scorers: {asked.name}: {asked.python} is no function")
    made: Callable[..., Any] = function
    return made
