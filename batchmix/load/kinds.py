"""Which kinds of JSON values a column holds, and the Arrow type that follows from that over the whole input."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import msgspec
import pyarrow as pa

_TEXT, _INT, _FLOAT, _BOOL, _OTHER = 1, 2, 4, 8, 16
_BY_TYPE = {str: _TEXT, int: _INT, float: _FLOAT, bool: _BOOL, type(None): 0}
_MOST_SHAPES = 1000
_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1

Kinds = dict[str, int]
"""For each column, in order of appearance, the kinds seen so far as bits; 0 while only nulls were."""


class KindNotes:
    """Takes down the kinds of many rows' values."""

    def __init__(self) -> None:
        self.kinds: Kinds = {}
        # Rows are alike: one look at names and types tells that there is nothing new but in whole numbers.
        self._shapes: dict[tuple[Any, ...], tuple[str, ...]] = {}

    def note(self, row: dict[str, Any]) -> None:
        """Add the kinds of a row's values."""
        shape = (*row, *map(type, row.values()))
        numbers = self._shapes.get(shape)
        if numbers is None:
            if len(self._shapes) >= _MOST_SHAPES:
                self._shapes.clear()
            self._shapes[shape] = tuple(name for name, value in row.items() if type(value) is int)
            self._note_all(row)
        else:
            for name in numbers:
                if not _INT64_MIN <= row[name] <= _INT64_MAX:
                    self.kinds[name] |= _OTHER

    def _note_all(self, row: dict[str, Any]) -> None:
        for name, value in row.items():
            kind = _BY_TYPE.get(type(value), _OTHER)
            if kind == _INT and not _INT64_MIN <= value <= _INT64_MAX:
                kind = _OTHER
            self.kinds[name] = self.kinds.get(name, 0) | kind


def settled_type(kinds: int) -> tuple[pa.DataType, Callable[[Any], Any]]:
    """Return the Arrow type for these kinds, and what makes a value fit to it."""
    if kinds in (0, _TEXT):
        return pa.string(), utf8
    if kinds == _INT:
        return pa.int64(), _same
    if kinds == _BOOL:
        return pa.bool_(), _same
    if kinds in (_FLOAT, _FLOAT | _INT):
        return pa.float64(), _double
    return pa.string(), json_text


def _same(value: Any) -> Any:
    return value


def _double(value: Any) -> float | None:
    return None if value is None else float(value)


def utf8(value: str | None) -> str | None:
    """Return text that Arrow takes: lone surrogates become U+FFFD."""
    if value is None or value.isascii():
        return value
    return re.sub("[\ud800-\udfff]", "\ufffd", value)


def json_text(value: Any) -> str | None:
    """Return a value as JSON text, with null for what JSON can't say; null itself stays null."""
    if value is None:
        return None
    try:
        return msgspec.json.encode(value).decode()
    except (ValueError, TypeError):  # lone surrogates
        return utf8(json.dumps(value, ensure_ascii=True))
    except RecursionError:
        return None  # it could be read, but so deep in the stack that it can't be written
