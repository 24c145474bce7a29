"""Prepares a text for reading its numbers: one form of digits, signs and fractions, without LaTeX and currencies."""

from __future__ import annotations

import re
import unicodedata

from batchmix.scorers.late_pattern import late_pattern

_FORMS = {
    **{
        code: str(digit)
        for code in range(0x80, 0x20000)  # the planes after these have no digits
        if (digit := unicodedata.decimal(chr(code), None)) is not None
    },
    **{code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F) if not 0xFF10 <= code <= 0xFF19},
    **dict.fromkeys(map(ord, "\u2212\u2011\ufe63\u2010"), "-"),
    **dict.fromkeys(map(ord, "\u2012\u2013"), "–"),
    **dict.fromkeys(map(ord, "\u2044\u2215"), "/"),
    **dict.fromkeys(map(ord, "$€£¥₹₽₩₺₫₪¢฿"), ""),
    **dict.fromkeys(map(ord, "⋅∙·∗"), "×"),
    ord("٬"): ",",
    ord("٫"): ".",
    ord("،"): ",",
    ord("٪"): "%",
    ord("’"): "'",
    ord("。"): ". ",
    ord("、"): ", ",
}
"""Digits of all scripts, wide forms, signs and currencies, and what they are read as."""
_FRACTIONS = {
    chr(code): form.replace("\u2044", "/")
    for code in (*range(0xBC, 0xBF), *range(0x2150, 0x215F), 0x2189)
    if "\u2044" in (form := unicodedata.normalize("NFKC", chr(code)))
}
_FRACTION = late_pattern(f"(\\d?)\\s?([{''.join(_FRACTIONS)}])")
_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_SUPERSCRIPT = late_pattern(r"(.)\s?([⁻⁺]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+)")
_LATEX = (
    (late_pattern(r"\\(?:text|math|operator)[a-z]{0,6}\s*\{([^{}]{0,100})\}"), r" \1 "),
    (late_pattern(r"\{,\}"), ","),
    (late_pattern(r"(?<=\d)\\[,!;: ](?=\d{3})"), "\u202f"),
    (late_pattern(r"\\(?:times|cdot|ast)(?![A-Za-z])"), "×"),
    (late_pattern(r"\\(?:approx|simeq|sim)(?![A-Za-z])"), "≈"),
    (late_pattern(r"\\pm(?![A-Za-z])"), "±"),
    (late_pattern(r"\^\s?\{?\s?\\circ\s?\}?"), "°"),
    (late_pattern(r"\\[dtc]frac(?![A-Za-z])"), r"\\frac"),
    (late_pattern(r"\\(?:left|right|quad|qquad|displaystyle)(?![A-Za-z])|\\[()\[\]!,;: %&#]"), " "),
    (late_pattern(r"(?<=\d)\*\*(?=[\d-])"), "^"),
    (late_pattern(r"\*\*+|__+|`+|\\(?=\s|\Z)"), ""),
)
_DOLLARS = late_pattern(r"(?<![A-Za-z])(?:US|AU|CA|NZ|HK|A|C|R|S)(?=\s?\$)")
_CODES = late_pattern(r"(?<![A-Za-z])(?:USD|EUR|GBP|INR|CHF|JPY|CNY|RMB|SEK|NOK|DKK|Rs\.?)\s?(?=-?\d)")
_UNIT_POWER = late_pattern(r"(?<=[A-Za-zµΩ°)%])\s?\^\s?(?:\{\s?[-+]?\d{1,3}\s?\}|[-+]?\d{1,3})")
_DEGREE_OF_ACCURACY = late_pattern(
    r"(?:(?:rounded|correct|accurate)\s+)?(?:to\s+)?(?:\d{1,2}|one|two|three|four)\s+(?:decimals?|digits?|significant|sig\.?|d\.?p\.?\b|s\.?f\.?\b|Nachkommastellen|Dezimalstellen|décimales?|decimales)(?:\s+(?:places?|figures?|digits?|point))?"
    r"|\bnearest\s+\d+|保留\S{0,4}\d位小数",
    re.IGNORECASE,
)
_SCORES = {"half a": 0.5, "a": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "ten": 10}
_DOZENS = late_pattern(rf"\b({'|'.join(_SCORES)}|[1-9]\d{{0,3}}) dozen\b", re.IGNORECASE)
_DOTTED = late_pattern(
    r"(?<![\d.,])([1-9]\d{0,2})\.(\d{3})(?= (?:Einwohner|Menschen|Personen|Stück|Euro|Dollar|Jahren?|Bücher|Schüler"
    r"|Meter|Kilogramm|Tonnen|Liter"
    r"|Kilometer|metros|kilómetros|quilômetros|metri|chilometri|toneladas|personas|habitantes|euros?|pesos|dólares|años|libros"
    r"|personen|mensen|inwoners|jaar|persone|abitanti|anni|libri|pessoas|reais|anos|livros|unidades|kişi|orang)\b)"
)
"""A number of three decimals that counts something, in a language that groups digits with points."""
_OTHER = late_pattern(
    r"(?:±|\+/-|\+-|give or take|plus or minus|with an error of)\s?[\d.,]+\s?%?"
    r"|(?<=\d)(?:\s+\w+)?\s+(?:out\s+of|von\s+insgesamt|sur)\s+(?:the\s+|a\s+)?\d[\d,.]*|(?<=\d)\s+of\s+(?:the\s+)?\d[\d,.]*"
    r"|\b(?:for|when|where|if|with|at|für|pour|para)\s+[a-z]\s?=\s?-?[\d.]+"
    r"|\bper\s+\d[\d,]*",
    re.IGNORECASE,
)
_MONTH = (
    r"(?:Jan(?:uary|uar)?|Feb(?:ruary|ruar)?|Mar(?:ch)?|März|Apr(?:il)?|May|Mai|June?|Juni|July?|Juli|Aug(?:ust)?|Sept?(?:ember)?|O[ck]t(?:ober)?|Nov(?:ember)?"
    r"|De[cz](?:ember)?|janvier|février|mars|avril|juin|juillet|août|septembre|octobre|novembre|décembre|enero|febrero|marzo|abril|mayo|junio|julio|agosto"
    r"|septiembre|octubre|noviembre|diciembre)"
)
_DATE = late_pattern(
    rf"\b{_MONTH}\.?\s+\d{{1,2}}(?:st|nd|rd|th)?,?\s+(?=\d{{4}}\b)|\b\d{{1,2}}(?:st|nd|rd|th|\.|er|º)?\s+(?:of\s+|de\s+)?{_MONTH}\.?,?\s+(?:de\s+)?(?=\d{{4}}\b)"
    r"|(?<=\d{4}年)\s?\d{1,2}月(?:\d{1,2}[日号])?"
    r"|(?<![\d.,/-])\d{4}([-/.])\d{1,2}\1\d{1,2}(?![\d])(?:T[\d:.+Z-]+)?|(?<![\d.,/-])\d{1,2}([-/.])\d{1,2}\2\d{2,4}(?!\d)|(?<![\d:.])\d{1,3}:\d{1,2}(?::\d{2})?(?:[.]\d+)?(?![\d:])"
    r"|(?<![\w.])(?:v\s?)?\d{1,5}(?:\.\d{1,5}){2,}(?![\d,])",
    re.IGNORECASE,
)
_GROUPED = late_pattern(r"\d{1,3}(?:\.\d{3}){2,}")
_CITATION = late_pattern(r"\[\d{1,3}(?:[,–-]\s?\d{1,3}){0,9}\]|\[\^\d+\]")
_PARENTHESES = late_pattern(r"\([^()]{0,300}\)|(?<=\w\s)\[[^\[\]]{0,100}\]")
_TIME = late_pattern(
    r"(?<=\w\s)(?:(?:in|by|since|until|before|after|as\s+of|em|en|im|nel|в|on(?=\s+§))\s+(?:(?:the\s+year|Jahr)\s+|§\s+)*(?:1[5-9]|20)\d\d(?![\d.,]\d)"
    r"|at\s+(?:the\s+age\s+of\s+|age\s+)?\d{1,3}(?![\d.,]\d)(?:\s?°[CF]?)?)(?=\W|\Z)",
    re.IGNORECASE,
)
"""The times of what a number is told of, as in `42 in 2019`."""
_LABEL = late_pattern(
    r"(?<![A-Za-z])(?:steps?|tables?|fig(?:ure)?s?\.?|sections?|equations?|eqs?\.|chapters?|pages?|pp?\.|questions?|problems?|parts?|cases?|options?|examples?|lines?|items?|version|level|note|ref|method|day|week|schritt|tabelle|abbildung|seite"
    r"|étape|tableau|paso|tabla|passo|第)\s?#?\d{1,4}(?:\.\d{1,3}){0,3}[:.)]?(?![\d])",
    re.IGNORECASE,
)
_NAME = late_pattern(
    rf"(?<=[\w,;] )(?!{_MONTH}\b|No\b|Nr\b|About\b|Around\b|Roughly\b|Answer\b)[A-Z][a-z]{{2,20}} \d{{1,4}}(?![\d.,%])"
)
_ENUMERATED = late_pattern(r"^[ \t]*(\d{1,2})[.)][ \t]+(?=\S)", re.MULTILINE)
_BULLET = late_pattern(r"^[ \t]*[-–•*][ \t]+", re.MULTILINE)


