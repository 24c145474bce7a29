"""Reads the one JSON value in an answer's text. Heals the text only where there is a single way to read it.

What is healed, alone or combined: a code fence, text around one value, a comma after the last element, reasoning in
front (`<think>…</think>` and the like, or all text up to a lone `</think>`), a byte-order mark. All else is refused:
several different values, a value that is cut off or malformed, or beside one that is, anything inside of such a value,
and brackets that may be mere punctuation (`- [ ]`, `x[0]`). The time is linear in the text's length, and its brackets
are limited, since an answer is read while others wait.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterator
from typing import Any

import msgspec

from batchmix.answers.punctuation import holds_object, may_be_punctuation
from batchmix.answers.reasoning import NOT_IN_FRONT, REASONING, STRING, RefusedTextError, after_reasoning, bracket_end
from batchmix.formats.display import quoted
from batchmix.formats.lenient_json import MAX_DEPTH
from batchmix.formats.text import utf8

_BLANK = " \t\r\n\f\v\ufeff\u00a0\u200b\u2028\u2029\u3000"
"""What is stripped from both ends: white space, the byte-order mark, spaces without width."""
_BRACKET = re.compile(r"[\[{\]}]")
_COMMAS = re.compile(rf'{STRING[:-1]}(?:"|\\?\Z)|[\[{{][ \t\r\n]*+,|,(?=[ \t\r\n]*+[\]}}])', re.DOTALL)
"""A comma after the last element. Strings, and commas without any element, match too, so that they are left alone."""
LIKE_OBJECT = re.compile(r"\{(?:\s*+(?:[\"'“‘]|/[/*])|[^{}:]*+:)")
"""The beginning of what was meant as an object, unlike a `{placeholder}`."""
LIKE_LIST = re.compile(r"\[\s*+[\"'“‘]")
_FENCE = re.compile(
    r"^[ \t]*+(`{3,}+|~{3,}+)[^\n`]*+\n(?P<content>.*?)(?:^[ \t]*+\1[ \t]*+$|(?P<open>\Z))", re.DOTALL | re.MULTILINE
)
_FENCE_ON_ONE_LINE = re.compile(r"(`{3,}+|~{3,}+)(?:[a-zA-Z]\w*+[ \t])?(?P<content>[^\n]*)\1")
_MOST_DIGITS = int(math.log10(sys.float_info.max))
"""The most digits of which a double can represent any whole number, if only nearly."""
_DIGIT = re.compile("[0-9]")
_LONG_NUMBER = re.compile(rf'(?:{STRING}|\.[0-9]++|[0-9]{{1,{_MOST_DIGITS}}}+(?![0-9])|[^"0-9])*+[0-9]', re.DOTALL)
"""JSON text up to a number with more digits in front of its point."""
_MOST_SIGNS = {"{": 20_000, "[": 20_000, "<": 20_000, '"': 200_000}
"""How often a text that is not JSON as a whole may have these, since looking for values takes time for each."""
_MOST_PARTS = 1_000
"""The outermost brackets that are read one by one."""
_TOO_LARGE = "a number is too large"
_TOO_DEEP = f"its JSON is nested more than {MAX_DEPTH} levels deep"
_CUT = "its JSON is cut off, or the brackets don't match"


class FoundJson(msgspec.Struct, frozen=True, gc=False):
    """The JSON value of a text, and whether the text had to be healed."""

    value: Any
    healed: bool


class NoJson(msgspec.Struct, frozen=True, gc=False):
    """Why a text has no JSON value, or none that is clear."""

    sentence: str


class MalformedJsonError(ValueError):
    """The text is not JSON."""


def json_of(text: str, root_types: frozenset[str]) -> FoundJson | NoJson:
    """Return the JSON value of a text, or why there is none. Never raises.

    `root_types` are the JSON types that the value may have. They say what counts as a value amid other text: numbers,
    words in quotes and, if an object is wanted, lists without objects (`[1]`) don't.
    """
    try:
        return FoundJson(strict_json(text), healed=False)
    except RefusedTextError as error:
        return NoJson(str(error))
    except MalformedJsonError:
        pass
    except UnicodeEncodeError:  # a lone surrogate; the result's text has U+FFFD in its place, and must mean the same
        return json_of(utf8(text) or "", root_types)
    try:
        return _healed(text, root_types)
    except RefusedTextError as error:
        return NoJson(str(error))


def strict_json(text: str) -> Any:
    """Return the value of a text that is JSON and nothing else.

    Raises `MalformedJsonError` if it is none, `RefusedTextError` if it has no clear value, such as one of a key that is
    there twice, and `UnicodeEncodeError` for a lone surrogate.
    """
    try:
        value = msgspec.json.decode(text)
    except msgspec.ValidationError as error:
        raise RefusedTextError(_TOO_LARGE) from error
    except msgspec.DecodeError as error:
        raise MalformedJsonError(str(error).removeprefix("JSON is malformed: ")) from error
    except RecursionError as error:
        raise RefusedTextError(_TOO_DEEP) from error
    # So many digits in a row have one at each of these positions that they span. Looking there is cheap.
    if len(text) > _MOST_DIGITS and _DIGIT.search(text[_MOST_DIGITS :: _MOST_DIGITS + 1]) and _LONG_NUMBER.match(text):
        raise RefusedTextError(_TOO_LARGE)
    if _may_repeat_keys(text, _key_count(value, 1)):
        _exact(text)
    return value


def _key_count(value: Any, level: int) -> int:
    """Return the number of keys in a value, and in all that it holds. Refuses a value that is nested too deeply."""
    if type(value) is not dict and type(value) is not list:
        return 0
    if level > MAX_DEPTH:
        raise RefusedTextError(_TOO_DEEP)
    count = len(value) if type(value) is dict else 0
    for part in value.values() if type(value) is dict else value:
        if type(part) is dict or type(part) is list:
            count += _key_count(part, level + 1)
    return count


def _may_repeat_keys(text: str, count: int) -> bool:
    """Return whether JSON text may have more keys than the `count` of its value. False is certain, and costs little."""
    if text.count(":") == count:
        return False
    spaced = " :" in text or "\t" in text or "\r" in text or ("\n" in text and "\n:" in text)
    return spaced or text.count('":') != count


def _exact(text: str) -> Any:
    """Return the value of JSON text in a form in which 1, 1.0, true and "1" differ.

    Refuses an object that has a key twice, with different values.
    """
    return json.loads(text, object_pairs_hook=_object, parse_int=_number, parse_float=_number)


def _number(digits: str) -> tuple[str, str]:
    return ("number", digits)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for key, value in pairs:
        if members.setdefault(key, value) != value:
            raise RefusedTextError(f"the key {quoted(key)} is there twice, with different values")
    return members


def _healed(text: str, root_types: frozenset[str]) -> FoundJson | NoJson:
    if any(text.count(sign) > most for sign, most in _MOST_SIGNS.items()):
        raise RefusedTextError("it is not valid JSON, and has too many brackets or quotation marks to look for a value")
    start = after_reasoning(text)
    rest = text[start:].strip(_BLANK)
    if not rest:
        return NoJson("there is nothing after the reasoning" if start else "the text is empty")
    try:
        return FoundJson(strict_json(rest), healed=True)
    except MalformedJsonError as error:
        reason = f"it is not valid JSON: {error}" if rest[0] in "{[" else "there is no valid JSON in it"
    candidates: list[tuple[str, Any]] = []
    if root_types - {"object", "array"} and not REASONING.search(rest):
        candidates, rest = _fenced(text[start:])
    if not candidates or root_types & {"object", "array"}:
        candidates += _bracketed(rest, root_types, found_any=bool(candidates))
    candidates = _without_citations(candidates)
    if not candidates:
        return NoJson(reason)
    first_text, value = candidates[0]
    if len(candidates) > 1:
        first = _exact(first_text)
        if any(_exact(other) != first for other, _ in candidates[1:]):
            return NoJson("it has several different JSON values, and only one is wanted")
    return FoundJson(value, healed=True)


def _fenced(text: str) -> tuple[list[tuple[str, Any]], str]:
    """Return the JSON text and the value of each code fence that holds nothing else, and the text around these."""
    line = _FENCE_ON_ONE_LINE.fullmatch(text.strip(_BLANK))
    values, around, at = [], [], 0
    for fence in [line] if line else _FENCE.finditer(text):
        content = fence["content"]
        found = _with_commas(content.strip(_BLANK))
        if not found:
            continue
        is_number = isinstance(found[1], int | float) and not isinstance(found[1], bool)
        if is_number and not line and fence["open"] is not None and not content.endswith("\n"):
            raise RefusedTextError("the number at its end may be cut off")
        values.append(found)
        around.append(text[at : fence.start()])
        at = len(text) if line else fence.end()
    return values, "\n".join([*around, text[at:]])


def _bracketed(text: str, root_types: frozenset[str], *, found_any: bool) -> Iterator[tuple[str, Any]]:
    """Yield the JSON text and the value of each outermost object or list that counts. Refuses what is unclear."""
    at, malformed, clear = 0, False, found_any
    for _ in range(_MOST_PARTS):
        bracket = _BRACKET.search(text, at)
        if not bracket:
            break
        start = bracket.start()
        _refuse_reasoning(text, at, start)
        closes, end = (True, None) if bracket[0] in "]}" else bracket_end(text, start)
        if closes or end is None or text[at:start].rstrip().endswith('":'):
            raise RefusedTextError(_CUT)
        span = text[start:end]
        _refuse_reasoning(span, 0, len("[THINK]"))
        at = end
        found = _with_commas(span)
        if not found:
            malformed = malformed or bool(LIKE_OBJECT.search(span) or ("array" in root_types and LIKE_LIST.match(span)))
        elif "array" in root_types or holds_object(found[1]):
            found_any = True
            clear = clear or not may_be_punctuation(found[1], text, start, end)
            yield found
    else:
        raise RefusedTextError(f"there are more than {_MOST_PARTS:,} brackets side by side in it")
    _refuse_reasoning(text, at, len(text))
    if found_any and malformed:
        raise RefusedTextError("a second value in it is malformed")
    if found_any and not clear:
        raise RefusedTextError("the brackets in it may not be meant as JSON")


def _without_citations(candidates: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """Return the candidates without lists such as `[1]`, if others hold objects."""
    if not any(holds_object(value) for _, value in candidates):
        return candidates
    return [(text, value) for text, value in candidates if not value or holds_object(value)]


def _refuse_reasoning(text: str, start: int, end: int) -> None:
    if REASONING.search(text, start, end):
        raise RefusedTextError(NOT_IN_FRONT)


def _with_commas(text: str) -> tuple[str, Any] | None:
    """Return JSON text without commas after a last element, and its value. None if it is malformed all the same."""
    try:
        return text, strict_json(text)
    except MalformedJsonError:
        pass
    fewer = _COMMAS.sub(lambda match: "" if match[0] == "," else match[0], text)
    try:
        return (fewer, strict_json(fewer)) if fewer != text else None
    except MalformedJsonError:
        return None
