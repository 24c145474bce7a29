"""Which kinds of JSON values a column holds, and the Arrow type that follows from that over the whole input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa

from batchmix.formats.text import EXACT, json_text, utf8

_TEXT, _INT, _FLOAT, _BOOL, _OTHER, _LONG = 1, 2, 4, 8, 16, 32
"""Kinds of values; `_LONG` are whole numbers that floating point can't tell apart."""
_BY_TYPE = {str: _TEXT, int: _INT, float: _FLOAT, bool: _BOOL, type(None): 0}
_MOST_SHAPES = 1000
_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1

TypeBits = dict[str, int]
"""For each column, in order of appearance, the kinds seen so far as bits; 0 while only nulls were."""


class JsonTypes:
    """Takes down the kinds of many rows' values."""

    def __init__(self) -> None:
        self.columns: TypeBits = {}
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
                if not -EXACT <= row[name] <= EXACT:
                    self.columns[name] |= _kind_of(row[name])

    def _note_all(self, row: dict[str, Any]) -> None:
        for name, value in row.items():
            self.columns[name] = self.columns.get(name, 0) | _kind_of(value)


def _kind_of(value: Any) -> int:
    kind = _BY_TYPE.get(type(value), _OTHER)
    if kind != _INT or -EXACT <= value <= EXACT:
        return kind
    return _INT | _LONG if _INT64_MIN <= value <= _INT64_MAX else _OTHER


def arrow_type(kinds: int) -> tuple[pa.DataType, Callable[[Any], Any]]:
    """Return the Arrow type for these kinds, and what makes a value fit to it."""
    if kinds in (0, _TEXT):
        return pa.string(), utf8
    if kinds in (_INT, _INT | _LONG):
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