def plain_digits(text: str) -> str:
    """Return a text with ASCII digits and fractions such as `1/2`, and without LaTeX, currencies and units' powers."""
    text = _DOLLARS.sub("", text).translate(_FORMS)
    text = _FRACTION.sub(lambda match: f"{match[1]} {_FRACTIONS[match[2]]}" if match[1] else _FRACTIONS[match[2]], text)
    text = _SUPERSCRIPT.sub(_lowered, text)
    for pattern, form in _LATEX:
        text = pattern.sub(form, text)
    text = _DOZENS.sub(lambda match: f"{12 * _SCORES.get(match[1].lower(), 0) or 12 * int(match[1]):g}", text)
    text = _DOTTED.sub(r"\1\2", text)
    return _UNIT_POWER.sub("", _CODES.sub("", text))


def without_asides(text: str) -> str:
    """Return a text without the numbers that are no result: of dates and versions, of places and bounds of error."""
    text = _DATE.sub(lambda match: match[0] if _GROUPED.fullmatch(match[0]) else " § ", text)
    return _OTHER.sub(" ", _DEGREE_OF_ACCURACY.sub(" ", text))


def is_enumerated(text: str) -> bool:
    """Return whether a text has a numbered list."""
    return sum(1 for _ in _ENUMERATED.finditer(text)) > 1


def without_mentions(text: str) -> str:
    """Return a text without what is in parentheses, and without the numbers of footnotes, labels, lists and times."""
    text = _TIME.sub(" ", _PARENTHESES.sub(" ", _CITATION.sub(" ", text)))
    if is_enumerated(text):
        text = _ENUMERATED.sub("", text)
    if text.strip().count("\n"):
        text = _BULLET.sub("", text)
    return _NAME.sub(" ", _LABEL.sub(" ", text))


def _lowered(match: re.Match[str]) -> str:
    return f"{match[1]}^{match[2].translate(_RAISED)}" if match[1].isdigit() else match[1]
