"""Which kinds of JSON values a column holds, and the Arrow type that follows from that over the whole input."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any

import msgspec
import pyarrow as pa

_TEXT, _INT, _FLOAT, _BOOL, _OTHER = 1, 2, 4, 8, 16
_BY_TYPE = {str: _TEXT, int: _INT, float: _FLOAT, bool: _BOOL, type(None): 0}
_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1

Kinds = dict[str, int]
"""For each column, in order of appearance, the kinds seen so far as bits; 0 while only nulls were."""


def note_kinds(kinds: Kinds, row: dict[str, Any]) -> None:
    """Add the kinds of a row's values."""
    for name, value in row.items():
        kind = _BY_TYPE.get(type(value), _OTHER)
        if kind == _INT and not _INT64_MIN <= value <= _INT64_MAX:
            kind = _OTHER
        kinds[name] = kinds.get(name, 0) | kind


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
    """Return a value as JSON text; null stays null."""
    if value is None:
        return None
    if not isinstance(value, float) or math.isfinite(value):
        try:
            return msgspec.json.encode(value).decode()
        except (ValueError, TypeError, RecursionError):
            pass
    try:
        return utf8(json.dumps(value, ensure_ascii=True))
    except RecursionError:
        return None  # it could be read, but so deep in the stack that it can't be written
