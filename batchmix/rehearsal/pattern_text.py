"""Makes up a text that matches a regular expression, if the expression is a simple one."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from random import Random
from typing import TypeVar

_Value = TypeVar("_Value")
_Maker = Callable[[Random], str]
"""A function that makes up a text for a part of an expression."""
_DIGITS = "0123456789"
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_CLASSES = {"d": _DIGITS, "w": _LETTERS, "s": " ", "D": _LETTERS, "W": "-", "S": _LETTERS}
_OTHERS = f"{_LETTERS}{_LETTERS.upper()}{_DIGITS} -_"
"""The characters that a negated class chooses from."""
_QUANTIFIER = re.compile(r"(?:\{(\d+)(,?)(\d*)\}|([*+?]))\??")
_GROUP_NAME = re.compile(r"P?<\w+>")
_CODE = re.compile(r"x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}")
"""What follows the backslash of a character that is given by its number."""
_MORE = 3
"""The most repetitions beyond the least, where an expression allows any number of them."""


def pick(options: Sequence[_Value], random: Random) -> _Value:
    """Return one of the options. Unlike `Random.choice`, this is the same in each version of Python."""
    return options[int(random.random() * len(options))]


def matching_text(pattern: str, random: Random, least: int = 0) -> str | None:
    """Return a text that matches a regular expression. None if the expression is too complex.

    It may have literals, classes, groups, alternatives, quantifiers, and anchors at its ends. It has `least` characters
    if a part may be repeated so often.
    """
    reader = _PatternReader(pattern, max(_MORE, least))
    try:
        text = reader.alternatives()(random)
    except (_TooComplexError, IndexError):
        return None
    return text if reader.is_at_end else None


class _TooComplexError(Exception):
    """The expression has a part for which no text can be made up."""


class _PatternReader:
    """Turns a regular expression into a function that makes up a text."""

    def __init__(self, pattern: str, more: int) -> None:
        self._pattern = pattern
        self._more = more
        self._at = 0

    @property
    def is_at_end(self) -> bool:
        return self._at == len(self._pattern)

    def alternatives(self) -> _Maker:
        options = [self._sequence()]
        while self._take("|"):
            options.append(self._sequence())
        return lambda random: pick(options, random)(random)

    def _sequence(self) -> _Maker:
        parts: list[_Maker] = []
        while not self.is_at_end and self._pattern[self._at] not in "|)":
            parts.append(self._repeated(self._atom()))
        return lambda random: "".join(part(random) for part in parts)

    def _repeated(self, part: _Maker) -> _Maker:
        match = self._takes(_QUANTIFIER)
        if not match:
            return part
        least = int(match[1] or match[4] == "+")
        most = least + self._more
        if match[4] == "?":
            most = 1
        elif match[1] and (match[3] or not match[2]):
            most = min(most, int(match[3] or match[1]))
        return lambda random: "".join(part(random) for _ in range(least + int(random.random() * (most - least + 1))))

    def _atom(self) -> _Maker:
        match self._next():
            case "^" | "$":
                return lambda random: ""
            case ".":
                return _one_of(_LETTERS)
            case "\\":
                return (lambda random: "") if self._take("b") else _one_of(self._escaped())
            case "[":
                return _one_of(self._class())
            case "(":
                return self._group()
            case "*" | "+" | "?" | "{":
                raise _TooComplexError
            case literal:
                return lambda random: literal

    def _group(self) -> _Maker:
        if self._take("?") and not (self._take(":") or self._takes(_GROUP_NAME)):
            raise _TooComplexError
        inner = self.alternatives()
        if not self._take(")"):
            raise _TooComplexError
        return inner

    def _class(self) -> str:
        """Return the characters of a class, whose bracket has been read."""
        negated, members = self._take("^"), ""
        while not members or not self._take("]"):
            first = self._member()
            if self._pattern[self._at] == "-" and self._pattern[self._at + 1] != "]":
                self._at += 1
                members += "".join(map(chr, range(ord(first), ord(self._member()) + 1))) if len(first) == 1 else first
            else:
                members += first
        return "".join(char for char in _OTHERS if char not in members) if negated else members

    def _member(self) -> str:
        char = self._next()
        return self._escaped() if char == "\\" else char

    def _escaped(self) -> str:
        """Return the characters that an escape stands for, whose backslash has been read."""
        if code := self._takes(_CODE):
            return chr(int(code.group().lstrip("xu"), 16))
        char = self._next()
        if char.isalnum() and char not in _CLASSES:
            raise _TooComplexError
        return _CLASSES.get(char, char)

    def _next(self) -> str:
        self._at += 1
        return self._pattern[self._at - 1]

    def _takes(self, expression: re.Pattern[str]) -> re.Match[str] | None:
        match = expression.match(self._pattern, self._at)
        self._at = match.end() if match else self._at
        return match

    def _take(self, text: str) -> bool:
        taken = self._pattern.startswith(text, self._at)
        self._at += len(text) if taken else 0
        return taken


def _one_of(characters: str) -> _Maker:
    return lambda random: pick(characters, random)
