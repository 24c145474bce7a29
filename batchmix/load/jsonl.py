"""Lines of JSONL files, entered at any byte."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from batchmix.formats.display import clean, kind_of, quoted
from batchmix.formats.text import is_utf8
from batchmix.load.sources import unreadable

_decoder = msgspec.json.Decoder()
_tolerant_decoder = json.JSONDecoder(parse_constant={"NaN": None, "Infinity": math.inf, "-Infinity": -math.inf}.get)
"""pandas writes NaN for null."""
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


Decode = Callable[[bytes], dict[str, Any]]
"""What makes a row of a line. Raises `BadLineError`."""
NOT_UTF8 = "is not UTF-8"
"""What is said of such a line."""
WHOLE_FILE = 1 << 62
"""An `end` behind that of any file."""


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


def first_row(paths: list[str]) -> dict[str, Any]:
    """Return the first row that can be read, which says what kind of rows these are; empty if there is none."""
    for path in paths:
        for number, raw in read_lines(path, Segment(0, 0, WHOLE_FILE, 1)):
            line = stripped(number, raw)
            if line:
                try:
                    return decode_row(line)
                except BadLineError:
                    continue
    return {}


def decode_row(line: bytes) -> dict[str, Any]:
    """Return the object on a line. Raises `BadLineError`."""
    row = decode_value(line)
    if type(row) is not dict:
        raise BadLineError(f"is {kind_of(row)}, not an object")
    if line.find(b"\\u") >= 0 and (odd := next((name for name in row if not is_utf8(name)), None)) is not None:
        raise BadLineError(f"has a column whose name can't be written in UTF-8: {quoted(odd)}")
    return row


def decode_value(text: bytes) -> Any:
    """Return a JSON value. Raises `BadLineError`."""
    try:
        return _decoder.decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return _tolerant(text)


def _tolerant(line: bytes) -> Any:
    """Decode what msgspec refuses and Python writes: lone surrogates, NaN, numbers out of range."""
    try:
        return _tolerant_decoder.decode(line.decode())
    except UnicodeDecodeError:
        raise BadLineError(NOT_UTF8) from None
    except json.JSONDecodeError as error:
        raise BadLineError(f"is not JSON: {clean(error.msg)} at column {error.colno}") from None
    except ValueError:
        raise BadLineError("holds a number with too many digits") from None
    except RecursionError:
        raise BadLineError("is nested too deeply") from None


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
    return digest_text(digest)


def digest_text(digest: Any) -> str:
    """Return a shard's digest as it is kept."""
    text: str = digest.hexdigest()[:32]
    return text
