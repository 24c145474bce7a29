"""Finds where an answer states its result: in a box, in a tag, in JSON, after `####`, or after words such as `Answer:`.

What is stated may be a letter, a number or anything else; the scorers read that themselves.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from typing import Generic, NamedTuple, TypeVar

from batchmix.answers.reasoning import RefusedTextError, UnendedReasoningError, after_reasoning
from batchmix.scorers.answer_words import ANSWERS, FINAL, RETRACTED, SUPPOSED, TAKEN_BACK, any_word
from batchmix.scorers.late_pattern import late_pattern
from batchmix.scorers.text_forms import plain_form

_HEAD_CHARS, _TAIL_CHARS = 1_500, 4_500
"""The parts of a long answer that are searched. A result stands at the beginning or at the end."""
_MOST_STATED_CHARS = 300
_MOST_ANNOUNCED = 20
"""The most announcements that are read at the beginning, and at the end."""
_MOST_BEFORE_CHARS = 80
"""The most characters in front of an announcement that are searched for words such as `if`."""
_ENDING = late_pattern(r"</[a-z:_-]{0,20}(?:think|thought|reason|reflection|analysis)[a-z]{0,6}>", re.IGNORECASE)
_MAY_REASON = late_pattern(r"\A\s*(?:<|\[THINK|◁|analysis)|</", re.IGNORECASE)
_UNSEEN = r"[\s\pZ\p{Cc}\p{Cf}\x{FE00}-\x{FE0F}]*"
MAY_SAY_NOTHING = rf"^{_UNSEEN}(?:$|[<`~\[◁]|analysis)|>{_UNSEEN}$"
"""Matches every text of which `says_nothing` is true, and few others. In the syntax of RE2, as pyarrow needs it."""
_FENCE = late_pattern(r"^[ \t]*(?:`{3,}|~{3,})[ \t]*\w*[ \t]*$", re.MULTILINE)
_BOX = late_pattern(r"\\(?:boxed|fbox)\s*\{")
_BRACE = late_pattern(r"[{}]")
_TAG = late_pattern(
    r"<(/?)(final[_ -]?answer|answer|final|result|solution|choice|option|letter|response|output)>", re.IGNORECASE
)
_KEY = late_pattern(
    r"[\"']((?:final|correct|my|best|selected|chosen)?[_ -]?"
    r"(?:answer|choice|option|letter|result|prediction|selection|solution|output|value|label|verdict))[\"']"
    r"\s{0,20}:\s{0,20}(\"(?:[^\"\\\n]|\\.){0,500}+\"|'[^'\n]{0,500}'|\[[^\[\]]{0,500}\]|[^\s,}\]\"']{1,100})",
    re.IGNORECASE,
)
_HASHES = late_pattern(r"(?<!#)####(?!#)[ \t]*([^\n]{1,300})")
_CLAUSE = late_pattern(r"[.!?;\n。！？；]|\b(?:but|however|aber|mais|pero|però)\b|但", re.IGNORECASE)
_FINAL, _SUPPOSED = (late_pattern(any_word(words), re.IGNORECASE) for words in (FINAL, SUPPOSED))
_RETRACTED = late_pattern(RETRACTED, re.IGNORECASE)
_TAKEN_BACK = late_pattern(TAKEN_BACK, re.IGNORECASE)
ANSWER = late_pattern(any_word(ANSWERS), re.IGNORECASE)
"""Announces any result."""

Value = TypeVar("Value")


class Found(NamedTuple, Generic[Value]):
    """What an answer says."""

    value: Value | None
    why: str | None = None
    """Why there is no value."""
    is_unclear: bool = False
    """Whether the answer may say something that can't be told, so that there is no score."""


class StatedPlace(NamedTuple):
    """A place in an answer at which it states its result."""

    start: int
    text: str
    """The result, and what follows it."""
    is_final: bool = False
    """Whether it is called final, or a conclusion."""


class ReadPlace(NamedTuple, Generic[Value]):
    """What was read at a statement."""

    start: int
    values: tuple[Value, ...]
    is_final: bool = False


def answered_text(text: str) -> str:
    """Return what an answer says after its reasoning. Nothing, if it ends within that."""
    try:
        return _after_reasoning(text)
    except RefusedTextError:
        return ""


def says_nothing(text: str) -> bool:
    """Return whether an answer has nothing that a reader would see: only reasoning, or an empty code fence."""
    try:
        return not plain_form(_FENCE.sub("", _after_reasoning(text)))
    except RefusedTextError as error:
        return isinstance(error, UnendedReasoningError)


def _after_reasoning(text: str) -> str:
    try:
        return text[after_reasoning(text) :] if _MAY_REASON.search(text) else text
    except RefusedTextError:
        endings = [match.end() for match in _ENDING.finditer(text)]
        if not endings:
            raise
        return text[endings[-1] :]


