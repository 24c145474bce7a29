"""The number in a judge's answer.

A judge quotes what it judges, and that may say `score: 5` in order to be given it. So what counts is how the judge
ends: a line that is nothing but the verdict, or JSON at the end; then prose, without what stands in quotes, where it
ends with a verdict or names one number only. A judged text can still talk a judge into a verdict of its own accord:
that is for the rubric to prevent.
"""

from __future__ import annotations

import re
from typing import Any

from batchmix.formats.lenient_json import read_json

_LABELS = ("score", "rating", "grade", "verdict")
_LONGEST = 20_000
"""Characters from the end that are looked through."""
_MOST = 1e300
"""No verdict is larger, or not a number."""
_NUMBER = r"(-?\d{1,9}(?:\.\d{1,9})?)(?![\d.]*\d)"
_NAMED = rf"(?:{'|'.join(_LABELS)})"
_LINE = re.compile(
    rf"^[ \t*_#-]{{0,9}}(?:(?:my|the|final|overall|total)[ \t]{{1,3}}){{0,3}}([\"'`]?){_NAMED}\1[ \t*_]{{0,5}}"
    rf"(?:is|of|[:=])[ \t:*_]{{0,5}}{_NUMBER}[ \t]{{0,3}}(?:(?:/|out of)[ \t]{{0,3}}\d{{1,9}})?[ \t.,*_]{{0,9}}$",
    re.IGNORECASE | re.MULTILINE,
)
_MENTION = re.compile(
    rf"\b{_NAMED}\b[\"'*`\s]{{0,5}}(?:is|of)?[\s:=*]{{0,5}}{_NUMBER}(?:\s{{0,3}}(?:/|out of)\s{{0,3}}\d{{1,9}})?",
    re.IGNORECASE,
)
_QUOTED = re.compile(
    r"\"[^\"\n]*\"|“[^”]{0,2000}”|«[^»]{0,2000}»|`[^`\n]*`|```.{0,5000}?```|^[ \t]*>[^\n]*$", re.MULTILINE | re.DOTALL
)
_FENCED = re.compile(r"```\w*[ \t]*\n(.*?)```\s*\Z", re.DOTALL)
_ALONE = re.compile(rf"\A[\s*_`]*{_NUMBER}[\s*_`.]*\Z")


def verdict_in(text: str) -> float | None:
    """Return the number that a judge gives, or None where it gives none, or not clearly."""
    text = text[-_LONGEST:].strip()
    lines = text.splitlines()
    fenced = _FENCED.search(text)
    for candidate in (text, fenced[1] if fenced else "", lines[-1] if lines else ""):
        number = _in_json(candidate)
        if number is not None:
            return number
    whole_lines = _LINE.findall(text)
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
    found = (named[label] for label in _LABELS if label in named)
    return next((float(one) for one in found if _is_number(one)), None)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _MOST


def _in_prose(text: str) -> float | None:
    mentions = list(_MENTION.finditer(text))
    if not mentions:
        return None
    numbers = {float(mention[1]) for mention in mentions}
    if len(numbers) > 1 and mentions[-1].end() != len(text):
        return None
    return float(mentions[-1][1])
