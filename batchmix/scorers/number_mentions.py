"""Takes numbers out of a text that are no result: bounds, cases that are supposed, what is denied, places in a book."""

from __future__ import annotations

import re

from batchmix.scorers.answer_words import CANNOT
from batchmix.scorers.late_pattern import late_pattern

_NUMBER = r"(?<![\d.,])[-–]?\d[\d.,]{0,30}+(?:/\d{1,15})?%?"
_PRE_BOUND = (
    r"\b(?:(?:more|less|fewer|greater|higher|lower|larger|smaller|bigger|later|earlier) than|at (?:least|most)|up to|(?<!\d )(?:under|below|above|over)|exceed(?:s|ing)?|a (?:minimum|maximum) of"
    r"|mindestens|höchstens|mehr als|weniger als|maximal|minimal|plus de|moins de|au (?:moins|plus|maximum)|máximo|maximum|within|más de|menos de|al menos|como (?:mínimo|máximo)|mais de|pelo menos|no máximo|almeno|più di|meno di|al massimo"
    r"|(?:не )?(?:более|менее|больше|меньше)|минимум|максимум|свыше|meer dan|minder dan|minstens|hoogstens|över|minst|co najmniej|en az|en fazla|lebih dari)\s"
    r"|[≥≤]|\\(?:geq?|leq?)(?![a-z])|(?<![</\w])[a-z]\s?[<>](?!=)|(?:\A|(?<=[\s(]))[<>](?=\s?\d[\d.,]{0,20}+(?!>))"
    r"|至少|至多|最多|最少|超过|超過|多于|少于|不到|不足|大于|小于|أكثر من|أقل من|على الأقل|कम से कम|अधिकतम"
)
_POST_BOUND = (
    r"\s?(?:[^\W\d_]{1,12}\s)?(?:(?:or|oder|ou|o|или)\s(?:more|fewer|less|higher|lower|above|below|greater|over|under|earlier|later|mehr|weniger|plus|moins|más|menos|mais|più|meno|больше|меньше|более|менее)"
    r"|(?:at (?:most|least)|mindestens|höchstens|au (?:moins|plus)|minimum|maximum)\b)|\+(?=\s*(?:\Z|[a-z.,)\n]))|\s?(?:[个個人元]\s?)?(?:以上|以下|以内)|[^\s\d]?\s?(?:이상|이하)|\s?से (?:अधिक|ज्यादा|कम)"
)
_BOUND = late_pattern(
    rf"(?:{_PRE_BOUND})\s?(?:about |around |\$)?{_NUMBER}|{_NUMBER}(?:{_POST_BOUND})|\b(?:1\d|20)\d0'?s\b|\bthe '?\d0s\b|{_NUMBER}\s?[<>≤≥]\s?{_NUMBER}",
    re.IGNORECASE,
)
_DENIED = late_pattern(
    rf"{_NUMBER}\s(?:is|was|would be|can't be|cannot be|ist|est|es|è|é)\s(?:therefore |clearly )?(?:wrong|incorrect|not|too|impossible|false|falsch|faux|incorrecto|errado|sbagliato)\b"
    rf"|{_NUMBER}\s?(?:ではありません|ではない|ではなく|じゃない|[이가]\s?아니|değil|नहीं)|(?:不是|并非|不等于)\s?{_NUMBER}",
    re.IGNORECASE,
)
_TRIED = late_pattern(
    r"\b(?:tried|attempted|versucht|probiert|essayé|intenté|provato|tentei|looked (?:through|at)|read|searched)\b[^.;\n\d]{0,25}\d+(?:\s?(?:times|pages|mal|fois|veces))?"
    r"|\d+(?:-|\s)?(?:times|mal|fois|veces)\s(?:tried|versucht|essayé)",
    re.IGNORECASE,
)
_REFERENCE = late_pattern(
    r"(?<![A-Za-z])(?:steps?|tables?|figures?|fig\.|sections?|equations?|eq\.|chapters?|pages?|appendix|room|error|http|call|exercise|aufgabe|kapitel|seite|chapitre|capítulo|página|question|trained in|knowledge cut-?off)\s(?:no\. ?|code )?#?\d{1,4}(?![\d.,]\d|\s?(?:[=+×*/%]))"
    r"|\b\d[DGK]\b",
    re.IGNORECASE,
)
_ASSIGNED = r"(?<![\w^])[a-z](?:_?\{?\d\}?|[₀-₉])?\s?=\s?-?\d[\d./]{0,20}+"
_SEVERAL = late_pattern(
    rf"{_ASSIGNED}(?:\s?(?:,|;|and|or|und|oder|et|ou|y|o|и|或|和)+\s?{_ASSIGNED}){{1,5}}", re.IGNORECASE
)
_ASIDE_CLAUSE = late_pattern(
    r"(?<=\d)((?:\s[^\W\d]{1,15}){0,2}?),?\s(?:(?<=, )(?:when|while|whereas|although|though|i\.e\.|of which|including|compared|versus|up from|down from|twice|half|which is (?:half|twice|a|one))|(?:because|since))\s(?:[^.,;:=\n]|[.,](?=\d))*(?=[.;\n]|\Z)",
    re.IGNORECASE,
)
_ENDS_OF_CHANGE = late_pattern(
    rf"(?<=\d)((?:\s?[%°€$£]|\s?[^\W\d_]{{1,15}}){{0,3}})\s?,\s(?:from|von|de|da|desde|van|från|с|от)\s[^\W\d]{{0,5}}{_NUMBER}[^\d.;:\n]{{0,20}}?"
    rf"\s{{1,2}}(?:to|auf|à|a|para|naar|till|до)\s[^\W\d]{{0,5}}{_NUMBER}[^\d.;:\n]{{0,20}}",
    re.IGNORECASE,
)
"""The two values between which something has changed, as in `fell by 3 points, from 12 to 9`."""
_BEHIND = late_pattern(
    r"(?<=\d)\s(?:when\sthe\s[^.,;:=\n]*(?=[.;\n]|\Z)|from\s\d[\d.,]{0,20}+(?=\s*\Z))", re.IGNORECASE
)
_SENTENCE = late_pattern(r"[^.!?\n]*(?:(?:\.(?=\d)|[!?.](?=[!?.]))[^.!?\n]*)*[.!?\n]?")
_CHECK = late_pattern(
    r"\s*+\W{0,3}(?:(?:quick |let's |to |we can |als |zur )?(?:sanity )?(?:check|verify|verification|double-check|probe|kontrolle|gegenprobe)|vérifi(?:cation|ons)|comprobación"
    r"|verificación|comprobamos|verifica(?:ção)?|controle|проверка|sprawdzenie)\W{0,3}[:：]|\s*(?:验算|验证|检验|検算|確認|검산)\s?[:：]|\s*zur (?:kontrolle|probe)\b",
    re.IGNORECASE,
)
"""Begins a sentence that only checks the result."""
_SOURCE = late_pattern(
    r"(?<=\n)[ \t]*(?:(?:\[\^?\d{1,3}\]:?|[¹²³⁴-⁹])[ \t]*(?=[^\W\d])|\W{0,3}(?:sources?|references?|quellen?|fuentes?|fontes?|fonti?|bron(?:nen)?|источники?)\W{0,3}:)[^\n]*",
    re.IGNORECASE,
)
"""A line that names a source."""
_ONLY_SUPPOSED = late_pattern(
    r"\s*+(?:(?:suppose|supposing|assume|imagine|let's say|(?:by|for|in) comparison|zum vergleich|à titre de comparaison|en comparación|em comparação)\b|(?:so |and |but )?(?:is|are|was|were|do|does|did|could|can|should|would|how|what|why|who|which|where)\b.*\?\s*\Z"
    r"|(?:ist|sind|est-ce|est|es|wie|was|warum|combien|cuánto|quanto)\b.*\?\s*\Z|.*\bwould\b.*\bif\b|if\b.*\bwould\b)",
    re.IGNORECASE | re.DOTALL,
)
_FACT = late_pattern(r"[;,—]\s(?:but\s)?(?:as it is|in fact|in reality|actually)\b(?=.*\d)", re.IGNORECASE | re.DOTALL)
"""Stands between what is supposed and what is so."""
_CANNOT = late_pattern(CANNOT, re.IGNORECASE)
_BROKEN_OFF = late_pattern(
    r"(?:[+×*÷/=:：(]|(?<!\.)[–-]|[^\W\d][,，、]|其中|所以|因此|以及"
    r"|\b(?:and|or|with|the|of|are|which|each|(?<!it )is|to|so|by|an?|und|mit|je|oder|et|de|y|con|que|aus|en))\s*\Z",
    re.IGNORECASE,
)


