"""Extracts numbers, a choice, JSON, or a judge's grade from the text of an answer."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from batchmix.formats.lenient_json import may_be_deep, read_json, shallow_text

_SPACES = "\u00a0\u2009\u202f"
"""No-break and thin spaces, which group digits in some languages."""
_NUMBER = re.compile(
    r"(?P<sign>(?<![\w)\].])[-+\u2212])?"  # where it is not a dash between words
    r"(?<![\w.])(?:"
    r"\\[dt]?frac\{(?P<above>\d{1,15})\}\{(?P<below>\d{1,15})\}"
    r"|(?<!/)(?:(?P<whole>\d{1,15}) )?(?P<numerator>\d{1,15})/(?P<denominator>\d{1,15})(?![\d/.])"  # not a date
    rf"|(?P<spaced>\d{{1,3}}(?:[{_SPACES}]\d{{3}})+(?!\d)(?:[.,]\d+)?)"
    r"|(?P<dotted>\d{1,3}(?:(?:\.\d{3}){1,6},\d{1,15}|(?:\.\d{3}){2,6})(?![.,]?\d))"
    r"|(?P<comma>(?<!\d,)\d+,(?:\d{1,2}|\d{4,})(?!\d|,\d))"
    r"|(?P<plain>(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)(?:[eE][-+\u2212]?\d{1,3}\b)?)"
    r")"
)
_FENCE = re.compile(r"```[\w-]*[ \t]*\n(.*?)```", re.DOTALL)
_MAX_STARTS = 200
"""The most positions in an answer at which JSON is looked for. This bounds the time for an answer without JSON."""
_MAX_REREAD_CHARS = 1_000_000
"""The most characters to read if JSON may be nested deeply, since the text is then read again from each position."""
_MAX_CHARS = 200_000
"""The most characters of an answer that are searched."""
_NAMED = (
    r"(?:(?i:answer|choice|option|choose|correct|antwort|réponse|respuesta)(?i:\s+(?:is|ist|est|es))?"
    r"|答案|正确选项|選項|选项|选择|選擇|应选|選)(?:是|为|為)?\s*[:=：]?"
)
"""Words that announce the chosen letter, such as `the answer is`."""
_NO_ARTICLE = r"(?!(?<=[AI])\s(?!(?:and|or|nor|is)\b)[a-z])"
"""Comes after a letter in a pattern. Prevents a match of the words `A` and `I`, as in `A dog` or `I think`."""
NOTHING = object()
"""What `find_json` returns if there is no JSON. None would mean JSON's null."""


def numbers(text: str) -> list[float]:
    """Return the finite numbers in a text, in order.

    Each of these is one number: `1,234.5`, `1.234,5`, `0,5`, `-3`, `-.5e3`, `6e23`, `3/4`, `2 1/2`, `\\frac{3}{4}`.
    A comma before three digits separates thousands. `50%` is 50.
    """
    values = (_value(match) for match in _NUMBER.finditer(text[:_MAX_CHARS]))
    return [value for value in values if value is not None and math.isfinite(value)]


def _value(match: re.Match[str]) -> float | None:
    part = match.groupdict()
    sign = -1 if part["sign"] in {"-", "\u2212"} else 1
    above, below = part["above"] or part["numerator"], part["below"] or part["denominator"]
    if above and below:
        return sign * (int(part["whole"] or 0) + int(above) / int(below)) if int(below) else None
    if part["plain"]:
        return sign * float(part["plain"].replace(",", "").replace("\u2212", "-"))
    text = part["spaced"] or (part["dotted"] or part["comma"] or "").replace(".", "")
    return sign * float(re.sub(f"[{_SPACES}]", "", text).replace(",", "."))


def choice(text: str, letters: str) -> str | None:
    """Return the letter that an answer chooses. None if there is no clear choice.

    The rules are tried in this order: the last letter called the answer (`the answer is (B)`), a letter at the
    beginning or the end, a letter in brackets or bold, and a letter that is a word by itself.
    """
    text = text[:_MAX_CHARS].strip()
    letter = f"([{re.escape(letters.upper())}])"
    either = f"([{re.escape(letters.upper() + letters.lower())}])"
    if re.fullmatch(rf"[(\[*\"'`]*{either}[)\]*\"'`.:]*", text):
        return re.sub(r"[^A-Za-z0-9]", "", text).upper()
    named = rf"{_NAMED}[\s(\[*$\"'`{{]*(?i:\\boxed\{{)?(?:{letter}(?![\w'’])|{either}(?=[)\]*\"'`.}}]|\s*\Z))"
    matches = re.findall(named, text)
    if matches:
        return "".join(matches[-1]).upper()
    open_ended = re.search(rf"(?:(?i:\b(?:and|or|nor|not))\s+|[&/,]\s*)[(\[*\"'`]*{letter}[)\]*\"'`]*[.!]?\Z", text)
    for pattern in (
        rf"\A[(\[*\"'`]*{letter}[)\]*\"'`]*(?:[.:)\n]|\s[-–—]\s)",
        rf"\A[(\[*\"'`]*{either}[)\]]",
        *([] if open_ended else [rf"(?:^|[\s:=])[(\[*\"'`]*{letter}[)\]*\"'`]*\.?\Z"]),
        rf"(?:\(|\[|\*\*|\\boxed\{{){either}(?:\)|\]|\*\*|[.:]|\}})",
        rf"(?<![\w'’])(?<!(?i:not)\s){letter}(?![\w'’]){_NO_ARTICLE}",
    ):
        distinct = {match.upper() for match in re.findall(pattern, text)}
        if len(distinct) == 1:
            return str(distinct.pop())
    return None


def find_json(text: str) -> Any:
    """Return the JSON in an answer, parsed. `NOTHING` if there is none.

    The JSON may be the whole text, a code fence, or the first complete object or list. Values that are nested too
    deeply become null.
    """
    text = text[:_MAX_CHARS]
    for candidate in (text, *_FENCE.findall(text)[:_MAX_STARTS]):
        try:
            return json.loads(shallow_text(candidate))
        except ValueError:
            continue
    decoder = json.JSONDecoder()
    at = -1
    deep = may_be_deep(text.encode("utf-8", "replace"))
    for _ in range(min(_MAX_STARTS, _MAX_REREAD_CHARS // len(text)) if deep else _MAX_STARTS):
        starts = [place for sign in "{[" if (place := text.find(sign, at + 1)) >= 0]
        if not starts:
            break
        at = min(starts)
        try:
            return decoder.raw_decode(shallow_text(text[at:]))[0] if deep else decoder.raw_decode(text, at)[0]
        except ValueError:
            continue
    return NOTHING


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
