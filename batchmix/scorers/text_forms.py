"""The forms in which scorers compare texts: without markup, and normalised as in the evaluation of SQuAD."""

from __future__ import annotations

import html
import re
import unicodedata

from batchmix.scorers.late_pattern import late_pattern
from batchmix.scorers.number_forms import found_numbers
from batchmix.scorers.number_text import plain_digits, without_asides

_QUOTES = str.maketrans("‘’‚‛´ʼ′‹›“”„‟«»″〝〞", "'" * 9 + '"' * 9)
_SUBSCRIPT = late_pattern(r"(?<=[^\W\d_])[₀-₉]+")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_OTHER_MEANING = ("<super>", "<sub>", "<fraction>", "<circle>")
"""The kinds of compatible forms that a person reads as something else: `x²` is not `x2`."""
_AROUND = late_pattern(r"\A(?:(?:#{1,6}|[-•])\s(?=[*_`\"'¡]*[^\W\d]))?+[\s*_`\"'¡]*|[\s*_`\"'.!。！…;,]+\Z")
_BRACKETS = late_pattern(r"\(([^()]+)\)|\[([^\[\]]+)\]|「([^「」]+)」|\$([^$]+)\$")
_BREAKS = late_pattern(r"(?<=\S)<(?:br[ /]{0,2}|/(?:p|li|div|td))>(?=\S)", re.IGNORECASE)
_TAGS = late_pattern(r"</?(?:a|b|strong|i|em|u|p|br|span|div|li|ul|td|h[1-6])[ /]{0,2}>", re.IGNORECASE)
_FULL_STOP = late_pattern(r"[.!。！…]+\Z")
_ARTICLE = late_pattern(r"\b(?:a|an|the)\b")
_NO_SPACES = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
"""The letters of scripts that put no spaces between words, or that join endings to them."""
_LETTER = rf"[^\W_{_NO_SPACES}]"
_IS_LETTER = late_pattern(_LETTER)
_NO_LETTER_BEFORE = late_pattern(rf"(?<!{_LETTER})(?<!{_LETTER}_)(?<!\bnon-)")
_NO_LETTER_AFTER = late_pattern(rf"(?!{_LETTER}|_{_LETTER}|\+(?!\w)|\+\+|#)")
_NO_NUMBER_BEFORE = late_pattern(r"(?<!\d[.,:])(?<!(?<!\w)-)")
_ORDINAL = r"(?:st|nd|rd|th)\b"
_NO_NUMBER_AFTER = late_pattern(rf"(?![.,:]\d|{_ORDINAL})")
_IS_ORDINAL = late_pattern(_ORDINAL)
_TOKEN = late_pattern(rf"[{_NO_SPACES}]|[^\s{_NO_SPACES}]+")
_THOUSANDS = late_pattern(r"(?<=\d),(?=\d{3}(?:\D|\Z))")
_UNIT = late_pattern(r"(?<=\d) ?(?=[^\W\d_]|[°%])")
"""Where a number and its unit meet."""
_NUMBER = late_pattern(r"-?(?:0|[1-9]\d{0,14})(?:\.\d{1,15})?")
"""A number as a person would write it, unlike a code such as `007`."""


class _PlainSigns(dict[int, str | None]):
    """What each sign is read as, found when it is first asked for. None if it is not seen at all."""

    def __missing__(self, code: int) -> str | None:
        sign = chr(code)
        category, kind = unicodedata.category(sign), unicodedata.decomposition(sign).split(" ")[0]
        if category == "Cf" or 0xFE00 <= code <= 0xFE0F:
            found = None
        elif category == "Pd" or sign == "\u2212":
            found = "-"
        elif kind.startswith("<") and kind not in _OTHER_MEANING:
            found = unicodedata.normalize("NFKC", sign)
        else:
            found = sign
        self[code] = found
        return found


_PLAIN_SIGNS = _PlainSigns()


