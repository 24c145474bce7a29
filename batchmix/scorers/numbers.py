"""The scorer `number`, and how it finds the number that an answer gives."""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Iterator
from typing import Literal

from batchmix.answers.reasoning import RefusedTextError
from batchmix.scorers.answer_words import COPULAS, LINKS, NOT, any_word
from batchmix.scorers.fields import field_texts, read_fields
from batchmix.scorers.late_pattern import late_pattern
from batchmix.scorers.number_forms import FoundNumber, found_numbers
from batchmix.scorers.number_mentions import (
    asserted,
    gives_up,
    is_broken_off,
    main_clauses,
    without_bounds,
    without_references,
)
from batchmix.scorers.number_text import is_enumerated, plain_digits, without_asides, without_mentions
from batchmix.scorers.number_words import with_digits
from batchmix.scorers.own_words import own_words
from batchmix.scorers.settings import Score, ScorerSettings, Share, target_text
from batchmix.scorers.statements import (
    ANSWER,
    Found,
    ReadPlace,
    StatedPlace,
    answered_text,
    final_text,
    settled,
    statements,
)

_MOST_BOLD = 10
_MOST_HEAD_CHARS = 100
_MOST_LOOSE_CHARS = 2_000
"""The end of a long answer in which its last number is looked for first."""
_ROUNDING = 1e-12
"""The relative difference that a calculation with doubles may leave, as in 0.1 + 0.2."""
_ABOUT = (
    r"about|approximately|approx\.?|around|roughly|nearly|almost|exactly|only|just|equal to|over|ca\.?|circa"
    r"|etwa|rund|ungefähr|environ|aproximadamente|unos|unas|cerca de|около|примерно|约|約|大约|およそ|약"
    r"|total|in total|a total of|altogether|[a-z]|no|nr|number|numero|número|the value|value"
)
_BEFORE = late_pattern(
    rf"(?:[^.!?;\n\d]{{0,60}}?(?:{any_word(COPULAS)}|[:=>]))?(?:[\s:=≈~→⇒>,(\[{{}}\"'“”*|–—-]|\\boxed|{any_word(f'{LINKS}|{_ABOUT}')})*+",
    re.IGNORECASE,
)
_NEGATION = late_pattern(any_word(NOT), re.IGNORECASE)
_TO = r"to|or|and|bis|oder|und|à|a|ou|et|o|y|e|ed|и|или|до|і|або|lub|i"
"""Words between the numbers of a range or a list."""
_DENIED = late_pattern(
    rf"{any_word(NOT)}[\s:]{{1,3}}(?:{any_word(f'{LINKS}|{_ABOUT}')}\s{{1,3}}){{0,2}}\Z", re.IGNORECASE
)
_HEAD = late_pattern(
    r"(?:\s?[%°]|\s[^\W\d_]{1,15}){0,2}(?:\s?\.(?=\s)|\s?\(|\s?—|,\swhich\b|\s?\n\s*\n|\s?[;:]\s(?=\S+\s[^\n]*\Z)"
    r"|\s?[,;–-]\s(?:check|that|up|down|compared|not|twice|half|about|roughly|of which|where|when|while|although"
    r"|soit|also|namely|rounded|including|versus|vs)\b|,?\s(?:because|since|as|i\.e\.|weil|da|car|porque|因为))"
)
"""Follows a result at the beginning of an answer that then explains it."""
_QUALIFIED = late_pattern(
    r"(?:\s?%|\s[^\W\d_]{1,20}){0,2}\s(?:in|on|after|of|with|for|as of|from|per|before|at)\s"
    r"(?:(?!\b(?:is|are|was|were|leaves?|makes?|gives?|equals|remain|left|so|then|has|have)\b)[^,;:=→\n]){1,60}",
    re.IGNORECASE,
)
"""All that follows a result at the beginning, if it only says of what that is."""
_UNIT = r"(?:\s?[%°]?\s?[^\W\d_]{0,12}\.?)"
_A_RANGE = rf"{_UNIT}\s?(?:[-–—~]|(?:{any_word(_TO)})|到|至|或|和|から|または)\s?(?:[a-z]\s?=\s?)?"
_LIST = rf"{_UNIT}\s?[,;]\s?(?:(?:{any_word(_TO)})\s)?(?:[a-z]\s?=\s?)?"
_RANGE = late_pattern(_A_RANGE, re.IGNORECASE)
_SEPARATED = late_pattern(f"{_A_RANGE}|{_LIST}", re.IGNORECASE)
_EQUALS = late_pattern(rf"{_UNIT}\s?[^\w\s]?\s?(?:=|≈|→|\bis\b|\bequals\b)\s?", re.IGNORECASE)
_OPERATION = late_pattern(r"\s?[)]?\s?(?:[+×*÷/^-]|\bx\b|\btimes\b|\bplus\b|\bminus\b)\s?[(]?\s?")
_NO_SPACES, _SIGNS_PER_WORD = late_pattern("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]"), 2
_BOLD = late_pattern(r"\*\*([^*\n]{1,60})\*\*")
_SENTENCES = late_pattern(r"\n|[。；;](?!\s*\Z)")
_FACTORIAL = late_pattern(r"\W*\d+!\W*")
_CLAUSE_END = late_pattern(r"\n|[?;](?=\s|\Z)|!(?=\s|\Z)(?!\s?[=×*/+^])|\.(?=\s|\Z)")


