"""Finds the verdict in a judge's answer, wherever and however the judge states it."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from batchmix.answers.healing import FoundJson, json_of
from batchmix.scorers.judge_words import (
    ARTICLES,
    CHOICE_NAME,
    CORRECTS,
    NAME,
    QUOTES_ITS_WORDS,
    SPEECH,
    SUMMARY,
    SUPPOSED_AFTER,
)
from batchmix.scorers.lone_verdicts import LoneForms
from batchmix.scorers.prose_verdicts import ProseForms
from batchmix.scorers.quotations import Judged, own_lines, unmarked, without_quotations, without_reasoning
from batchmix.scorers.verdict_values import LabelValues, VerdictValues, normalized

_MAX_CHARS = 20_000
"""The most characters, counted from the end of a judge's answer, that are searched for a verdict."""
_MAX_GRADE_CHARS = 100
_MAX_KEYED_CHARS = 20
"""The most characters of a text in JSON that may be a grade, rather than a remark."""
_OBJECT = frozenset({"object"})
_NO_ANSWER = "the judge's answer is empty"
_UNCLEAR = "no clear verdict in the judge's answer"
_SEVERAL = "several verdicts in the judge's answer"


class Reading(NamedTuple):
    """What was read in a judge's answer: a value, or why there is none."""

    value: str | float | None
    reason: str = ""


def verdict_in(text: str, values: VerdictValues, judged: Judged | None = None) -> Reading:
    """Return the verdict in a judge's answer, a number or a label, or why there is none.

    A judge may quote the text that it judges, and that text may contain `score: 5` in order to get a 5. So quotations
    do not count, nor does anything that the judged text contains. Of what remains, JSON, tags and `[[4]]` are looked
    for first, then lines such as `Score: 4` and bare values, then prose. Whatever contradicts itself is no verdict.
    """
    text = without_reasoning(normalized(text[-_MAX_CHARS:])).strip()
    forms, judged = _forms(values), judged or Judged()
    if not text or judged.has_line(text) or judged.has(text):
        return Reading(None, _UNCLEAR if text else _NO_ANSWER)
    whole = forms.in_json(text)
    if whole is not _ABSENT:
        return _only([whole])
    unwrapped = forms.unwrapped(text)
    found = _stated(forms, own_lines(unwrapped, judged), judged)
    if "```" in text or "~~~" in text:
        outside = _stated(forms, own_lines(unwrapped, judged, fences=False), judged)
        if outside.value not in (None, found.value):
            return Reading(None, _SEVERAL)
    return found


def _stated(forms: _Forms, lines: str, judged: Judged) -> Reading:
    """Return the verdict in what is a judge's own of its answer, but for quotations within lines."""
    own = forms.without_scale(unmarked(without_quotations(lines)))
    own = own[max((match.end() for match in CORRECTS.finditer(own)), default=0) :].strip(" \t\n,:.")
    own = _CHANGED.sub("", own)
    stated = (
        forms.in_last_json(lines.strip(), judged),
        forms.in_marks(own, judged),
        forms.in_lines(own, judged),
        _one_of(forms.lone.values(own, judged)),
    )
    found = [each for each in stated if each is not _ABSENT]
    if QUOTES_ITS_WORDS.search(own):
        return Reading(None, _UNCLEAR)
    return _only(found) if found else _only(forms.prose.values(own, judged))


def _one_of(found: list[str | float | None]) -> Any:
    return _ABSENT if not found else found[0] if len(set(found)) == 1 else None


def _only(found: Iterable[Any]) -> Reading:
    """Return the one value that all statements have in common."""
    different = set(found)
    if len(different) > 1:
        return Reading(None, _SEVERAL)
    value = different.pop() if different else None
    return Reading(value) if value is not None else Reading(None, _UNCLEAR)


_CHANGED = re.compile(r"\b\d(?:/\d{1,3})?[ \t]?(?:→|[-=]>)[ \t]?(?:[^\d\n:]{0,60}:[ \t]?)?(?=\d)")
"""A value that was changed: `4` of `4 → after checking: 3`."""
_CRITERIA = re.compile(
    r"[ \t]*(?:for|on|in)\b[^\n]{0,80}?[,;&][^\n\d]{0,20}\d(?:/\d{1,3})?[ \t](?:for|on|in)\b"
    r"|[ \t]*for[^\n\d]{1,40}\band \d"
)
"""Follows the value of one of several criteria, as in `5 for tone, 1 for facts`."""
_ABSENT = object()
"""No statement, in contrast to None: a statement that names no single value of the scale."""


@functools.lru_cache(maxsize=32)
def _forms(values: VerdictValues) -> _Forms:
    return _Forms(values)


