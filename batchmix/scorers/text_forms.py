"""The forms in which scorers compare texts: without markup, and normalised as in the evaluation of SQuAD."""

from __future__ import annotations

import re
import unicodedata

from batchmix.scorers.answer_words import any_word

_QUOTES = str.maketrans("‘’‚‛´“”„‟«»", '\'\'\'\'\'""""""')
_AROUND = re.compile(r"\A[\s*_`\"'¡]+|[\s*_`\"'.!。！…]+\Z")
_WIDE = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
_NOT = "not|isn't|wasn't|aren't|weren't|never|nicht|kein|pas|no es|no era|não é|non è|не|niet|inte|ikke|nie"
_NEGATION = (
    rf"{any_word(_NOT)}\s"
    r"(?:(?:the|in|at|by|really|actually|der|die|das|la|le|el|il|de)\s){0,2}|(?:不是|并非)\s?"
)
_DENIAL = re.compile(_NEGATION, re.IGNORECASE)
_BRACKETS = re.compile(r"\(([^()]+)\)|\[([^\[\]]+)\]|「([^「」]+)」|\$([^$]+)\$")
_FULL_STOP = re.compile(r"[.!。！…]+\Z")
_ARTICLE = re.compile(r"\b(?:a|an|the)\b")
_NO_SPACES = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
"""The letters of scripts that put no spaces between words, or that join endings to them."""
_LETTER = rf"[^\W_{_NO_SPACES}]"
_IS_LETTER = re.compile(_LETTER)
_NO_LETTER_BEFORE = re.compile(f"(?<!{_LETTER})")
_NO_LETTER_AFTER = re.compile(f"(?!{_LETTER})")
_NO_NUMBER_BEFORE = re.compile(r"(?<!\d[.,])(?<!(?<!\w)[-\u2212])")
_NO_NUMBER_AFTER = re.compile(r"(?![.,]\d)")
_TOKEN = re.compile(rf"[{_NO_SPACES}]|[^\s{_NO_SPACES}]+")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?:\D|\Z))")


def plain_form(text: str) -> str:
    """Return a text with composed accents, straight quotation marks and single spaces."""
    return " ".join(unicodedata.normalize("NFC", text).translate(_QUOTES).split())


def bare_form(text: str) -> str:
    """Return a plain text without the markup, brackets, quotation marks and full stops around it, in narrow forms."""
    bare = _AROUND.sub("", text.translate(_WIDE))
    inner = _BRACKETS.fullmatch(bare)
    return (inner and inner[inner.lastindex or 0].strip()) or bare or text


def without_full_stop(text: str) -> str:
    """Return a text without the full stops at its end, unless nothing else is in it."""
    return _FULL_STOP.sub("", text) or text


def normal_form(text: str) -> str:
    """Return a text in lower case, without wide forms, punctuation, articles and repeated spaces.

    As the evaluation of SQuAD does it (Rajpurkar et al. 2016), except that a number keeps its sign and its point.
    """
    text = unicodedata.normalize("NFKC", text).casefold()
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


def without_denial(text: str, denied: str) -> str:
    """Return a text without those places that name this one right after a word such as `not`."""
    if not _DENIAL.search(text):  # compiling the pattern below takes longer than all else about an answer
        return text
    return re.sub(rf"(?:{_NEGATION}){re.escape(denied)}", " ", text, flags=re.IGNORECASE)


def has_words(text: str, wanted: str) -> bool:
    """Return whether a text has this one within it as whole words.

    `10` is not in `10.5`, and `1234` is in `1,234`.
    """
    return _has_words(text, wanted) or (wanted.isdigit() and _has_words(_THOUSANDS.sub("", text), wanted))


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
