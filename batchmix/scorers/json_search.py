"""Finds the JSON value that an answer gives, among drafts, examples and schemas that it may hold too.

Reasoning in front does not count. The JSON itself is taken as it stands: what no parser accepts is no answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from batchmix.answers.healing import LIKE_LIST, LIKE_OBJECT, MalformedJsonError, strict_json
from batchmix.answers.punctuation import holds_object, may_be_punctuation
from batchmix.answers.reasoning import STRING, RefusedTextError, UnendedReasoningError, after_reasoning, bracket_end
from batchmix.formats.lenient_json import shallow_text
from batchmix.formats.text import utf8
from batchmix.scorers.settings import MAX_CHARS

_MAX_BRACKETS = 200
"""The most brackets at which a value is looked for. This bounds the time for an answer without JSON."""
_OPENING = re.compile(r"[\[{]")
_LIST_BEGUN = re.compile(
    rf"\[(?:[\s,:]++|{STRING}|-?[0-9][0-9.eE+-]*+|\b(?:true|false|null)\b)*+(?:[\[{{]|\"|\Z)", re.DOTALL
)
"""The beginning of a list of JSON values, unlike an interval or a word in brackets, if it is never closed."""
_BLANK = " \t\r\n\f\v\ufeff\u00a0\u200b"
_TYPE_WORD = re.compile(
    r"(?i:string|str|text|number|int(?:eger)?|float|double|bool(?:ean)?|date|any|array|list|object|null|value)?"
    r"|\.{2,}|…|<.*>|\{.*\}|\[.*\]",
    re.DOTALL,
)
"""What stands for a value in a template."""
_SENTENCE = re.compile(r"(?:\A|(?<!e\.g)[.!?。！？](?=\s)|\n\s*\n)(?=\s*\S)")
"""Where a sentence begins."""
_MARKS = re.compile(r"[`~]{3,}+\w*+|[*_#>`]")
_MAX_LEAD_IN = 120
_NO_ANSWER = re.compile(
    r"\b(?:example|e\.g|instance|such as|schema|template|placeholder|draft|attempt|wrong(?:ly)?|incorrect|mistaken"
    r"|not|instead of|rather than|unlike|beispiel|entwurf|schablone|exemple"
    r"|brouillon|ejemplo|borrador)\b|例如|示例|草稿",
    re.IGNORECASE,
)
"""Says of the JSON that follows that it is not the answer."""
_MAYBE_NO_ANSWER = re.compile(
    r"\b(?:format|structure|form|input|given|original(?:ly)?|initial(?:ly)?|first|previous(?:ly)?|earlier|old|before"
    r"|tool call|call|request)\b|格式|输入|最初",
    re.IGNORECASE,
)
_QUOTED = re.compile(
    r"\b(?:text|input|document|review|e-?mail|message|prompt|snippet|user|customer|author|letter|article|note|eingabe|nachricht"
    r"|texte|texto|testo)\b.*\b(?:contain|includ|sa(?:ys|id)\b|ask|tell|told|quot|instruct|claim|read|end|enthält|contient|contiene)"
    r"|\b(?:quoted|copied|taken) from\b",
    re.IGNORECASE | re.DOTALL,
)
"""Says of the JSON that follows that it is what somebody else has written."""
_ANSWER = re.compile(
    r"\b(?:final(?:ly)?|answer|results?|output|correct(?:ed|ion)?|actual(?:ly)?|updated|revised|fixed|therefore|thus|so"
    r"|gives|gets?|yields?|returns?|produces?|becomes|filled in|here (?:it )?is|here's|it is|now|then|again|wait"
    r"|antwort|ergebnis|endgültig|réponse|résultat|respuesta|resultado)\b|答案|最终|结果|因此|所以",
    re.IGNORECASE,
)
"""Says of the JSON that follows that it is the answer."""
_ALTERNATIVE = re.compile(r"\b(?:or|alternatively|either|option|oder|ou|alternativement)\b|或者?", re.IGNORECASE)
_REFUTED = re.compile(
    r"\b(?:not (?:quite |really )?(?:right|correct)|isn't (?:right|correct)|wrong|incorrect|mistake|reject(?:ed)?"
    r"|discard(?:ed)?|scratch that|nicht richtig|falsch)\b|不对|错",
    re.IGNORECASE,
)
"""Says of the JSON before that it is not the answer."""
_ENDED = re.compile(r"(?<!e\.g)[.!?。！？]\s*\Z")
_GROUP = re.compile(r"\\[A-Za-z]+\Z")
"""Stands before the brackets of LaTeX: `\\boxed{…}`."""
_CLOSING = re.compile(r"[\s`]*+[\]}]")
_DENIED = re.compile(r"\b(?:not|isn't|never|nicht|pas)[\s:*_`]*\Z|不是[\s:：]*\Z", re.IGNORECASE)


class JsonFound(msgspec.Struct, frozen=True, gc=False):
    """The JSON value that an answer gives."""

    value: Any


class NoJsonFound(msgspec.Struct, frozen=True, gc=False):
    """Why an answer gives no JSON value, or not a clear one."""

    reason: str
    unclear: bool = False
    """Whether there may be a right one: the answer has several, or one that can be read in two ways."""


class _Part(msgspec.Struct, frozen=True, gc=False):
    """A bracket of a text that is closed, or is meant as JSON."""

    start: int
    end: int
    value: Any
    fault: str = ""
    """Why it is no JSON. Empty if it is."""


def json_in(text: str, wanted: Any) -> JsonFound | NoJsonFound:
    """Return the JSON that an answer gives, where a value like `wanted` is asked for. Never raises."""
    text = text[:MAX_CHARS].strip(_BLANK)
    try:
        text = shallow_text(text)
        rest = text[after_reasoning(text) :].strip(_BLANK)
        whole = _value_of(rest)
        if not whole.fault:
            return JsonFound(whole.value)
        if not isinstance(wanted, dict | list):
            return _scalar_in(rest)
        parts = _parts(rest)
    except UnendedReasoningError as error:
        return NoJsonFound(str(error))
    except RefusedTextError as error:
        return NoJsonFound(str(error), unclear=True)
    return _chosen(parts, rest, wanted)


def _value_of(text: str) -> _Part:
    """Return JSON text as a part with its value: whole numbers of any size are exact."""
    try:
        strict_json(text)
    except MalformedJsonError:
        return _Part(0, len(text), None, "there is no valid JSON in the answer")
    except UnicodeEncodeError:  # a lone surrogate
        return _value_of(utf8(text) or "")
    return _Part(0, len(text), json.loads(text))


def _scalar_in(text: str) -> JsonFound | NoJsonFound:
    """Return a number, a word in quotes, `true` or the like that stands alone in a code fence."""
    fenced = re.fullmatch(r"(`{1,9})(?:\w*\n)?([^`]*)\1", text)
    found = _value_of(fenced[2].strip(_BLANK)) if fenced else None
    return JsonFound(found.value) if found and not found.fault else NoJsonFound("there is no valid JSON in the answer")


def _parts(text: str) -> list[_Part]:
    """Return the outermost brackets of a text that are JSON, or are meant to be, in order."""
    parts: list[_Part] = []
    at = skipped = 0
    for _ in range(_MAX_BRACKETS):
        bracket = _OPENING.search(text, at)
        if bracket is None:
            return parts
        start = bracket.start()
        if _GROUP.search(text, max(0, start - _MAX_LEAD_IN), start):
            at, skipped = start + 1, skipped + 1
            continue
        _, end = bracket_end(text, start)
        if end is None:
            if LIKE_OBJECT.match(text, start) or _LIST_BEGUN.match(text, start):
                return [*parts, _Part(start, len(text), None, "the JSON in the answer is cut off, or never closed")]
            at, skipped = start + 1, skipped + 1
            continue
        span = text[start:end]
        found = _value_of(span)
        if found.fault and not LIKE_OBJECT.search(span) and not LIKE_LIST.match(span):
            at, skipped = start + 1, skipped + 1
            continue
        fault = found.fault
        if not skipped and (_CLOSING.match(text, end) or text[at:start].rstrip().endswith('":')):
            fault = "the JSON in the answer is malformed"  # it is a piece of something
        parts.append(_Part(start, end, found.value, fault))
        at = end
    raise RefusedTextError("the answer has too many brackets to tell which of them are JSON")


def _chosen(parts: list[_Part], text: str, wanted: Any) -> JsonFound | NoJsonFound:
    valid = [part for part in parts if not part.fault and _may_answer(part, wanted)]
    if not valid:
        return NoJsonFound(next((part.fault for part in parts if part.fault), "there is no JSON in the answer"))
    if parts[-1].fault:
        cut = parts[-1].end == len(text) and bracket_end(text, parts[-1].start)[1] is None
        return NoJsonFound(parts[-1].fault if cut else "after its JSON, the answer has some that is malformed", not cut)
    leads = {part.start: _lead_in(parts, part, text) for part in valid}
    valid = _narrowed(valid, leads, text, wanted)
    last = valid[-1]
    lead = leads[last.start]
    if len(valid) > 1 and (_ALTERNATIVE.search(lead) or not _ANSWER.search(lead)):
        return NoJsonFound("the answer has several different JSON values", unclear=True)
    if _DENIED.search(lead):
        return NoJsonFound("the answer says that its JSON is not the answer", unclear=True)
    return JsonFound(last.value)


def _may_answer(part: _Part, wanted: Any) -> bool:
    return holds_object(part.value) if isinstance(wanted, dict) else isinstance(part.value, list)


def _lead_in(parts: list[_Part], part: _Part, text: str) -> str:
    """Return the sentence that leads up to a value, without the marks of a code fence."""
    before = max((other.end for other in parts if other.end <= part.start), default=0)
    lead = _MARKS.sub(" ", text[max(before, part.start - _MAX_LEAD_IN) : part.start])
    sentences = [start.end() for start in _SENTENCE.finditer(lead)]
    return lead[sentences[-1] :] if sentences else lead


def _trail(part: _Part, valid: list[_Part], leads: Mapping[int, str], text: str) -> str:
    """Return what is said between a value and the lead-in of the next one. Nothing after the last value."""
    after = min((other.start for other in valid if other.start > part.start), default=part.end)
    between = text[part.end : after]
    lead = leads.get(after, "")
    return between if _ENDED.search(lead) else between[: len(between) - len(lead)]


def _announces(words: re.Pattern[str], lead: str) -> bool:
    """Return whether a lead-in has such words. A sentence that has ended speaks of what was before."""
    return bool(words.search(lead)) and not _ENDED.search(lead)


def _narrowed(valid: list[_Part], leads: Mapping[int, str], text: str, wanted: Any) -> list[_Part]:
    """Return the values that may be the answer: each rule leaves some out, unless it would leave none."""
    last = {json.dumps(part.value, sort_keys=True): part for part in valid}
    valid = sorted(last.values(), key=lambda part: part.start)
    rules: list[Callable[[_Part], bool]] = [
        lambda part: not _is_template(part.value),
        lambda part: not isinstance(wanted, dict) or _shares_keys(part.value, wanted),
        lambda part: isinstance(wanted, dict) or not may_be_punctuation(part.value, text, part.start, part.end),
        lambda part: not any(_is_piece(part.value, other.value) for other in valid),
        lambda part: not _REFUTED.search(_trail(part, valid, leads, text)),
        lambda part: not _announces(_QUOTED, leads[part.start]),
        lambda part: not _announces(_NO_ANSWER, leads[part.start]),
        lambda part: bool(_ANSWER.search(leads[part.start])) or not _announces(_MAYBE_NO_ANSWER, leads[part.start]),
    ]
    for rule in rules:
        valid = [part for part in valid if rule(part)] or valid
    return valid


def _is_template(value: Any) -> bool:
    """Return whether a value is empty, or names types in place of values."""
    if isinstance(value, dict | list):
        return all(map(_is_template, value.values() if isinstance(value, dict) else value))
    return bool(_TYPE_WORD.fullmatch(value.strip())) if isinstance(value, str) else not value


def _shares_keys(value: Any, wanted: dict[str, Any]) -> bool:
    if isinstance(value, list):
        return any(_shares_keys(inner, wanted) for inner in value)
    return isinstance(value, dict) and (not wanted or not wanted.keys().isdisjoint(value))


def _is_piece(value: Any, other: Any) -> bool:
    """Return whether an object is a part of another one: some of its fields, with the same values."""
    if not (isinstance(value, dict) and isinstance(other, dict) and len(value) < len(other)):
        return False
    return all(key in other and other[key] == inner for key, inner in value.items())
