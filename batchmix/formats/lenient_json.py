"""Reads JSON from outside, also where it is not quite valid, and writes such values again.

Values that are nested too deeply are cut off, so that recursive code can walk through the rest without running out of
stack.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

import msgspec

DEEPEST = 100
"""Levels of lists and objects that are read; deeper values become null."""
_LONGEST_INT = 4000
"""Digits of an integer; Python refuses more than 4,300, a longer one becomes infinity."""
_STRINGS_AND_BRACKETS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[{]+|[\]}]+', re.DOTALL)


def read_json(body: bytes) -> Any:
    """Return the JSON value in a body, also from invalid JSON where possible; else None. Never raises."""
    body = shallow(body)
    try:
        return msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        pass
    try:  # lone surrogates, NaN, a BOM, bytes that are not UTF-8
        text = body.decode("utf-8", "replace").lstrip("\ufeff")
        return json.loads(text, strict=False, parse_int=_whole)
    except (ValueError, RecursionError):
        return None


def shallow(body: bytes) -> bytes:
    """Return JSON with null for all values that are nested more deeply than `DEEPEST`."""
    if not may_be_deep(body):
        return body
    kept, start, depth = [], 0, 0
    for found in _STRINGS_AND_BRACKETS.finditer(body):
        run = found[0]
        if run[0] in b"[{":
            if depth <= DEEPEST < depth + len(run):
                kept.append(body[start : found.start() + DEEPEST - depth])
            depth += len(run)
        elif run[0] in b"]}":
            if depth > DEEPEST >= depth - len(run):
                start = found.start() + depth - DEEPEST
                kept.append(b"null")
            depth -= len(run)
    if depth <= DEEPEST:
        kept.append(body[start:])
    return b"".join(kept)


def shallow_text(text: str) -> str:
    """Do the same as `shallow`, for text."""
    body = text.encode("utf-8", "surrogatepass")
    return shallow(body).decode("utf-8", "surrogatepass") if may_be_deep(body) else text


def may_be_deep(body: bytes) -> bool:
    """Return whether JSON has enough brackets to be nested too deeply."""
    return body.count(b"[") + body.count(b"{") > DEEPEST


def _whole(digits: str) -> int | float:
    try:
        return int(digits) if len(digits) < _LONGEST_INT else math.inf
    except ValueError:  # PYTHONINTMAXSTRDIGITS may set a lower limit
        return math.inf


def json_text(value: Any, *, readable: bool = False) -> str | None:
    """Return a value as JSON, or None for an empty value. Never raises.

    The JSON is ASCII with lone surrogates escaped, or `readable`, with U+FFFD for them. NaN and infinity become null.
    """
    if not value:
        return None
    try:
        return _dumped(value, readable=readable)
    except RecursionError:
        return None
    except ValueError:
        pass
    try:
        return _dumped(finite(value), readable=readable)
    except (ValueError, RecursionError):
        return None


def _dumped(value: Any, *, readable: bool) -> str:
    text = json.dumps(value, allow_nan=False, ensure_ascii=not readable)  # integers may be of any size
    return (plain_text(text) or "") if readable else text


def finite(value: Any) -> Any:
    """Return a value with null for NaN and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def plain_text(value: Any) -> str | None:
    """Return a string that Parquet accepts, with U+FFFD for lone surrogates; None for other values."""
    if not isinstance(value, str):
        return None
    return re.sub("[\ud800-\udfff]", "\ufffd", value)