def final_text(text: str) -> str:
    """Return what an answer says after its reasoning. Of a long answer, only the beginning and the end.

    Raises `RefusedTextError` if the answer ends within its reasoning.
    """
    text = _after_reasoning(text)
    if len(text) > _HEAD_CHARS + _TAIL_CHARS:
        return f"{text[:_HEAD_CHARS]}\n…\n{text[-_TAIL_CHARS:]}"
    return text


def statements(text: str, nouns: re.Pattern[str]) -> Iterator[list[StatedPlace]]:
    """Return the places at which a text states its result, those to be trusted most first, as lists of equal trust.

    `nouns` matches the nouns that announce a result.
    """
    yield [StatedPlace(start, content, is_final=True) for start, content in _boxes(text)][-1:]
    tagged = [*_tagged(text)][-1:]
    yield [StatedPlace(start, content[:_MOST_STATED_CHARS], is_final=True) for start, content in tagged]
    yield [StatedPlace(match.start(), match[2].strip("\"'"), is_final=False) for match in _KEY.finditer(text)][
        -_MOST_ANNOUNCED:
    ]
    yield [StatedPlace(match.start(), match[1]) for match in _HASHES.finditer(text)][-_MOST_ANNOUNCED:]
    yield [*announced(text, nouns)]


def boxed_or_tagged(text: str) -> str | None:
    """Return what the last box of a text holds, or the last tag such as `<answer>`. None if there is neither."""
    found = [*_boxes(text)] or [*_tagged(text)]
    return found[-1][1] if found else None


def _tagged(text: str) -> Iterator[tuple[int, str]]:
    tags = list(_TAG.finditer(text))
    for opening, closing in itertools.pairwise(tags):
        if not opening[1] and closing[1] and opening[2].lower() == closing[2].lower():
            yield opening.start(), text[opening.end() : closing.start()]


def announced(text: str, nouns: re.Pattern[str]) -> Iterator[StatedPlace]:
    """Yield what follows the nouns that announce a result, unless a case is only supposed or called wrong."""
    found = list(nouns.finditer(text))
    for noun in found if len(found) <= 2 * _MOST_ANNOUNCED else found[:_MOST_ANNOUNCED] + found[-_MOST_ANNOUNCED:]:
        before = text[max(0, noun.start() - _MOST_BEFORE_CHARS) : noun.start()]
        clause = _CLAUSE.split(before)[-1]
        if _SUPPOSED.search(clause):
            continue
        is_final = bool(_FINAL.search(clause) or _FINAL.fullmatch(noun[0]))
        yield StatedPlace(noun.start(), text[noun.end() : noun.end() + _MOST_STATED_CHARS], is_final)


def settled(
    text: str, levels: Iterator[list[ReadPlace[Value]]], same: Callable[[Value, Value], bool]
) -> Found[Value] | None:
    """Return the value on which the readings agree, of the most trusted level that has any. None if there are none.

    What is taken back afterwards does not count, and a final result goes before others.
    """
    retracted = [match.start() for match in _RETRACTED.finditer(text)]
    last_retracted: ReadPlace[Value] | None = None
    for level in levels:
        kept = [reading for reading in level if not any(reading.start < at for at in retracted)]
        if not kept:
            last_retracted = level[-1] if level and last_retracted is None else last_retracted
            continue
        return _agreed(kept, same)
    if last_retracted is None:
        return None
    if _TAKEN_BACK.search(text, last_retracted.start):
        return Found(None, "the answer takes its result back, and states no other", is_unclear=True)
    return _agreed([last_retracted], same)


def after_retraction(text: str) -> str:
    """Return what follows the last words that take something back: `B` of `A, sorry, B`."""
    retracted = list(_RETRACTED.finditer(text))
    return text[retracted[-1].end() :] if retracted else text


def _agreed(readings: list[ReadPlace[Value]], same: Callable[[Value, Value], bool]) -> Found[Value]:
    readings = [reading for reading in readings if reading.is_final] or readings
    values = readings[-1].values
    if len(values) > 1:
        return Found(None, "the answer names more than one")
    if all(len(reading.values) == 1 and same(reading.values[0], values[0]) for reading in readings):
        return Found(values[0])
    return Found(None, "the answer states different results", is_unclear=True)


def _boxes(text: str) -> Iterator[tuple[int, str]]:
    for opening in _BOX.finditer(text):
        depth = 1
        for brace in _BRACE.finditer(text, opening.end(), opening.end() + _MOST_STATED_CHARS):
            depth += 1 if brace[0] == "{" else -1
            if not depth:
                if content := text[opening.end() : brace.start()].strip():
                    yield opening.start(), content
                break