class Number(ScorerSettings, frozen=True, kw_only=True, tag="number"):
    """Scores 1 if the number that the answer gives equals the number in the target, otherwise 0."""

    take: Literal["first", "last"] = "last"
    """Which number counts if the answer does not say which of them is its result."""
    tolerance: Share = 0.0
    """The largest difference that counts as equal."""
    relative: Share = 0.0
    """The largest difference that counts as equal, as a share of the larger number. Either bound is enough."""

    def score(self, response: str, target: str) -> Score:
        """Compare the number that the answer gives with the one in the target."""
        return self._compared(given_number(response, self.take), target)

    def score_cut_off(self, response: str, target: str) -> Score:
        """Compare the numbers if the answer had stated its own before it was cut off."""
        return self._compared(given_number(response, self.take, is_cut_off=True), target)

    def _compared(self, found: Found[float], target: str) -> Score:
        wanted = given_number(target, self.take).value
        if wanted is None or not (wanted or any(map(str.isdigit, target))):  # `none` is 0 only as an answer
            return Score(None, target, None, "the target is not one number")
        if found.value is None:
            return Score(None if found.is_unclear else 0.0, target, None, found.why)
        relative = max(self.relative, _ROUNDING)
        near = math.isclose(found.value, wanted, rel_tol=relative, abs_tol=self.tolerance)
        return Score(float(near), target, target_text(found.value))


@functools.lru_cache(maxsize=4)  # an answer is compared with several targets
def given_number(text: str, take: str, *, is_cut_off: bool = False) -> Found[float]:
    """Return the number that an answer gives.

    Of an answer that consists of fields, that of the result is read. Otherwise, these are tried in order: where the
    result is stated (see `statements`), what is bold in the last line, and the
    first or last number of the text. Dates, versions, footnotes, labels and what is in parentheses are no results. A
    range and a list are not one number.
    """
    if fields := field_texts(answered_text(text)):
        return read_fields(fields, lambda field: given_number(field, take))
    try:
        whole = final_text(text)
        text = asserted(own_words(whole))
    except RefusedTextError as error:
        return Found(None, str(error), is_unclear=is_cut_off)
    if _FACTORIAL.fullmatch(text):
        return Found(None, "a factorial, or a number")
    found = settled(text, _levels(text, take, whole if is_cut_off else ""), _same)
    if found:
        return found
    if is_cut_off:
        return Found(None, "the answer was cut off before it stated a number", is_unclear=True)
    return Found(None, "no number in the answer")


def _same(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=_ROUNDING)


def _levels(text: str, take: str, cut_off: str) -> Iterator[list[ReadPlace[float]]]:
    """Yield the readings of what an answer asserts. `cut_off` is all of it if it was cut off, checks included."""
    cut_off = cut_off or (text if is_broken_off(text) else "")
    is_cut_off = bool(cut_off)
    if not is_cut_off:
        yield _whole(text)
    for places in statements(text, ANSWER):
        yield [
            ReadPlace(place.start, values, place.is_final)
            for place in places
            if (values := _stated(place, is_cut_off=is_cut_off and _touches(place, cut_off)))
        ]
    if is_cut_off:
        return
    bold = [
        values
        for match in itertools.islice(_BOLD.finditer(text), _MOST_BOLD)
        if (values := _stated(StatedPlace(0, match[1])))
    ]
    last = _BOLD.findall(text.rstrip().rsplit("\n", 1)[-1])
    if last and (values := _stated(StatedPlace(0, last[-1]))):
        yield [ReadPlace(len(text), values)]
    elif len(set(bold)) == 1:
        yield [ReadPlace(len(text), bold[0])]
    yield _head(text)
    if not gives_up(text):
        yield _loose(text, take)


