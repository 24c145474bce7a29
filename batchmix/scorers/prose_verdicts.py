"""The verdicts that a judge states within sentences."""

from __future__ import annotations

import bisect
import itertools
import re
from typing import NamedTuple

from batchmix.scorers.judge_words import ARTICLES, DENIES, EXPLAINS, SPEECH, SUMMARY, SUPPOSES
from batchmix.scorers.quotations import GAP, Judged
from batchmix.scorers.verdict_values import VerdictValues

_SENTENCE_END = re.compile(r"[.!?;]\)?(?=\s|\Z)|\n|。")
_CLAUSE_END = re.compile(r"[,:](?=\s)|[.!?;]\)?(?=\s|\Z)|\n|。|，|[-–—](?=\s)")
_TAIL = (
    r"(?=[)\]\"'`$]{0,2}\s{0,3}(?:[.,;:!)|¤。，]|\n|\Z|[(\[](?!or\b|maybe\b|perhaps\b|possibly\b)|[-–—]\s|"
    r"(?:for|because|since|as|overall|from|on|in total|here|"
    r"due|with|based|points?|punkten?|sternen?|puntos|pontos|баллов|"
    r"at most|at best|です|입니다|and|but|to this|to it)\b))"
)
_IT = r"(?:it|this|that|them|(?:the|this|that) [\w-]{1,30}(?: [\w-]{1,30})?)"
_PUT = r"(?:an?|as|at|with|just|only|exactly|overall|:|solid|strong|weak|clear|generous|bare|full|mere)"


_BREAKS = ".!?:;,()]\n¤。，—–-"
_LEADS = re.compile(r"\b(?:i|assign|give|it|and|so|is)$", re.IGNORECASE)
"""Words after which `score: 4` is the verdict."""
_SCALE = re.compile(r"/|out of|\b(?:of|von|sur|stars?)\b|[★⭐🌟]", re.IGNORECASE)
_MAX_SENTENCE = 500
"""The most characters of a sentence that are looked at, before and after a value."""
_MAX_STATEMENTS = 200


class _Statement(NamedTuple):
    value: str | float | None
    end: int
    is_final: bool
    is_named: bool
    """Whether it says that the value is the judge's, rather than only that it is of the scale, as in `4/5`."""
    is_weak: bool
    """Whether it says neither `score` nor `a` nor the top of the scale, so that it may be about something else."""


