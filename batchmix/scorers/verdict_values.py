"""What a judge can give as its verdict: a number of a scale, or one of several labels, and how it is written."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

_WORDS = {
    word: number
    for number, word in enumerate("zero one two three four five six seven eight nine ten".split())  # noqa: SIM905
}
_NUMBER = rf"(?:[-+]?\d{{1,9}}(?:[.,]\d{{1,9}})?|\b(?:{'|'.join(_WORDS)})\b)"
_OUT_OF = r"(?:/|out of(?: a(?: possible| maximum| total of)?)?|of|von|sur|de|из|su|od|van|af|av|من|از)"
_UNIT = r"(?:stars?|points?|pts?|分|点|점|баллов|балла|punkten?|points?|puntos?|punti|pontos?|punten|punkty|puan|điểm)"
_OR = r"(?:[-–~/,|]|to|or|and|bis|oder|ou|o|and/or|y|e|和|到|或|から|至)"
_STARS = re.compile(r"([★⭐🌟]{1,10})([☆✩]{0,10})")
_OF_TOP = re.compile(
    r"(?:(?P<top>\d{1,3})\s?(?:점\s?만점\s?(?:에서?|중에?)?|点満点\s?(?:で|中|のうち)?、?|[点점]\s?[中중]에?)"
    r"|[满滿]分(?:为|是)?(?P<full>\d{1,3})分?[,，]?\s?(?:得|打|给|評)?)\s?(?P<given>\d{1,3}(?:\.\d{1,3})?)\s?[점点分]"
)
"""A number behind the top of its scale, as in `5점 만점에 4점`."""
_IGNORED = re.compile("[\u200b\u200c\u200d\u2060\ufe0e\ufe0f\u20e3\ufeff]")


class ScaleValues:
    """The numbers of a scale, as `4`, `four`, `4/5`, `4 out of 5 stars` or `★★★★☆`. No number of another scale."""

    pattern: str = (
        rf"(?P<value>[★⭐🌟]{{2,10}}[☆✩]{{0,10}}|[★⭐🌟][☆✩]{{1,9}}|"
        rf"(?<![A-Za-z0-9_.])(?<!\d[-–~])(?<!\d [-–~] )(?<!\d (?:to|or) )(?<!\d bis )"
        rf"(?:{_NUMBER}(?:(?:[ \t]{{1,2}}{_UNIT})?[ \t]{{0,2}}{_OUT_OF}[ \t]{{0,2}}{_NUMBER})?"
        rf"(?:[ \t]{{0,2}}(?:%|percent\b|per cent\b|{_UNIT}(?![A-Za-z0-9_])))?"
        rf"(?:[ \t]{{0,2}}{_OR}[ \t]{{0,2}}(?:an?[ \t])?{_NUMBER}(?!\w)){{0,3}})"
        rf"(?![A-Za-z0-9_%]|[.,]\d|[-+]|[ \t]or\b|"
        rf"[ \t]{{0,2}}(?:[-–~/]|or\b|to\b|bis\b|and\b)[ \t]{{0,2}}(?:an?[ \t])?\d))"
    )

    def __init__(self, worst: float, best: float) -> None:
        self._worst, self._best = worst, best
        self._match = re.compile(
            rf"({_NUMBER})(?:(?:\s+{_UNIT})?\s*{_OUT_OF}\s*({_NUMBER}))?(?:\s*(%|percent|per cent)|\s*{_UNIT})?",
            re.IGNORECASE,
        )

    def read(self, text: str) -> float | None:
        """Return the number. None if it is off the scale, of another scale, or one of several."""
        text = text.strip()
        if stars := _STARS.fullmatch(text):
            shown = len(stars[1]) + len(stars[2])
            return self._on_scale(len(stars[1])) if shown == self._best or not stars[2] else None
        found = self._match.fullmatch(text)
        if not found:
            return None
        top = None if found[2] is None else _as_float(found[2])
        if top not in (None, self._best) or (found[3] and (self._worst, self._best) != (0, 100)):
            return None
        return self._on_scale(_as_float(found[1]))

    def _on_scale(self, number: float) -> float | None:
        return number if self._worst <= number <= self._best else None


class LabelValues:
    """Labels such as PASS and FAIL, in any case, but for labels of one letter, which may be words."""

    def __init__(self, labels: Mapping[str, float]) -> None:
        self._labels = {normalized(label).casefold(): label for label in labels}
        spelt = sorted((normalized(label) for label in labels), key=len, reverse=True)
        one = "|".join(f"(?-i:{re.escape(label)})" if len(label) == 1 else re.escape(label) for label in spelt)
        self.pattern = (
            rf"(?P<value>(?<![A-Za-z0-9_+-])(?:{one})(?:[ \t]{{0,2}}{_OR}[ \t]{{0,2}}(?:an?[ \t])?(?:{one})){{0,3}}"
            r"(?![A-Za-z0-9_+]|-))"
        )

    def read(self, text: str) -> str | None:
        """Return the label as the settings write it. None if it is one of several."""
        return self._labels.get(text.strip().casefold())


VerdictValues = ScaleValues | LabelValues


def _as_float(text: str) -> float:
    word = _WORDS.get(text.casefold())
    return float(text.replace(",", ".")) if word is None else float(word)


def normalized(text: str) -> str:
    """Return a text with one width of characters, Western digits, and no invisible characters or joined emoji.

    The top of a scale that stands in front of a number is put behind it.
    """
    text = unicodedata.normalize("NFKC", _IGNORED.sub("", text))
    if text.isascii():
        return text
    text = "".join(str(unicodedata.decimal(char)) if char.isdecimal() else char for char in text).replace("−", "-")
    return _OF_TOP.sub(lambda match: f"{match['given']}/{match['top'] or match['full']}", text)
