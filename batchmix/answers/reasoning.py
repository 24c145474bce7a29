"""Finds where a model's reasoning in front of its answer ends, and where brackets are closed outside of it.

Reasoning stands in tags (`<think>…</think>`, also by other names: `<scratchpad>`), between special tokens
(`<|START_THINKING|>…`), or in the channels of OpenAI's harmony format, of which the last, `final`, is the answer.
"""

from __future__ import annotations

import re

STRING = r'"(?:[^"\\]++|\\.)*+"'
"""Matches a JSON string."""
_MOST_STEPS = 10_000
"""The brackets and tags after which the end of the reasoning is no longer looked for, since each takes some time."""
_NAME = (
    "(?:[a-z]++[:_-])*+(?:think(?:ing)?+|thoughts?+|reason(?:ing)?+|reflection|scratch[_-]?+pad|analysis|monologue|cot)"
)
REASONING = re.compile(
    rf"<(?P<tag>{_NAME})(?:\s[^<>]*+)?+>|\[(?P<square>THINK)\]|◁(?P<triangle>think)▷"
    r"|<\|(?P<token>(?:begin|start)_(?:of_)?+(?:think(?:ing)?+|thought))\|>"
    r"|<\|(?P<channel>channel)\|>\s*+(?:analysis|commentary)",
    re.IGNORECASE,
)
"""Begins reasoning wherever it stands outside of a value."""
_IN_FRONT = re.compile(
    rf"\s*+(?:(?:<\|start\|>assistant)?+(?:{REASONING.pattern})|(?-i:analysis(?=[A-Z])))", re.IGNORECASE
)
"""Begins reasoning in front. The last is what is left of a channel whose special tokens were taken out."""
_ENDING = f"</(?i:{_NAME})>"
_ENDING_OR_BRACKET = re.compile(rf"{_ENDING}|[\[{{]")
_SIGN = re.compile(rf'(?:[^"\[{{\]}}<]++|{STRING}|<(?!/(?i:{_NAME})>))*+(?P<sign>{_ENDING}|["\[{{\]}}])', re.DOTALL)
"""What matters inside of brackets, behind what doesn't. A quotation mark by itself opens a string that never ends."""
_FIRST_STRING = re.compile(rf"\s*+(?:{STRING}|(?P<open>\"))", re.DOTALL)
NOT_IN_FRONT = "its reasoning never ends, or is not in front of the answer"
_MAY_BE_VALUE = re.compile(r'["\[{0-9]')


class RefusedTextError(ValueError):
    """A text whose value, if it has one, is not used. The message says why."""


class UnendedReasoningError(RefusedTextError):
    """A text that ends within its reasoning, before an answer."""


def after_reasoning(text: str) -> int:
    """Return where the reasoning in front of an answer ends: 0 if there is none.

    A `</think>` in a string of a JSON value is text. Behind a `<think>` in front, the first one ends the reasoning.
    Raises `RefusedTextError` if the reasoning doesn't end, or if a value may stand in front of it.
    """
    start = at = 0
    for _ in range(_MOST_STEPS):
        if at == start:
            if opening := _IN_FRONT.match(text, at):
                start = at = _end_of(opening, text)
                continue
            if string := _FIRST_STRING.match(text, at):
                if string["open"]:
                    return start
                at = string.end()
        sign = _ENDING_OR_BRACKET.search(text, at)
        if not sign:
            return start
        ends, end = (True, sign.end()) if sign[0].startswith("</") else bracket_end(text, sign.start())
        if end is None:
            return start
        if ends:
            opening = REASONING.search(text, start, end)
            if opening and _MAY_BE_VALUE.search(text, start, opening.start()):
                raise RefusedTextError(NOT_IN_FRONT)
            start = end
        at = end
    raise RefusedTextError("it has too many brackets or tags to tell which of them are JSON")


def bracket_end(text: str, start: int) -> tuple[bool, int | None]:
    """Return where the bracket that opens at `start` is closed; or True, and the end of a `</think>` before that.

    None if it isn't closed, or not by its own kind.
    """
    wanted: list[str] = []
    at = start
    while found := _SIGN.match(text, at):
        sign, at = found["sign"], found.end()
        if sign.startswith("</"):
            return True, at
        if sign in "{[":
            wanted.append("}" if sign == "{" else "]")
        elif sign == '"' or sign != wanted.pop():
            return False, None
        elif not wanted:
            return False, at
    return False, None


def _end_of(opening: re.Match[str], text: str) -> int:
    """Return where the reasoning ends that `opening` begins."""
    if tag := opening["tag"]:
        sign = f"</{tag}>"
    elif square := opening["square"]:
        sign = f"[/{square}]"
    elif triangle := opening["triangle"]:
        sign = f"◁/{triangle}▷"
    elif token := opening["token"]:
        sign = re.sub("(?i:begin|start)", "END" if token.isupper() else "end", f"<|{token}|>")
    else:
        sign = "<|channel|>final" if opening["channel"] else "assistantfinal"
    end = text.find(sign, opening.end())
    if end < 0:
        raise UnendedReasoningError("the text ends within its reasoning, before an answer")
    return end + len(sign)
