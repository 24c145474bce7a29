"""Reads answers that go through the options, and begin each with whether it is right: `A. Incorrect – …`."""

from __future__ import annotations

from typing import NamedTuple

from batchmix.scorers.answer_words import CORRECT, NOT, UNTRUE, any_word
from batchmix.scorers.letter_forms import CLOSE, OPEN, OPTION, letter_pattern
from batchmix.scorers.letter_marks import MARK

_LEAST_WRONG = 2
"""With fewer options that are called wrong, and no reasons, it may be a list of options: `A. True`, `B. False`."""
_WRONG = rf"(?:{any_word(NOT)}\s)?{any_word(UNTRUE)}|{any_word(NOT)}\s{any_word(CORRECT)}|{any_word('no|nein|non|não')}"
_RIGHT = any_word(f"{CORRECT}|yes|ja|oui|sí|sim")
_JUDGED = letter_pattern(
    rf"(?m:^)[^\w\n\ue000-\ue1ff§]{{0,6}}(?:§|{OPTION}{OPEN}(?P<mark>{MARK}){CLOSE}[).:,]{{0,2}}[\s:–—(-]{{0,4}}"
    rf"(?:(?:this|that|it)\s(?:is|one is)\s)?(?:(?P<wrong>{_WRONG})|{_RIGHT}))"
    r"(?P<reason>\s?(?:[.:;,!)–—。]{1,2}|-(?=\s))[ \t]*(?=[^\s.])|[.!)。]{0,2}[ \t]*(?=\n|\Z))"
)
"""A line of a text in which denied letters are `§`, see `contrasts`."""


class OptionVerdicts(NamedTuple):
    """What an answer says of the options that it goes through."""

    judged: int
    right: tuple[int, str] | None
    """Where the only one stands that is called right, and its letter."""
    repeated: frozenset[int] = frozenset()
    """Where letters stand if the answer may only repeat the options: `A. True`, `B. False`."""


def option_verdicts(text: str) -> OptionVerdicts:
    """Read the lines that begin with an option and whether it is right."""
    found = list(_JUDGED.finditer(text))
    right = [match for match in found if match["mark"] and not match["wrong"]]
    wrong = len(found) - len(right)
    is_reasoned = all(match["reason"].strip() for match in found)
    if len(found) > 1 and wrong < _LEAST_WRONG and not any(match["reason"].strip() for match in found):
        return OptionVerdicts(len(found), None, frozenset(match.start("mark") for match in found))
    if len(right) != 1 or wrong < (1 if is_reasoned else _LEAST_WRONG):
        return OptionVerdicts(len(found), None)
    return OptionVerdicts(len(found), (right[0].start(), right[0]["mark"]))
