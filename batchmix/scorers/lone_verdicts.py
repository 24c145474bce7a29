"""The verdicts that stand by themselves, at the beginning or the end of a judge's answer."""

from __future__ import annotations

import re

from batchmix.scorers.judge_words import SPEECH
from batchmix.scorers.quotations import Judged
from batchmix.scorers.verdict_values import LabelValues, VerdictValues

_CASE = re.compile(r"\b(?:if|unless|when|whether|otherwise|else|maybe|perhaps|possibly)\b[^.]*\Z", re.IGNORECASE)

_MAX_LINE = 300
"""The most characters of the last line in which a verdict is looked for."""


class LoneForms:
    """The places at which a verdict with these values can stand without a sentence."""

    def __init__(self, values: VerdictValues) -> None:
        self._read, value = values.read, values.pattern
        self._has_labels = isinstance(values, LabelValues)
        flags = re.IGNORECASE
        self._first = re.compile(rf"\A[(\[<\"'`]?{value}[)\]>\"'`]?(?P<rest>[^\n]*)", flags)
        self._starred = re.compile(rf"\A(?=[★⭐🌟]){value}[^\S\n]*(?:\n|[^\W\d_a-z])(?!.*[★⭐🌟])", re.DOTALL)
        self._last = re.compile(rf"(?:\A|\n)[ \t(]{{0,9}}{value}[ \t).]{{0,9}}\Z", flags)
        self._concluded = re.compile(
            rf"(?P<before>\A[^→]*?[^→\d ][ \t]{{0,3}}(?:→|=>)[ \t]{{0,3}}){value}[ \t.!)]{{0,9}}\Z", flags
        )
        self._sentence = re.compile(rf"(?P<before>[^.!?;\n]*[.!?;:])[ \t]{{1,3}}{value}[ \t.!)]{{0,9}}\Z", flags)
        self._named = re.compile(rf":[ \t]{{0,3}}{value}", flags)

    def values(self, own: str, judged: Judged) -> list[str | float | None]:
        """Return the values that stand alone, or first, or last."""
        found = []
        first = self._first.match(own)
        if (
            first
            and (_is_first(first, own) or _is_title(first["rest"]))
            and not judged.has_line(own.partition("\n")[0])
        ):
            found.append(self._read(first["value"]))
        elif starred := self._starred.match(own):
            found.append(self._read(starred["value"]))
        last = self._last.search(own) or self._behind_a_reason(own)
        if last and not judged.has_line(last.string[last.string.rfind("\n", 0, last.start("value")) + 1 :]):
            found.append(self._read(last["value"]))
        return found

    def _behind_a_reason(self, own: str) -> re.Match[str] | None:
        """Return the value that ends a text: behind an arrow, or if it is a label, as a sentence of its own."""
        line = own[own.rfind("\n") + 1 :][-_MAX_LINE:]
        last = self._concluded.search(line) if own.count("→") + own.count("=>") == 1 else None
        last = last or (self._sentence.search(line) if self._has_labels else None)
        if last is None or last["before"][-1] in ".!?;":
            return last
        is_one_of_several = len([*self._named.finditer(own)]) > 1
        return None if is_one_of_several or SPEECH.search(last["before"]) or _CASE.search(last["before"]) else last


def _is_title(rest: str) -> bool:
    return re.match(r"[ \t]{0,3}(?:[:–—|;,-][ \t]|\([^()\n]*\)[ \t.]*$)", rest) is not None


def _is_first(first: re.Match[str], own: str) -> bool:
    """Return whether a text begins with a value by itself, rather than with the first point of a list."""
    rest = first["rest"].strip(" \t")
    if rest in {"", ".", "!"}:
        return True
    return re.match(r"[.!][ \t]", rest) is not None and not re.search(
        r"^[ \t]*\d{1,2}[.)][ \t]", own[first.end() :], re.M
    )