def _prepared(text: str) -> str:
    return without_bounds(without_asides(plain_digits(text)))


def _touches(place: StatedPlace, text: str) -> bool:
    return text.rstrip().endswith(place.text.rstrip())


def _whole(text: str) -> list[ReadPlace[float]]:
    """Return what a text of one line says that begins with its number, and has few words."""
    stripped = text.strip().strip("*_`\"' ")
    if len(stripped) > 80 or stripped[:1] == "{" or _SENTENCES.search(stripped):
        return []
    values = _stated(StatedPlace(0, stripped))
    few = len(stripped.split()) + len(_NO_SPACES.findall(stripped)) // _SIGNS_PER_WORD <= 3 or not any(
        map(str.isalpha, stripped)
    )
    return [ReadPlace(0, values)] if values and few else []


def _head(text: str) -> list[ReadPlace[float]]:
    """Return the number that begins an answer, if what follows only explains it."""
    start = _prepared(text.lstrip("*_`\"' \n")[:_MOST_HEAD_CHARS])
    found = found_numbers(start)[:1]
    if not found or found[0].start > 0 or is_enumerated(text):
        return []
    end = found[0].end
    if not _HEAD.match(start, end) and (len(text) > _MOST_HEAD_CHARS or not _QUALIFIED.fullmatch(start, end)):
        return []
    return [ReadPlace(0, (found[0].value,))]


def _stated(place: StatedPlace, *, is_cut_off: bool = False) -> tuple[float, ...]:
    """Return the number that a statement gives: two if it is a range or a list, none if there is none."""
    text = _prepared(place.text).lstrip()
    end = _CLAUSE_END.search(text, next((at for at, sign in enumerate(text) if sign.isalnum()), 0))
    clause = text[: end.start()] if end else text
    if not any(map(str.isdigit, clause)):
        clause = with_digits(clause, is_stated=True)
    found = found_numbers(clause)
    if not found or (is_cut_off and not end and not clause[found[0].end :].strip(" +×*/=–-")):
        return ()
    before = clause[: found[0].start]
    if not _BEFORE.fullmatch(before) or _NEGATION.search(before):
        return ()
    return _results(clause, found)


def _results(clause: str, found: list[FoundNumber]) -> tuple[float, ...]:
    """Return the first number, the last one that is a side of an equation, or all those of a range or calculation."""
    sides = [[found[0].value]]
    for one, other in itertools.pairwise(found):
        between = clause[one.end : other.start]
        if _EQUALS.fullmatch(between):
            sides.append([other.value])
        elif _OPERATION.fullmatch(between) or (len(sides) == 1 and _SEPARATED.fullmatch(between)):
            sides[-1].append(other.value)
        else:
            break
    alone = [side for side in sides if len(side) == 1]
    return tuple((alone or sides)[-1])


def _loose(text: str, take: str) -> list[ReadPlace[float]]:
    """Return the first or last number of a text that states no result."""
    end = text[:_MOST_LOOSE_CHARS] if take == "first" else text[-_MOST_LOOSE_CHARS:]
    for part in (end, text) if len(text) > len(end) else (text,):
        prepared = main_clauses(_prepared(part))
        for form in (without_mentions(without_references(prepared)), without_references(prepared)):
            readable = form if any(map(str.isdigit, form)) else with_digits(form, is_stated=False)
            found = [one for one in found_numbers(readable) if not _is_denied(readable, one)]
            if found:
                values = (found[0].value,) if take == "first" else _last(readable, found)
                return [ReadPlace(0 if take == "first" else len(text), values)]
    return []


def _is_denied(text: str, found: FoundNumber) -> bool:
    return bool(_DENIED.search(text[max(0, found.start - 40) : found.start]))


def _last(text: str, found: list[FoundNumber]) -> tuple[float, ...]:
    """Return the last number, or the last two if they are a range."""
    if len(found) > 1 and _RANGE.fullmatch(text, found[-2].end, found[-1].start):
        is_computed = "=" in text[found[-1].end : found[-1].end + 20]
        return (found[-1].value,) if is_computed else (found[-2].value, found[-1].value)
    return (found[-1].value,)
