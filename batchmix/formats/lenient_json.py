"""Reads JSON from outside, even if it is slightly invalid, and writes the values as valid JSON.

Values that are nested too deeply become null, so that recursive code can process the rest without running out of stack.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

import msgspec

MAX_DEPTH = 100
"""The number of levels of lists and objects that are read. Deeper values become null."""
_MAX_INT_DIGITS = 4000
"""The number of digits from which an integer becomes infinity, since Python refuses more than 4,300 digits."""
_STRINGS_AND_BRACKETS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[{]+|[\]}]+', re.DOTALL)


def read_json(body: bytes) -> Any:
    """Return the JSON value of a body, even if the JSON is slightly invalid. None if it can't be read. Never raises."""
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


def json_bytes(value: Any) -> bytes:
    """Return a value as JSON, whatever texts and whole numbers it holds."""
    try:
        return msgspec.json.encode(value)
    except (ValueError, OverflowError):  # lone surrogates, whole numbers of any size
        return json.dumps(value, separators=(",", ":")).encode()


def shallow(body: bytes) -> bytes:
    """Return JSON text in which values nested more deeply than `MAX_DEPTH` are replaced by null."""
    if not may_be_deep(body):
        return body
    kept, start, depth = [], 0, 0
    for match in _STRINGS_AND_BRACKETS.finditer(body):
        run = match[0]
        if run[0] in b"[{":
            if depth <= MAX_DEPTH < depth + len(run):
                kept.append(body[start : match.start() + MAX_DEPTH - depth])
            depth += len(run)
        elif run[0] in b"]}":
            if depth > MAX_DEPTH >= depth - len(run):
                start = match.start() + depth - MAX_DEPTH
                kept.append(b"null")
            depth -= len(run)
    if depth <= MAX_DEPTH:
        kept.append(body[start:])
    return b"".join(kept)


def shallow_text(text: str) -> str:
    """Return JSON text in which values nested too deeply are replaced by null: `shallow` for text instead of bytes."""
    body = text.encode("utf-8", "surrogatepass")
    return shallow(body).decode("utf-8", "surrogatepass") if may_be_deep(body) else text


def may_be_deep(body: bytes) -> bool:
    """Return whether JSON text has enough brackets to be nested more deeply than `MAX_DEPTH`."""
    return body.count(b"[") + body.count(b"{") > MAX_DEPTH


def _whole(digits: str) -> int | float:
    try:
        return int(digits) if len(digits) < _MAX_INT_DIGITS else math.inf
    except ValueError:  # PYTHONINTMAXSTRDIGITS may set a lower limit
        return math.inf


def nonempty_json(value: Any, *, readable: bool = False) -> str | None:
    """Return a value as JSON text. None if the value is empty or can't be written. Never raises.

    The text is ASCII. If `readable`, other letters are not escaped, and lone surrogates become U+FFFD. NaN and infinity
    become null.
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
    """Return a JSON value with NaN and infinity replaced by None, since JSON does not have them."""
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def plain_text(value: Any) -> str | None:
    """Return text with U+FFFD in place of lone surrogates, which Parquet refuses. None if the value is not text."""
    if not isinstance(value, str):
        return None
    try:
        value.encode()
    except UnicodeEncodeError:
        return re.sub("[\ud800-\udfff]", "\ufffd", value)
    return value
