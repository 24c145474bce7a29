"""A number, a choice or JSON out of an answer's prose."""

from __future__ import annotations

import json
import math
import re
from typing import Any

_NUMBER = re.compile(
    r"(?:(?<![\w)\].])[-+\u2212])?"  # a sign, where it is not a dash between words
    r"(?<![\w.])(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:[eE][-+]?\d{1,3}\b)?"
    r"|(?:(?<![\w)\].])[-+\u2212])?(?<![\w.])\.\d+"
)
_FENCE = re.compile(r"```[\w-]*[ \t]*\n(.*?)```", re.DOTALL)
_MOST_STARTS = 200
"""Places in an answer at which JSON is looked for; bounds the time that a bad answer costs."""
_LONGEST = 200_000
"""Characters of an answer that are looked through."""
NOTHING = object()
"""There was no JSON; None would be its null."""


def numbers(text: str) -> list[float]:
    """Return the finite numbers in a text, in order; `1,234.5`, `-3`, `.5` and `6e23` are one number each."""
    found = (float(match.replace(",", "").replace("\u2212", "-")) for match in _NUMBER.findall(text[:_LONGEST]))
    return [number for number in found if math.isfinite(number)]


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
    named = (
        r"(?i:answer|choice|option|choose|correct)(?i:\s+is)?\s*[:=]?[\s(\[*$\"'`{]*(?i:\\boxed\{)?"
        rf"{letter}(?![\w'’])"
    )
    found = re.findall(named, text)
    if found:
        return str(found[-1])
    for pattern in (
        rf"\A[(\[*\"'`]*{letter}[)\]*\"'`]*(?:[.:)\n]|\s[-–—]\s)",
        rf"(?:^|[\s:=])[(\[*\"'`]*{letter}[)\]*\"'`]*\.?\Z",
        rf"(?:\(|\[|\*\*|\\boxed\{{){letter}(?:\)|\]|\*\*|[.:]|\}})",
        rf"(?<![\w'’]){letter}(?![\w'’])(?!(?<=[AI])\s[a-z])",  # not the article of `A dog`
    ):
        distinct = set(re.findall(pattern, text))
        if len(distinct) == 1:
            return str(distinct.pop())
    return None


def json_value(text: str) -> Any:
    """Return the JSON in an answer, alone, in a code fence or in prose; `NOTHING` where there is none.

    In prose it is the first object or list that is whole.
    """
    text = text[:_LONGEST]
    for candidate in (text, *_FENCE.findall(text)[:_MOST_STARTS]):
        try:
            return json.loads(candidate)
        except (ValueError, RecursionError):
            continue
    decoder = json.JSONDecoder()
    at = -1
    for _ in range(_MOST_STARTS):
        starts = [place for sign in "{[" if (place := text.find(sign, at + 1)) >= 0]
        if not starts:
            break
        at = min(starts)
        try:
            return decoder.raw_decode(text, at)[0]
        except (ValueError, RecursionError):
            continue
    return NOTHING