class _Forms:
    """The forms in which a verdict that has these values can be stated."""

    def __init__(self, values: VerdictValues) -> None:
        self._read, value = values.read, values.pattern
        name = rf"(?:{NAME}|{CHOICE_NAME})" if isinstance(values, LabelValues) else NAME
        self.prose, self.lone = ProseForms(values, name), LoneForms(values)
        mark = re.IGNORECASE | re.MULTILINE
        named = rf"(?:{SUMMARY}[ _-]?)?{name}(?:[ _-]?{name})?|{SUMMARY}"
        self._key = re.compile(rf"(?:{named})(?:[ _-]?value)?", mark)
        self._summary_key = re.compile(rf"{SUMMARY}.*", mark)
        self._field = re.compile(
            rf"(?<![\\\w])[\"']?({named})[\"']?\s{{0,5}}:\s{{0,5}}[\"']?{value}(?=[\"'\s,}}]|\Z)", mark
        )
        self._tag = re.compile(rf"<({named})\s?>\s{{0,9}}(?:{name}\s?[:=]\s{{0,3}})?{value}\s{{0,9}}</\1\s?>", mark)
        self._open_tag = re.compile(rf"<({named})\s?>", mark)
        self._brackets = re.compile(rf"\[\[\s?{value}\s?\]\]", mark)
        self._result = re.compile(rf"\[RESULT\][ \t]{{0,3}}:?\s{{0,5}}\(?{value}(?=[\s.)]*\Z)", mark)
        self._boxed = re.compile(rf"\\boxed\{{\s?(?:\\text\{{)?{value}\}}?\s?\}}", mark)
        self._line = re.compile(
            r"^[ \t>•·-]{0,9}(?:\d{1,2}[.)][ \t]{1,3})?(?:(?:so|thus|therefore|hence|overall)\b,?[ \t]{1,3})?"
            rf"(?:(?:{ARTICLES})[ \t]{{1,3}}|我的|本){{0,3}}"
            rf"(?P<summary>{SUMMARY}[ \t]{{0,3}}){{0,2}}(?:{name}|(?P<bare>(?<=[^ \t])))"
            rf"(?:[ \t]{{1,3}}(?:{name}|(?P<after>{SUMMARY}))){{0,2}}[ \t]{{0,3}}"
            r"(?:\([^()\n]{1,40}\)|\[[^\[\]\n]{1,20}\])?[ \t]{0,3}"
            rf"(?:is|of|[:=→是为為はが은는]|[-=]>|[-–—](?=[ \t]))[ \t]{{0,5}}[(\[{{<]?{value}(?P<rest>[^\n]*)$",
            mark,
        )
        self._header = re.compile(
            rf"^[ \t]{{0,9}}(?:(?:my|the)[ \t])?(?:{named})[ \t]?:?[ \t]*\n\s{{0,9}}{value}[ \t.]{{0,3}}$", mark
        )
        self._row = re.compile(
            rf"^\|[ \t]{{0,20}}(?:{named})[ \t]{{0,20}}\|(?:[^|\n]{{0,200}}\|)??[ \t]{{0,20}}{value}[ \t]{{0,20}}\|",
            mark,
        )
        self._wrapped = re.compile(rf"((?:[:=(]|\b(?:is|of|an?))\s{{0,3}})([`\"'$]){value}\2", re.IGNORECASE)
        self._scale = re.compile(
            r"\bon (?:an?|the|your|this) (?:\d{1,3}(?:-point)? )?scale (?:of |from )?\d{1,3}(?:\s?\([^()\n]{0,40}\))?"
            r"\s?(?:to|-|–)\s?\d{1,3}(?:\s?\([^()\n]{0,40}\))?",
            re.IGNORECASE,
        )

    def unwrapped(self, text: str) -> str:
        """Return a text in which a value in quotes, alone or as in ``Score: `4` ``, stands without them."""
        if len(text) < _MAX_GRADE_CHARS and self._read(bare := text.strip("\"'`$ ")) is not None:
            return bare
        return self._wrapped.sub(r"\1\g<value>", text)

    def without_scale(self, text: str) -> str:
        """Return a text without `on a scale from 1 to 5`."""
        return self._scale.sub(lambda match: "" if text[: match.start()].rstrip()[-1:].isdigit() else "score", text)

    def in_json(self, text: str) -> Any:
        """Return the verdict of an answer that is JSON, or that begins like JSON."""
        found = json_of(text, _OBJECT) if "{" in text else None
        bare = re.sub(r"\A```\w*\s*|\s*```\Z", "", text).strip()
        if isinstance(found, FoundJson) and bare[:1] in {"{", "["}:
            return self._in_value(found.value) if bare[-1:] in {"}", "]"} or bare[:1] == "{" else _ABSENT
        if bare[:1] == "{":
            return self._one([match["value"] for match in self._field.finditer(bare)])
        return _ABSENT

    def _in_value(self, value: Any, depth: int = 4) -> Any:
        """Return the verdict in a JSON value: of a key for the whole, or of the only one with a verdict within."""
        if isinstance(value, list) or not isinstance(value, dict):
            return self._in_value(value[0], depth) if isinstance(value, list) and len(value) == 1 else _ABSENT
        keys = [key for key in value if self._key.fullmatch(_spaced(key))]
        keys = [key for key in keys if self._may_be_value(value[key])] or keys
        keys = [key for key in keys if self._summary_key.fullmatch(_spaced(key))] or keys
        plain_values = [value[key] for key in keys if not isinstance(value[key], dict | list)]
        if keys and len(plain_values) == len(keys):
            return self._one(map(str, plain_values))
        within = [value[key] for key in keys] or list(value.values())
        found = [self._in_value(each, depth - 1) for each in within] if depth else []
        if keys and all(each is _ABSENT for each in found):
            found = [self._only_number(value[key]) for key in keys]
        found = [each for each in found if each is not _ABSENT]
        return found[0] if len(found) == 1 else None if found or keys else _ABSENT

    def _may_be_value(self, value: Any) -> bool:
        return not isinstance(value, str) or (len(value) <= _MAX_KEYED_CHARS and re.search(r"\d", value) is not None)

    def _only_number(self, value: Any) -> Any:
        values = list(value.values()) if isinstance(value, dict) else []
        return self._read(str(values[0])) if len(values) == 1 and not isinstance(values[0], bool) else None

    def _one(self, texts: Iterable[str]) -> Any:
        read = {self._read(text.strip()) if len(text) <= _MAX_GRADE_CHARS else None for text in texts}
        return _ABSENT if not read else read.pop() if len(read) == 1 else None

    def in_last_json(self, lines: str, judged: Judged) -> Any:
        """Return the verdict in JSON that begins on a line of its own and ends the answer."""
        start = lines.rfind("\n{")
        if start < 0 or not lines.endswith("}") or judged.has(lines[start:]):
            return _ABSENT
        return self.in_json(lines[start:].strip())

    def in_marks(self, own: str, judged: Judged) -> Any:
        """Return the verdict in tags, in `[[ ]]`, in a box, or behind `[RESULT]`."""
        for pattern in (self._result, self._brackets, self._boxed, self._tag):
            matches = [match for match in _not_judged(pattern.finditer(own), judged) if not _is_told(match)]
            if matches:
                return self._last_of(matches, own)
        return None if self._open_tag.search(own) and not judged.has(own) else _ABSENT

    def _last_of(self, matches: list[re.Match[str]], own: str) -> Any:
        """Return the value of the matches: if they differ, the last one's if it ends the text, or None."""
        if len({self._read(match["value"]) for match in matches}) > 1 and own[matches[-1].end() :].strip(" \t\n.*_)$!"):
            return None
        return self._read(matches[-1]["value"])

    def in_lines(self, own: str, judged: Judged) -> Any:
        """Return the verdict in a line such as `Final score: 4`, below a heading, or in a table."""
        matches = _not_judged(self._line.finditer(own), judged)
        matches = [match for match in matches if match["bare"] is None or match["summary"]]
        matches = [match for match in matches if _may_follow(match["rest"])]
        if any(_CRITERIA.match(match["rest"]) for match in matches):
            return None
        final = [match for match in matches if match["summary"] or match["after"]]
        final += _not_judged(self._row.finditer(own), judged) if not final else []
        matches = final or matches or _not_judged(self._header.finditer(own), judged)
        return self._one(match["value"] for match in matches) if matches else _ABSENT