def plain_signs(text: str) -> str:
    """Return a text with composed accents, one form of quotation marks, dashes and letters, and nothing unseen.

    So much looks the same to a person. Other accents, case and raised digits do not.
    """
    if text.isascii():
        return text
    text = _SUBSCRIPT.sub(lambda match: match[0].translate(_SUBSCRIPTS), text.translate(_QUOTES))
    return unicodedata.normalize("NFC", text.translate(_PLAIN_SIGNS))


def without_html(text: str) -> str:
    """Return a text without HTML's tags of emphasis and paragraphs, and with the characters that its entities name."""
    return html.unescape(_TAGS.sub("", _BREAKS.sub(" ", text)))


def plain_form(text: str) -> str:
    """Return a text with plain signs and single spaces."""
    return " ".join(plain_signs(text).split())


def bare_form(text: str) -> str:
    """Return a plain text without the markup, brackets, quotation marks and full stops around it."""
    bare = _AROUND.sub("", without_html(text))
    inner = _BRACKETS.fullmatch(bare)
    return (inner and inner[inner.lastindex or 0].strip()) or bare or text


def without_full_stop(text: str) -> str:
    """Return a text without the full stops at its end, unless nothing else is in it."""
    return _FULL_STOP.sub("", text) or text


def normal_form(text: str) -> str:
    """Return a text in lower case, without wide forms, punctuation, articles and repeated spaces.

    As the evaluation of SQuAD does it (Rajpurkar et al. 2016), except that a number keeps its sign and its point.
    """
    text = unicodedata.normalize("NFKC", text.translate(_PLAIN_SIGNS)).casefold()
    kept = (sign if not _is_punctuation(text, at) else " " if sign in "-–—/" else "" for at, sign in enumerate(text))
    words = "".join(kept)
    return " ".join(_ARTICLE.sub(" ", words).split()) or " ".join(words.split())


def _is_punctuation(text: str, at: int) -> bool:
    sign = text[at]
    if not unicodedata.category(sign).startswith("P"):
        return sign in "`^~$+=<>|"
    after = text[at + 1 : at + 2]
    before = text[at - 1 : at] if at else ""
    if sign in ".," and before.isdigit() and after.isdigit():
        return sign == ","
    return not (sign == "-" and after.isdigit() and not before.isalnum())


def tokens(text: str) -> list[str]:
    """Return the words of a text in normal form, and each sign of scripts without spaces."""
    return _TOKEN.findall(normal_form(text))


def has_words(text: str, wanted: str) -> bool:
    """Return whether a text has this one within it as whole words, or if it is a number, one of the same value.

    `10` is not in `10.5` or `12:10`, `C` is not in `C++`, and `5 km` is in `5km`.
    """
    if _has_words(text, wanted):
        return True
    if _UNIT.search(wanted) and _has_words(_UNIT.sub("", _THOUSANDS.sub("", text)), _UNIT.sub("", wanted)):
        return True
    if not _NUMBER.fullmatch(wanted):
        return False
    plain = without_asides(plain_digits(text))
    return any(
        found.value == float(wanted) for found in found_numbers(plain) if not _IS_ORDINAL.match(plain, found.end)
    )


def _has_words(text: str, wanted: str) -> bool:
    """Look for each place of the words, and at what is around it: a pattern of each target is slow to compile."""
    before = [_NO_LETTER_BEFORE] * bool(_IS_LETTER.match(wanted)) + [_NO_NUMBER_BEFORE] * wanted[:1].isdigit()
    after = [_NO_LETTER_AFTER] * bool(_IS_LETTER.match(wanted[-1:])) + [_NO_NUMBER_AFTER] * wanted[-1:].isdigit()
    at = text.find(wanted)
    while at >= 0:
        end = at + len(wanted)
        if all(edge.match(text, at) for edge in before) and all(edge.match(text, end) for edge in after):
            return True
        at = text.find(wanted, at + 1)
    return False