class ProseForms:
    """The sentences in which a verdict with these values can be stated."""

    def __init__(self, values: VerdictValues, name: str) -> None:
        self._read, value = values.read, values.pattern
        flags = re.IGNORECASE
        self._named = re.compile(
            rf"(?:^|(?<=[.!?:;,(\n¤。，—–-])|(?<=[ \t]))(?P<before>(?:(?:{ARTICLES})[ \t]{{1,2}})?)"
            rf"(?P<final>(?:{SUMMARY}[ \t]{{0,2}}){{0,2}})(?:{name}|(?P<alone>{SUMMARY})(?=[ \t]?[:=]))"
            r"[ \t]{0,2}(?:of|is|was|=|:|as|at|de|von)?[ \t:=]{0,3},?"
            rf"[ \t]{{0,2}}(?:(?:an?|just|only|exactly)[ \t])?{value}{_TAIL}",
            flags | re.MULTILINE,
        )
        self._labelled = re.compile(
            rf"\b(?:score|rating|grade|verdict)[ \t]?[:=][ \t]{{0,3}}{value}(?=\s{{1,3}}(?!of\b|in\b|from\b)[\w\[])",
            flags,
        )
        self._rated = re.compile(
            rf"\b(?:rate|rates|rated|graded?|scored?|scores|"
            rf"(?:rat|scor|grad|mark)ing(?= (?:it|this|that|the)\b)|mark|marked|judge|go|settle|vote|opt|"
            rf"choose|put|assess(?:ed)?|chose|pick|prefer|select)"
            rf"(?:[ \t](?:{_IT}|for|with|on)){{0,2}}?(?:[ \t]{_PUT}){{0,3}}[ \t:]{{1,3}}{value}{_TAIL}",
            flags,
        )
        self._given = re.compile(
            rf"\b(?:give|gives|giving|gave|assign|assigns|award|deserves?|earns?|earned|gets?|receives?|merits?|warrants?|"
            rf"say|it's|it is|that's|that is|this is|is)(?:[ \t]{_IT})?"
            rf"(?P<strong>(?:[ \t]{_PUT}"
            rf"|[ \t](?:the|my|it's|it is)(?:[ \t]\w{{1,20}}){{0,2}}[ \t]{name},?(?:[ \t]of)?){{0,3}})"
            rf"[ \t:]{{1,3}}{value}{_TAIL}",
            flags,
        )
        self._topped = re.compile(value + _TAIL, flags)
        self._put_in_cjk = re.compile(rf"(?:打|给|給|評|评)(?:了|出|为|為|它)?[ \t]?{value}", flags)
        self._criterion = re.compile(
            rf"^[ \t•·-]{{0,6}}(?:\d{{1,2}}[.)][ \t])?[A-Za-z][\w /&-]{{1,40}}:[ \t]{{0,5}}{value}[^\n]*$",
            re.MULTILINE | flags,
        )

    def values(self, own: str, judged: Judged) -> list[str | float | None]:
        """Return the values of the statements that count. Empty if there are none; several if they contradict.

        Where quotations were taken out, which may have held verdicts, a weak statement is not enough.
        """
        if len(list(itertools.islice(self._criterion.finditer(own), 2))) > 1:
            own = self._criterion.sub(GAP, own)
        usual = (self._named, self._rated, self._given, self._topped, self._put_in_cjk)
        found = [each for each in self._statements(own, judged, *usual) if not (each.is_weak and GAP in own)]
        found = found or self._statements(own, judged, self._labelled)
        found = [each for each in found if each.is_final] or found
        if len({each.value for each in found}) > 1:
            last = max(found, key=lambda each: each.end)
            if last.is_named and not own[last.end :].strip(" \t\n.)!"):
                return [last.value]
        return [each.value for each in found]

    def _statements(self, own: str, judged: Judged, *patterns: re.Pattern[str]) -> list[_Statement]:
        text, found = _Text(own), []
        for pattern in patterns:
            for match in itertools.islice(pattern.finditer(own), _MAX_STATEMENTS):
                statement = self._statement(pattern, match, text)
                if statement and not judged.has(own[match.start() : match.end("value")].rpartition(GAP)[2]):
                    found.append(statement)
        return found

    def _statement(self, pattern: re.Pattern[str], match: re.Match[str], text: _Text) -> _Statement | None:
        """Return what a match states. None if that is only supposed, denied or told of somebody else."""
        named, given = pattern is self._named, pattern is self._given
        is_final = named and bool(match["final"].strip() or match["alone"])
        may_be_of_a_criterion = (named and not is_final and not match["before"]) or pattern is self._labelled
        if may_be_of_a_criterion and not _may_begin(text.own, match.start()):
            return None
        if pattern is self._topped and not _shows_scale(match["value"]):
            return None
        is_weak = given and not match["strong"].strip() and not _shows_scale(match["value"])
        if not text.is_verdict(match):
            return None
        is_named = not is_weak and pattern is not self._topped
        return _Statement(self._read(match["value"]), match.end(), is_final, is_named, is_weak)


class _Text:
    """A text, and where its sentences and clauses end."""

    def __init__(self, own: str) -> None:
        self.own = own
        self._sentences = [0, *(found.end() for found in _SENTENCE_END.finditer(own)), len(own)]
        self._clauses = [0, *(found.end() for found in _CLAUSE_END.finditer(own)), len(own)]

    def is_verdict(self, match: re.Match[str]) -> bool:
        """Return whether what a match says is neither denied, nor supposed, nor said by somebody else."""
        start, end = self._around(self._clauses, match)
        before = self.own[start : max(start, match.start())]
        clause = f"{self.own[start : match.start('value')]} {self.own[match.end('value') : end]}"  # a label may be `no`
        if DENIES.search(clause) or EXPLAINS.search(clause) or SPEECH.search(before):
            return False
        start, end = self._around(self._sentences, match)
        return not SUPPOSES.search(self.own[start:end])

    def _around(self, ends: list[int], match: re.Match[str]) -> tuple[int, int]:
        """Return where the sentence or clause of a match starts and ends, at most `_MAX_SENTENCE` from the match."""
        start = ends[bisect.bisect_right(ends, match.start() + 1) - 1]
        end = ends[min(bisect.bisect_left(ends, match.end()), len(ends) - 1)]
        return max(start, match.start() - _MAX_SENTENCE), min(end, match.end() + _MAX_SENTENCE)


def _may_begin(own: str, start: int) -> bool:
    """Return whether `score: 4` is the verdict, rather than the score of a criterion, as in `tone score: 4`."""
    before = own[max(0, start - 40) : start].rstrip(" \t")
    return not before or before[-1] in _BREAKS or _LEADS.search(before) is not None


def _shows_scale(value: str) -> bool:
    return _SCALE.search(value) is not None
