"""Reads numbers that are written as words, such as `forty-two`, `drei`, `two and a half million` or `四十二`."""

from __future__ import annotations

import re

from text_to_num import alpha2digit, text2num

from batchmix.scorers.answer_words import COPULAS, any_word
from batchmix.scorers.late_pattern import late_pattern

_LANGUAGES = ("en", "de", "fr", "es", "it", "pt", "nl")
_MOST_CHARS = 2_000
_MOST_WORDS = 6
"""The most words that make a number in a language other than English."""
_HALVES = late_pattern(r"\b([a-z-]{1,30}) and (?:a|one) (half|quarter)\b", re.IGNORECASE)
_PARTS = late_pattern(
    r"\b(a|one|two|three|four|five|seven)[ -]"
    r"(hal(?:f|ves)|thirds?|quarters?|fourths?|fifths?|sixths?|eighths?|tenths?)\b",
    re.IGNORECASE,
)
_BELOW = {"hal": 2, "thi": 3, "qua": 4, "fou": 4, "fif": 5, "six": 6, "eig": 8, "ten": 10}
_LARGE = late_pattern(r"\b(\d+\.\d+) 1(000|000000|000000000)\b")
"""What is made of `one point two million`."""
_ORDINAL = late_pattern(r"\d+(?:st|nd|rd|th|º|ª|er|e|ème)\b")
_LINKS = late_pattern(
    rf"(?:[\s:=,–—-]|{any_word(COPULAS)})*+(?P<minus>(?:minus|moins|menos|meno|min)\s)?", re.IGNORECASE
)
_NONE = late_pattern(
    r"\W*(?:none|zero|nil|nothing|null|keine[rs]?|zéro|aucune?|cero|ningun[oa]|nessuno|零|〇)\b\W*", re.IGNORECASE
)
_WORD = late_pattern(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_MINUS = late_pattern(r"\b(?:minus|negative|moins|menos|meno)\s+(?=\d)", re.IGNORECASE)
_CHINESE = late_pattern(
    r"(?:(?<![\u4e00-\u9fff])|(?<=[是为為有共]))[负負]?([〇零一二三四五六七八九两十百千万萬億亿]+)(?=[个個名人元円歳岁%年本匹枚只件]?(?:[\s.,)!]|\Z|です|。))"
)
_COUNTED = late_pattern(
    r"([一二三四五六七八九两]?[十百千万][一二三四五六七八九十百千万]*)[岁歳个個名人元円块天本只件枚匹冊台]"
    r"(?=(?:です|でした|だ|になります|あります|います)?\W*\Z)"
)
_THERE_ARE = "were|waren|war|gibt|gab|étaient|était|avait|eran|hay|había|erano|há|havia|eram|foram"
_SAID = late_pattern(
    rf".*{any_word(f'{COPULAS}|{_THERE_ARE}')}\s(?:{any_word('also|thus|therefore|donc|quindi|portanto')}\s)?((?:[^\W\d]+\s){{0,2}}[^\W\d]+)\W*\Z",
    re.DOTALL | re.IGNORECASE,
)
_CHINESE_DIGITS = {**{digit: value for value, digit in enumerate("〇一二三四五六七八九")}, "零": 0, "两": 2}
_CHINESE_UNITS = {"十": 10, "百": 100, "千": 1_000}
_CHINESE_LARGE = {"万": 10**4, "萬": 10**4, "億": 10**8, "亿": 10**8}


def with_digits(text: str, *, is_stated: bool) -> str:
    """Return a text with the English numbers in it as digits, given a text without digits.

    If it is a stated result, numbers of other languages are read too. The text stays as it is if it has none.
    """
    text = text[:_MOST_CHARS]
    if is_stated and _NONE.fullmatch(text):
        return "0"
    read = _PARTS.sub(_part, _HALVES.sub(_with_half, text))
    if read == text:
        read = _LARGE.sub(lambda match: f"{match[1]}e{len(match[2])}", _ORDINAL.sub(" ", alpha2digit(text, "en")))
    if any(map(str.isdigit, read)):
        return _MINUS.sub("-", read)
    return _stated(text) if is_stated else _said(text)


def _said(text: str) -> str:
    """Return the number with which a text ends: behind a verb such as `is`, or in front of a Chinese counter."""
    if counted := _COUNTED.search(text):
        return str(_chinese(counted[1]))
    said = _SAID.search(text)
    if said is None:
        return text
    read = _stated(said[1])
    return text if read.startswith("1") and len(said[1].split()) > 1 else read


def _stated(text: str) -> str:
    if chinese := _CHINESE.search(text):
        sign = "-" if chinese[0][0] in "负負" else ""
        return f"{sign}{_chinese(chinese[1])}"
    links = _LINKS.match(text)
    linked = text[: links.start("minus")] if links and links["minus"] else links[0] if links else ""
    sign = "-" if links and links["minus"] else ""
    words = _WORD.findall(text, links.end() if links else 0)[:_MOST_WORDS]
    for language in _LANGUAGES:
        for end in range(len(words), 0, -1):
            number = _number(" ".join(words[:end]), language)
            if number is not None:
                return f"{linked}{sign}{number} {' '.join(words[end:])}"
    return text


def _number(words: str, language: str) -> int | None:
    try:
        return int(text2num(words, language))
    except ValueError:
        return None


def _with_half(match: re.Match[str]) -> str:
    number = _number(match[1], "en")
    return match[0] if number is None else f"{number} 1/{'2' if match[2].lower() == 'half' else '4'}"


def _part(match: re.Match[str]) -> str:
    above = 1 if match[1].lower() == "a" else _number(match[1], "en")
    return f"{above}/{_BELOW[match[2].lower()[:3]]}"


def _chinese(text: str) -> int:
    total = section = digit = 0
    for sign in text:
        if sign in _CHINESE_DIGITS:
            digit = digit * 10 + _CHINESE_DIGITS[sign]
        elif sign in _CHINESE_UNITS:
            section, digit = section + (digit or 1) * _CHINESE_UNITS[sign], 0
        else:
            total, section, digit = total + (section + digit or 1) * _CHINESE_LARGE[sign], 0, 0
    return total + section + digit