def without_bounds(text: str) -> str:
    """Return a text with digits in which each number that is only a bound, tried, denied or one of several is `§`."""
    for pattern in (_SEVERAL, _BOUND, _DENIED, _TRIED):
        text = pattern.sub(" § ", text)
    return text


def without_references(text: str) -> str:
    """Return a text without the numbers of places in a text, such as `page 12`, and of names such as `3D`."""
    return _REFERENCE.sub(" ", text)


def main_clauses(text: str) -> str:
    """Return a text without clauses behind a number that tell of something else."""
    return _BEHIND.sub("", _ASIDE_CLAUSE.sub(r"\1", _ENDS_OF_CHANGE.sub(r"\1", text)))


def asserted(text: str) -> str:
    """Return a text without sentences that ask or suppose, and unless nothing is left then, without checks and sources."""
    sentences = [_without_supposed(one) for one in _SENTENCE.findall(_SOURCE.sub("", text))]
    unchecked = "".join(one for one in sentences if not _CHECK.match(one))
    return unchecked if any(map(str.isalnum, unchecked)) else "".join(sentences)


def _without_supposed(sentence: str) -> str:
    """Return a sentence, or of one that asks or supposes, only what it says is so."""
    if not _ONLY_SUPPOSED.match(sentence):
        return sentence
    fact = _FACT.search(sentence)
    return sentence[fact.end() :] if fact else ""


def gives_up(text: str) -> bool:
    """Return whether a text ends by saying that it has no result."""
    return _CANNOT.search(text[-150:]) is not None


def is_broken_off(text: str) -> bool:
    """Return whether a text ends in the middle of a sentence or a calculation."""
    return _BROKEN_OFF.search(text[-40:].rstrip("*_ ")) is not None
