"""Converts JSON values to text, as JSON or as a person would write them."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec

from batchmix.formats.lenient_json import finite, plain_text

EXACT = 2**53
"""The largest number up to which a double can represent every whole number exactly."""


def is_utf8(value: str) -> bool:
    """Return whether text can be encoded as UTF-8, which means that it has no lone surrogates."""
    return value.isascii() or plain_text(value) == value


def utf8(value: str | None) -> str | None:
    """Return text with U+FFFD in place of lone surrogates, which Arrow refuses. None stays None."""
    return value if value is None or value.isascii() else plain_text(value)


def json_text(value: Any) -> str | None:
    """Return a value as JSON text, in which NaN and infinity are null.

    None if the value itself is null, NaN or infinity.
    """
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    try:
        return msgspec.json.encode(value).decode()
    except (ValueError, TypeError, OverflowError):  # lone surrogates, whole numbers beyond 64 bits
        return utf8(json.dumps(finite(value), ensure_ascii=True))
    except RecursionError:
        return None  # nested too deeply to be written


def json_file(value: Any) -> bytes:
    """Return a JSON value as the content of a file for people too. NaN and infinity become null: JSON has neither."""
    text = json.dumps(finite(value), indent=1, ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "replace") + b"\n"


def text_of(value: Any) -> str:
    """Return a value as a person would write it: text unquoted, whole numbers without `.0`, objects as JSON."""
    if isinstance(value, str):
        return utf8(value) or ""
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < EXACT else str(value)
    text = json_text(value)
    return "null" if text is None else text