def _may_follow(rest: str) -> bool:
    """Return whether the rest of a line leaves the value before it as it is."""
    return (
        re.match(
            r"[)\]}>\"'`$]{0,3}[ \t]{0,3}(?:$|[.!;,:)|¤★⭐✅👍]|[(\[]|[-–—→]|"
            r"because\b|since\b|as\b|for\b|due\b|with\b|based\b|overall\b"
            rf"|in total\b|です|입니다|。)(?![ \t]*{SUPPOSED_AFTER}\b)",
            rest,
            re.IGNORECASE,
        )
        is not None
    )


def _not_judged(matches: Iterator[re.Match[str]], judged: Judged) -> list[re.Match[str]]:
    """Return the matches that the judged text contains neither whole nor up to their value."""
    return [
        match
        for match in matches
        if not judged.has_line(match[0])
        and not judged.has(match[0])
        and not judged.has(match.string[match.start() : match.end("value")].lstrip(" \t>•·-"))
    ]


def _is_told(match: re.Match[str]) -> bool:
    """Return whether somebody else is said to have written a mark, as in `the letter says [[5]]`."""
    before = re.split(r"[.!?;,\n]", match.string[max(0, match.start() - 200) : match.start()])[-1]
    return SPEECH.search(before) is not None


def _spaced(key: Any) -> str:
    """Return a key such as `overallScore` as words."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", str(key)).casefold()
