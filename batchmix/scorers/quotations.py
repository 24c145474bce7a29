"""Takes out of a judge's answer what is not the judge's own: its reasoning in front, and what it quotes."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

from batchmix.answers.reasoning import REASONING, RefusedTextError, after_reasoning
from batchmix.scorers.judge_words import INTRODUCES_QUOTE, INTRODUCES_VERDICT
from batchmix.scorers.verdict_values import normalized

GAP = "¤"
"""Stands where a quotation was, so that what is before it and what is after it are not read as one."""
_FENCE = re.compile(r"[ \t]*(```+|~~~+)")
_QUOTED = re.compile(
    r"\"[^\"\n]*\"|“[^”]{0,2000}”|«[^»]{0,2000}»|„[^“”]{0,2000}[“”]|「[^」]{0,2000}」|『[^』]{0,2000}』|`[^`\n]*`"
    r"|(?<![\w])'[^'\n]{1,500}'(?!\w)"
)
_OVER_LINES = re.compile(r"\"[ \t]*\n[^\"]{0,2000}\n[ \t]*\"")
_EMPHASIS = re.compile(r"\*{1,3}|_{2,3}|</?(?:b|strong|i|em|u|p|br|span|h[1-6])[ /]{0,2}>", re.IGNORECASE)
_HEADING = re.compile(r"^[ \t]{0,3}#{1,6}[ \t]+", re.MULTILINE)
_SPACE = re.compile(r"\s+")
_MARKS = re.compile(r"[`|~>\"'“”„‘’«»「」『』]")
"""What may stand around or within a quotation, although the quoted text lacks it, or the reverse."""
_AROUND_SIGNS = re.compile(r" ?([^\w\s]) ?")


def without_reasoning(text: str) -> str:
    """Return an answer without the reasoning in front of it. Empty if the reasoning never ends.

    A lone `</think>` ends reasoning only on a line of its own, since a judge may quote one.
    """
    begins = REASONING.match(text.lstrip()) is not None
    try:
        start = after_reasoning(text)
    except RefusedTextError:
        return "" if begins else text
    if start and not begins:
        line = text[text.rfind("\n", 0, start) + 1 : start] + text[start:].partition("\n")[0]
        if not re.fullmatch(r"\s*</[^<>]*>\s*", line):
            return text
    return text[start:]


def unmarked(text: str) -> str:
    """Return a text without the marks of emphasis and headings."""
    return _HEADING.sub("", _EMPHASIS.sub("", text))


def collapsed(text: str) -> str:
    """Return a text in which case, emphasis, quotation marks and white space make no difference.

    So a judge's quotation is still one if it has other spacing than the text, or its characters escaped for HTML.
    """
    plain = _MARKS.sub("", unmarked(html.unescape(text)))
    return _AROUND_SIGNS.sub(r"\1", _SPACE.sub(" ", plain)).strip().casefold()


class Judged:
    """The text that a judge has judged. What a judge's answer has in common with it is never a verdict."""

    def __init__(self, *texts: str) -> None:
        plain_texts = [normalized(text) for text in texts]
        self._lines = {collapsed(line) for text in plain_texts for line in text.splitlines()} - {""}
        self._whole = "\n".join(collapsed(text) for text in plain_texts)

    def has_line(self, line: str) -> bool:
        """Return whether a line of the judge's answer is a line of the judged text too."""
        return collapsed(line).lstrip("> ") in self._lines

    def has(self, text: str) -> bool:
        """Return whether the judged text contains a statement, which is more than one value."""
        text = collapsed(text)
        return len(text) > 2 and text in self._whole


def own_lines(text: str, judged: Judged, *, fences: bool = True) -> str:
    """Return a judge's answer with each quotation of whole lines replaced by `GAP`.

    Such a quotation stands in a code fence or behind `>`, follows a line such as `The letter ends:`, or is a line of
    the judged text. A fence at the beginning or the end may hold the verdict itself, and counts if `fences`.
    """
    return "\n".join(_own_lines(text.split("\n"), judged, fences=fences))


def without_quotations(text: str) -> str:
    """Return a text with what stands in quotation marks or in backticks replaced by `GAP`."""
    return _QUOTED.sub(GAP, _OVER_LINES.sub(GAP, text))


def _own_lines(lines: list[str], judged: Judged, *, fences: bool) -> Iterator[str]:
    at, intro, first = 0, "", True
    while at < len(lines):
        line = lines[at]
        if fence := _FENCE.match(line):
            end = _fence_end(lines, at, fence[1])
            introduced = INTRODUCES_VERDICT.search(unmarked(intro)) is not None
            last = not "".join(lines[end + 1 :]).strip()
            yield from _fenced(lines[at + 1 : end], intro, judged, may_count=fences and (first or last or introduced))
            at, intro, first = end + 1, "", False
            continue
        if line.strip() and INTRODUCES_QUOTE.search(unmarked(intro)):
            while at < len(lines) and lines[at].strip():
                at += 1
            yield GAP
            intro, first = "", False
            continue
        yield GAP if line.lstrip().startswith(">") or judged.has_line(line) else line
        if line.strip():
            intro, first = line, False
        at += 1


def _fence_end(lines: list[str], start: int, sign: str) -> int:
    for at in range(start + 1, len(lines)):
        if lines[at].strip().startswith(sign):
            return at
    return len(lines)


def _fenced(lines: list[str], intro: str, judged: Judged, *, may_count: bool) -> Iterator[str]:
    is_quote = INTRODUCES_QUOTE.search(unmarked(intro)) is not None
    if is_quote or not may_count:
        yield GAP
    else:
        yield from (GAP if judged.has_line(line) else line for line in lines)
