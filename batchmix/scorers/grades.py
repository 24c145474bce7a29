"""Finds the grade in a judge's answer."""

from __future__ import annotations

import re
from typing import Any

from batchmix.formats.lenient_json import read_json

_GRADE_LABELS = ("score", "rating", "grade", "verdict")
_MAX_GRADED_CHARS = 20_000
"""The most characters, counted from the end of a judge's answer, that are searched for a grade."""
_MAX_GRADE = 1e300
"""The largest number that counts as a grade. Calculations with a larger number might not stay finite."""
_GRADE = r"(-?\d{1,9}(?:\.\d{1,9})?)(?![\d.]*\d)"
_GRADE_NAME = rf"(?:{'|'.join(_GRADE_LABELS)})"
_GRADE_LINE = re.compile(
    rf"^[ \t*_#-]{{0,9}}(?:(?:my|the|final|overall|total)[ \t]{{1,3}}){{0,3}}([\"'`]?){_GRADE_NAME}\1[ \t*_]{{0,5}}"
    rf"(?:is|of|[:=])[ \t:*_]{{0,5}}{_GRADE}[ \t]{{0,3}}(?:(?:/|out of)[ \t]{{0,3}}\d{{1,9}})?[ \t.,*_]{{0,9}}$",
    re.IGNORECASE | re.MULTILINE,
)
_MENTION = re.compile(
    rf"\b{_GRADE_NAME}\b[\"'*`\s]{{0,5}}(?:is|of)?[\s:=*]{{0,5}}{_GRADE}(?:\s{{0,3}}(?:/|out of)\s{{0,3}}\d{{1,9}})?",
    re.IGNORECASE,
)
_QUOTED = re.compile(
    r"\"[^\"\n]*\"|“[^”]{0,2000}”|«[^»]{0,2000}»|`[^`\n]*`|```.{0,5000}?```|^[ \t]*>[^\n]*$", re.MULTILINE | re.DOTALL
)
_FENCED = re.compile(r"```\w*[ \t]*\n(.*?)```\s*\Z", re.DOTALL)
_ALONE = re.compile(rf"\A[\s*_`]*{_GRADE}[\s*_`.]*\Z")


def grade_in(text: str) -> float | None:
    """Return the number that a judge gives as its grade. None if there is no clear grade.

    A judge may quote the text that it judges, and that text may contain `score: 5` in order to get a 5. So the end of
    the judge's answer is preferred: JSON, or a line with only the grade. Otherwise the prose counts, without its
    quotations, if it ends with a grade or names only one. A text can still persuade the judge itself; the rubric must
    guard against that.
    """
    text = text[-_MAX_GRADED_CHARS:].strip()
    lines = text.splitlines()
    fenced = _FENCED.search(text)
    for candidate in (text, fenced[1] if fenced else "", lines[-1] if lines else ""):
        number = _in_json(candidate)
        if number is not None:
            return number
    whole_lines = _GRADE_LINE.findall(text)
    if whole_lines:
        return float(whole_lines[-1][1])
    alone = _ALONE.match(text)
    if alone:
        return float(alone[1])
    return _in_prose(_QUOTED.sub(" ", text).rstrip(" \t\n.*_)!"))


def _in_json(text: str) -> float | None:
    value = read_json(text.encode("utf-8", "replace"))
    if not isinstance(value, dict):
        return None
    named = {str(key).casefold(): number for key, number in value.items()}
    labelled = (named[label] for label in _GRADE_LABELS if label in named)
    return next((float(value) for value in labelled if _is_number(value)), None)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _MAX_GRADE


def _in_prose(text: str) -> float | None:
    mentions = list(_MENTION.finditer(text))
    if not mentions:
        return None
    numbers = {float(mention[1]) for mention in mentions}
    if len(numbers) > 1 and mentions[-1].end() != len(text):
        return None
    return float(mentions[-1][1])
