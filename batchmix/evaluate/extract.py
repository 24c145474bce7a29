"""A number, a choice or JSON out of an answer's prose."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from batchmix.formats.lenient_json import may_be_deep, shallow_text

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
_MOST_STARTS = 200
"""Places in an answer at which JSON is looked for; bounds the time that a bad answer costs."""
_MOST_READ_AGAIN = 1_000_000
"""Characters that are read over and over for it, where nesting must be looked for."""
_LONGEST = 200_000
"""Characters of an answer that are looked through."""
_NAMED = (
    r"(?:(?i:answer|choice|option|choose|correct|antwort|réponse|respuesta)(?i:\s+(?:is|ist|est|es))?"
    r"|答案|正确选项|選項|选项|选择|選擇|应选|選)(?:是|为|為)?\s*[:=：]?"
)
"""What comes before the letter that is the answer."""
_NO_ARTICLE = r"(?!(?<=[AI])\s(?!(?:and|or|nor|is)\b)[a-z])"
"""Behind a letter: it is not that of `A dog` or `I think`."""
NOTHING = object()
"""There was no JSON; None would be its null."""


def numbers(text: str) -> list[float]:
    """Return the finite numbers in a text, in order; each of these is one number.

    `1,234.5`, `1.234,5`, `0,5`, `-3`, `-.5e3`, `6e23`, `3/4`, `2 1/2`, `\\frac{3}{4}`; `50%` is 50. A comma
    with three digits behind it groups thousands.
    """
    found = (_value(match) for match in _NUMBER.finditer(text[:_LONGEST]))
    return [number for number in found if number is not None and math.isfinite(number)]


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
    """Return the letter that an answer chooses, or None where it does not, or not clearly.

    Looked for are, in this order: the last that is named as the answer (`the answer is (B)`), one that the answer
    begins or ends with, one in brackets or bold, and one that stands alone.
    """
    text = text[:_LONGEST].strip()
    letter = f"([{re.escape(letters.upper())}])"
    either = f"([{re.escape(letters.upper() + letters.lower())}])"
    if re.fullmatch(rf"[(\[*\"'`]*{either}[)\]*\"'`.:]*", text):
        return re.sub(r"[^A-Za-z0-9]", "", text).upper()
    named = rf"{_NAMED}[\s(\[*$\"'`{{]*(?i:\\boxed\{{)?(?:{letter}(?![\w'’])|{either}(?=[)\]*\"'`.}}]|\s*\Z))"
    found = re.findall(named, text)
    if found:
        return "".join(found[-1]).upper()
    open_ended = re.search(rf"(?:(?i:\b(?:and|or|nor|not))\s+|[&/,]\s*)[(\[*\"'`]*{letter}[)\]*\"'`]*[.!]?\Z", text)
    for pattern in (
        rf"\A[(\[*\"'`]*{letter}[)\]*\"'`]*(?:[.:)\n]|\s[-–—]\s)",
        rf"\A[(\[*\"'`]*{either}[)\]]",
        *([] if open_ended else [rf"(?:^|[\s:=])[(\[*\"'`]*{letter}[)\]*\"'`]*\.?\Z"]),
        rf"(?:\(|\[|\*\*|\\boxed\{{){either}(?:\)|\]|\*\*|[.:]|\}})",
        rf"(?<![\w'’])(?<!(?i:not)\s){letter}(?![\w'’]){_NO_ARTICLE}",
    ):
        distinct = {one.upper() for one in re.findall(pattern, text)}
        if len(distinct) == 1:
            return str(distinct.pop())
    return None


def json_value(text: str) -> Any:
    """Return the JSON in an answer, alone, in a code fence or in prose; `NOTHING` where there is none.

    In prose it is the first object or list that is whole. What is nested too deeply is a null.
    """
    text = text[:_LONGEST]
    for candidate in (text, *_FENCE.findall(text)[:_MOST_STARTS]):
        try:
            return json.loads(shallow_text(candidate))
        except ValueError:
            continue
    decoder = json.JSONDecoder()
    at = -1
    deep = may_be_deep(text.encode("utf-8", "replace"))
    for _ in range(min(_MOST_STARTS, _MOST_READ_AGAIN // len(text)) if deep else _MOST_STARTS):
        starts = [place for sign in "{[" if (place := text.find(sign, at + 1)) >= 0]
        if not starts:
            break
        at = min(starts)
        try:
            return decoder.raw_decode(shallow_text(text[at:]))[0] if deep else decoder.raw_decode(text, at)[0]
        except ValueError:
            continue
    return NOTHING
