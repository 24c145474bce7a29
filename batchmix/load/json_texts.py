"""Long texts that are sent as they stand in a JSON line, without decoding and encoding them: `msgspec.Raw`.

A text may stand in a line in other ways than msgspec writes it, such as with `\\u00e9` for `é`. Such a text is decoded,
since requests, and with them their hashes, must be the same whatever way was taken.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from batchmix.load.jsonl import decode_row, decode_value

_LONG_BYTES = 4096
"""The length of lines and texts from which leaving texts as they are takes less time."""
_OTHER_ESCAPES = re.compile(rb"\\[u/]")
"""Matches the escapes that msgspec does not write, or not for all that they may stand for."""
_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encoder = msgspec.json.Encoder()


def decode_row_but(columns: Collection[str], line: bytes) -> dict[str, Any]:
    """Return the object on a line, as `decode_row` does, but with long texts in some `columns` as they are in JSON.

    Raises `BadLineError`.
    """
    if len(line) < _LONG_BYTES or not _is_as_written(line):
        return decode_row(line)
    try:
        row = _decoder.decode(line)  # checks all but the encoding
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return decode_row(line)
    return {
        name: raw if name in columns and _is_long_text(raw) else decode_value(bytes(raw)) for name, raw in row.items()
    }


def _is_as_written(line: bytes) -> bool:
    if line.isascii():
        return line.find(b"\\") < 0
    if _OTHER_ESCAPES.search(line):
        return False
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_long_text(raw: msgspec.Raw) -> bool:
    view = memoryview(raw)
    return view.nbytes >= _LONG_BYTES and view[0] == ord('"')


def decode_json_text(value: Any) -> Any:
    """Return the text that `msgspec.Raw` stands for, and any other value as it is."""
    return msgspec.json.decode(value) if type(value) is msgspec.Raw else value


def joined_json(texts: Sequence[str | msgspec.Raw]) -> msgspec.Raw:
    """Return several texts as one text in JSON."""
    pieces = [memoryview(text if type(text) is msgspec.Raw else _encoder.encode(text))[1:-1] for text in texts]
    return msgspec.Raw(b"".join([b'"', *pieces, b'"']))
