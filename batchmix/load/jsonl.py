"""Reads lines of JSONL files from any byte on, decodes them to rows, and hashes them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from itertools import chain, count
from typing import Any

import msgspec

from batchmix.formats.display import clean, kind_of, quoted
from batchmix.formats.text import is_utf8
from batchmix.load.digests import digest_text, new_digest
from batchmix.load.files import open_file, unreadable

NOT_UTF8 = "is not UTF-8"
"""The reason why a line that is not UTF-8 is bad."""
BOM = b"\xef\xbb\xbf"
WHOLE_FILE = 1 << 62
"""A `Segment.end` beyond the end of any file."""
_BLOCK_BYTES, _LONG_BLOCK_BYTES = 1 << 16, 1 << 19
"""The number of bytes of a file that are split into lines at once: more of long lines, since each block takes time."""
_BUFFER_BYTES = 1 << 20
"""The size of a file's buffer. A line that lies in two buffers is copied once more, which takes time for long lines."""
_LONG_LINE_BYTES = 4096
"""The mean length of lines from which a call of Python for each takes less time than a copy."""
_decoder = msgspec.json.Decoder()
_row_decoder = msgspec.json.Decoder(dict[str, Any])
_tolerant_decoder = json.JSONDecoder(parse_constant={"NaN": None, "Infinity": math.inf, "-Infinity": -math.inf}.get)
"""Decodes JSON that contains infinities, or NaN, which becomes null (pandas writes null as NaN)."""

Decode = Callable[[bytes], dict[str, Any]]
"""Decodes a line to a row. Raises `BadLineError`."""


class BadLineError(Exception):
    """Raised for a line that is not a JSON object. The text of the error says why."""


class Segment(msgspec.Struct, frozen=True, array_like=True):
    """A part of one file: the bytes [start, end). `line` is the number of the part's first line in the file."""

    file: int
    start: int
    end: int
    line: int


def read_lines(path: str, segment: Segment) -> Iterator[tuple[int, bytes, bytes]]:
    """Iterate over a segment's lines as (line number, raw line including its newline, stripped line).

    The stripped line has no white space around it, but perhaps a newline after an object, and no byte order mark.
    Raises `InputError`.
    """
    return chain.from_iterable(_blocks_of_lines(path, segment))  # no Python function runs per line


def _blocks_of_lines(path: str, segment: Segment) -> Iterator[Iterator[tuple[int, bytes, bytes]]]:
    number, bytes_left = segment.line, segment.end - segment.start
    try:
        with open_file(path, buffering=_BUFFER_BYTES, stop=segment.end) as file:
            file.seek(segment.start)
            block = _BLOCK_BYTES
            while bytes_left > 0 and (raw := file.readlines(min(bytes_left, block))):
                size = sum(map(len, raw))
                is_long = size > len(raw) * _LONG_LINE_BYTES
                block = _LONG_BLOCK_BYTES if is_long else _BLOCK_BYTES
                bytes_left -= size
                while bytes_left + len(raw[-1]) <= 0:  # `readlines` may read one line too many
                    bytes_left += len(raw.pop())
                lines: Iterator[bytes] = map(_stripped if is_long else bytes.strip, raw)
                if number == 1 and raw[0].startswith(BOM):
                    lines = chain((raw[0][len(BOM) :].strip(),), map(bytes.strip, raw[1:]))
                yield zip(count(number), raw, lines)
                number += len(raw)
    except OSError as error:
        raise unreadable(path, error) from error


def _stripped(line: bytes) -> bytes:
    return line if line[:1] == b"{" and line[-2:] == b"}\n" else line.strip()


def first_row(paths: tuple[str, ...]) -> dict[str, Any]:
    """Return the first row that can be decoded, or an empty row if there is none."""
    for path in paths:
        for _, _, line in read_lines(path, Segment(0, 0, WHOLE_FILE, 1)):
            if line:
                try:
                    return decode_row(line)
                except BadLineError:
                    continue
    return {}


def decode_row(line: bytes) -> dict[str, Any]:
    """Return the object on a line. Raises `BadLineError`."""
    try:
        row = _row_decoder.decode(line)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        row = decode_value(line)
        if type(row) is not dict:
            raise BadLineError(f"is {kind_of(row)}, not an object") from None
        if (odd := next((name for name in row if not is_utf8(name)), None)) is not None:  # msgspec refuses such a name
            raise BadLineError(f"has a column whose name can't be written in UTF-8: {quoted(odd)}") from None
    return row


def decode_value(text: bytes) -> Any:
    """Return a JSON value. Raises `BadLineError`."""
    try:
        return _decoder.decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return _tolerant(text)


def decode_cell(value: Any) -> Any:
    """Return the JSON value of a table cell, such as `messages`, which may be JSON text or an Arrow struct.

    Text that is not JSON stays text. Nulls that merely pad an Arrow struct are left out.
    """
    if isinstance(value, str):
        try:
            return decode_value(value.encode())
        except (BadLineError, UnicodeEncodeError):
            return value
    return _without_padding(value)


def _without_padding(value: Any) -> Any:
    """Return a value without the null fields that Arrow adds to give all structs one type. A null `content` is kept."""
    if isinstance(value, list):
        return [_without_padding(item) for item in value]
    if isinstance(value, dict):
        return {key: _without_padding(item) for key, item in value.items() if item is not None or key == "content"}
    return value


def _tolerant(line: bytes) -> Any:
    """Decode JSON that msgspec refuses but Python's `json` writes: lone surrogates, NaN, numbers out of range."""
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


def segments_digest(paths: tuple[str, ...], segments: tuple[Segment, ...], like: str) -> str:
    """Return the digest of all bytes of some segments, to be compared with `like`. Raises `InputError`."""
    digest = new_digest(like)
    for segment in segments:
        try:
            with open_file(paths[segment.file], buffering=0, stop=segment.end) as file:
                file.seek(segment.start)
                bytes_left = segment.end - segment.start
                while bytes_left > 0 and (block := file.read(min(bytes_left, 1 << 20))):
                    digest.update(block)
                    bytes_left -= len(block)
        except OSError as error:
            raise unreadable(paths[segment.file], error) from error
    return digest_text(digest)
