"""Reads the forms in which numbers are written, from text that `number_text` has prepared."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

from batchmix.scorers.late_pattern import late_pattern

_SPACES = "\u00a0\u2009\u202f"
"""No-break and thin spaces, which group digits in some languages."""
_MAGNITUDES = {
    1e2: "hundred",
    1e3: "thousand|mil|tausend|mille|mila|tys|тыс|हज़ार|ألف|천|千",
    1e4: "万|萬|만",
    1e5: "lakhs?|lacs?|लाख",
    1e6: "millions?|mn|mio|mln|millionen|millón|millones|milhão|milhões|milioni?|млн|миллионов|миллиона|مليون|백만",
    1e7: "crores?|करोड़",
    1e8: "億|亿|억",
    1e9: "billions?|bn|mrd|milliarden?|milliards?|miliardi?|миллиардов|млрд|مليار",
    1e12: "trillions?|tn|billionen|兆|조|万亿",
}
_MAGNITUDE = late_pattern(
    r"(?:\s?(?i:(?:"
    + "|".join(
        f"(?P<m{int(math.log10(factor))}>{words})" for factor, words in sorted(_MAGNITUDES.items(), reverse=True)
    )
    + r"))(?![A-Za-zÀ-ÖØ-öø-ɏЀ-ӿ])\.?"
    r"|(?P<thousands>[kK])(?![A-Za-z/])|(?P<millions>M)(?![A-Za-z/])|(?P<billions>B)(?![A-Za-z/]))"
)
_LARGE_SIGNS = {
    **dict.fromkeys("千천", 1e3),
    **dict.fromkeys("万萬만", 1e4),
    **dict.fromkeys("億亿억", 1e8),
    "兆": 1e12,
    "조": 1e12,
}
"""The magnitudes behind which a number may go on."""
_MAX_DIGITS = 40
_DECIMAL = rf"""(?:
    (?P<grouped>[1-9]\d{{0,2}}(?:,\d{{3}}){{1,6}}+(?:\.\d+)?(?![\d]|,\d)|[1-9]\d?(?:,\d{{2}}){{1,8}},\d{{3}}(?:\.\d+)?(?![\d]|,\d))
    |(?P<spaced>[1-9]\d{{0,2}}(?:[ {_SPACES}'_]\d{{3}}){{1,6}}+(?![\d]|[ {_SPACES}'_]\d)(?:[.,]\d+)?)
    |(?P<dotted>\d{{1,3}}(?:(?:\.\d{{3}}){{1,6}},\d{{1,15}}|(?:\.\d{{3}}){{2,6}})(?![.,]?\d))
    |(?P<comma>(?<!\d,)(?:\d+,(?:\d{{1,2}}|\d{{4,}})|0,\d+|\d{{4,}},\d+|(?<![\w)])(?<!\w\s),\d+)(?!\d|,\d))
    |(?P<plain>(?:\d+(?:\.\d+)?|\.\d+))
)"""
_NUMBER = late_pattern(
    rf"""
    (?P<sign>(?:(?<![\w)\]}}%.])|(?<=\d\s))[-–+](?=[\d.,\\])|(?:(?<=[=:(≈>])|(?<=[=:(≈>]\s)|(?<=\bis\s)|\A)\s{{0,3}}[-–]\s(?=[\d.,\\])|\b(?:minus|negative|moins|menos|meno|минус|мінус|eksi|마이너스)\s|(?:负|負|マイナス|minus\s))?
    (?<![A-Za-z0-9_.^À-ÖØ-öø-ɏЀ-ӿ])(?<![A-Za-z]-)(?<!\^[-{{+])(?<!\^{{-)(?<!\\sqrt{{)(?<!√)(?<!log\s)(?<!log\()(?<!ln\s)(?<!ln\()(?<!sin\()(?<!cos\()(?<!tan\()(?<!exp\()(?<!sqrt\()
    (?:
      (?:(?P<whole_tex>\d{{1,15}})\s?)?\\frac\s?(?:\{{\s?(?P<tex_sign>-?)\s?(?P<above>\d{{1,15}})\s?\}}\s?\{{\s?(?P<below>\d{{1,15}})\s?\}}|(?P<above1>\d)\s?(?P<below1>\d))
      |(?<!/)(?:(?P<whole>\d{{1,15}})(?:[ ]|-(?=\d/\d(?!\d))))?
        (?P<numerator>\d{{1,15}})\s?/\s?(?P<denominator>\d{{1,15}})(?![\d/]|[.]\d)
      |(?P<base>\d{{1,15}}(?:\.\d{{1,15}})?)\s?\^\s?(?:\{{\s?(?P<power>[-+]?\d{{1,3}})\s?\}}|(?P<power1>[-+]?\d{{1,3}}))
      |{_DECIMAL}(?:[eE](?P<e>[-+]?\d{{1,3}})(?![\d\w])|\s?[×xX*]\s?10\s?\^\s?(?:\{{\s?(?P<ten>[-+]?\d{{1,3}})\s?\}}|(?P<ten1>[-+]?\d{{1,3}})))?
    )(?!\d)
    """,
    re.VERBOSE | re.IGNORECASE,
)
_NOT_ALONE = late_pattern(
    r"\s?(?:\\?pi\b|π|√|\\sqrt|\\ln|\\log|!(?=\s?[=×*/+^)\d])|[a-z]\s?(?:\^\d+\s?)?=)", re.IGNORECASE
)
"""What makes a number a part of another one: `2π`, `2√3`, `5!`, `3x = …`."""


_WON = late_pattern(r"\s?[원명개]")
"""Counters behind a number whose parts Korean puts a space between, as in `3만 5000원`."""


class FoundNumber(NamedTuple):
    """A number in a text."""

    value: float
    start: int
    end: int


def found_numbers(text: str) -> list[FoundNumber]:
    """Return the finite numbers in a prepared text, in order."""
    found: list[FoundNumber] = []
    for match in _NUMBER.finditer(text):
        if _NOT_ALONE.match(text, match.end()):
            continue
        value = _value(match.groupdict())
        if value is None:
            continue
        factor, end = (1.0, match.end()) if match["e"] else _magnitude(text, match.end())
        if not math.isfinite(value := value * factor):
            continue
        if found and _continues(text, found[-1], FoundNumber(value, match.start(), end)):
            last = found.pop()
            found.append(FoundNumber(last.value + math.copysign(value, last.value), last.start, end))
        else:
            found.append(FoundNumber(value, match.start(), end))
    return found


def _magnitude(text: str, start: int) -> tuple[float, int]:
    """Return the factor of the magnitudes at a place, several as in `5千万`, and where they end."""
    factor, end = 1.0, start
    while magnitude := _MAGNITUDE.match(text, end):
        factor, end = factor * _factor(magnitude), magnitude.end()
    return factor, end


def _continues(text: str, one: FoundNumber, other: FoundNumber) -> bool:
    """Return whether two numbers are one, as in `3万5千`."""
    between, sign = text[one.end : other.start], text[one.end - 1]
    if sign not in _LARGE_SIGNS or between.strip(" ") or other.value < 0:
        return False
    is_below = other.value < _LARGE_SIGNS[sign]
    return is_below and (not between or text[other.end - 1] in _LARGE_SIGNS or _WON.match(text, other.end) is not None)


def _factor(magnitude: re.Match[str]) -> float:
    name = magnitude.lastgroup or ""
    return {"thousands": 1e3, "millions": 1e6, "billions": 1e9}.get(name) or float(10 ** int(name.removeprefix("m")))


def _value(part: dict[str, str | None]) -> float | None:
    sign = -1.0 if part["sign"] and part["sign"].strip() != "+" else 1.0
    if part["tex_sign"]:
        sign = -sign
    above = part["above"] or part["above1"] or part["numerator"]
    below = part["below"] or part["below1"] or part["denominator"]
    try:
        if above and below:
            return sign * (int(part["whole"] or part["whole_tex"] or 0) + int(above) / int(below))
        if part["base"]:
            return sign * float(part["base"]) ** int(part["power"] or part["power1"] or 0)
        exponent = part["e"] or part["ten"] or part["ten1"] or "0"
        return sign * float(f"{_digits(part)}e{exponent}")
    except (ZeroDivisionError, OverflowError):
        return None


def _digits(part: dict[str, str | None]) -> str:
    if part["grouped"]:
        return part["grouped"].replace(",", "")
    if part["spaced"]:
        return re.sub(f"[ {_SPACES}'_]", "", part["spaced"]).replace(",", ".")
    if part["dotted"]:
        return part["dotted"].replace(".", "").replace(",", ".")
    return (part["comma"] or part["plain"] or "").replace(",", ".")
