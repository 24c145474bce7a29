"""Lines of JSONL files, entered at any byte."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import msgspec

from batchmix.load.files import unreadable

_decoder = msgspec.json.Decoder()
_BOM = b"\xef\xbb\xbf"
_BUFFER_BYTES = 1 << 18


class BadLineError(Exception):
    """A line that is not a JSON object; its text says why."""


class Segment(msgspec.Struct, frozen=True, array_like=True):
    """A stretch of one file: bytes [start, end), whose first line has the number `line`."""

    file: int
    start: int
    end: int
    line: int


def read_lines(path: str, segment: Segment) -> Iterator[tuple[int, bytes]]:
    """Yield (line number, raw line with its end) of a segment. Raises `InputError`."""
    try:
        with open(path, "rb", buffering=_BUFFER_BYTES) as file:  # noqa: PTH123
            file.seek(segment.start)
            left = segment.end - segment.start
            number = segment.line
            for raw in file:
                left -= len(raw)
                yield number, raw
                number += 1
                if left <= 0:
                    return
    except OSError as error:
        raise unreadable(path, error) from error


def stripped(number: int, raw: bytes) -> bytes:
    """Return a line without white space, and the file's first line without a byte order mark."""
    if number == 1 and raw.startswith(_BOM):
        raw = raw[3:]
    return raw.strip()


def decode_row(line: bytes) -> dict[str, Any]:
    """Return the object on a line. Raises `BadLineError`."""
    try:
        row = _decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        row = _tolerant(line)
    if type(row) is not dict:
        kind = {list: "a list", str: "text", bool: "true or false", type(None): "null"}.get(type(row), "a number")
        raise BadLineError(f"is {kind}, not an object")
    return row


def _tolerant(line: bytes) -> Any:
    """Decode what msgspec refuses and Python writes: lone surrogates, NaN, numbers out of range."""
    try:
        return json.loads(line.decode())
    except UnicodeDecodeError:
        raise BadLineError("is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise BadLineError(f"is not JSON: {error.msg} at column {error.colno}") from None
    except (ValueError, RecursionError) as error:
        raise BadLineError(f"can't be read as JSON: {type(error).__name__}") from None


def segments_digest(paths: list[str], segments: tuple[Segment, ...]) -> str:
    """Return the digest of the bytes in some segments. Raises `InputError`."""
    digest = hashlib.sha256()
    for segment in segments:
        try:
            with open(paths[segment.file], "rb", buffering=0) as file:  # noqa: PTH123
                file.seek(segment.start)
                left = segment.end - segment.start
                while left > 0 and (block := file.read(min(left, 1 << 20))):
                    digest.update(block)
                    left -= len(block)
        except OSError as error:
            raise unreadable(paths[segment.file], error) from error
    return digest.hexdigest()[:32]
