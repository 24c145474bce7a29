"""CSV and TSV as JSON lines: all cells text, each row on the line on which it begins in the file.

They are read by Python's own reader, since it tells for each record on which line it stands, and goes on behind one
that is wrong; pyarrow's takes many records at once.
"""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Iterator
from typing import Any

import msgspec

from batchmix.errors import InputError
from batchmix.formats.display import clean, quoted
from batchmix.load.conversion_hints import ends_in_cr, separated_by, without_first
from batchmix.load.jsonl import NOT_UTF8, BadLineError, Decode, decode_row, decode_value
from batchmix.load.sources import MARKS, Source

_BOM = b"\xef\xbb\xbf"
_BLOCK_BYTES = 1 << 20
_MOST_BYTES = 1 << 26
"""Of one record; what is longer is the rest of a file behind a quote that is not closed."""
_OTHER_MARKS = {";": "semicolons", "\t": "tabs", "|": "bars", ",": "commas"}
_encode = msgspec.json.encode


def decoder_of(kind: str) -> Decode:
    """Return what makes rows of the lines of a format that is read as JSON lines."""
    return _decode if kind in MARKS else decode_row


def _decode(line: bytes) -> dict[str, Any]:
    if line.startswith(b'"'):
        raise BadLineError(decode_value(line))  # what was wrong with the record
    return decode_row(line)


def json_lines(blocks: Iterator[bytes], source: Source) -> Iterator[bytes]:
    """Yield the records of a table with a header as JSON lines; where one has several lines, empty ones follow it.

    A cell that is empty is null, and a text where it is quoted. A record that is wrong becomes a text that says why.
    Raises `InputError` for a header that names no columns.
    """
    mark = MARKS[source.format]
    lines = _Lines(blocks, source)
    reader = csv.reader(lines, delimiter=mark, strict=True)
    limit = csv.field_size_limit(sys.maxsize)
    try:
        header = _header(reader, lines, source)
        made = [b"\n" * lines.last]
        size = 0
        for record in _records(reader, lines, header, mark):
            made.append(record)
            size += len(record)
            if size > _BLOCK_BYTES:
                yield b"".join(made)
                made.clear()
                size = 0
        yield b"".join(made)
    finally:
        csv.field_size_limit(limit)


class _Lines:
    """Lines of text, handed to the reader one by one; what it took for the last record is kept."""

    def __init__(self, blocks: Iterator[bytes], source: Source) -> None:
        self._lines = _split(blocks)
        self._source = source
        self.taken: list[str] = []
        self.number = 0
        self._bytes = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.number += 1
        self.taken.append(line)
        self._bytes += len(line)
        if self._bytes > _MOST_BYTES:
            begun = self.number - len(self.taken) + 1
            raise InputError(f"{self._source.label}:{begun}: goes on for more than 64 MB; is a quote not closed?")
        return line

    @property
    def last(self) -> int:
        """How many lines the last record has."""
        return len(self.taken)

    def begin(self) -> None:
        """Forget the last record."""
        self.taken.clear()
        self._bytes = 0


def _split(blocks: Iterator[bytes]) -> Iterator[str]:
    rest = b""
    is_first = True
    for block in blocks:
        *whole, rest = (rest + block).split(b"\n")
        for line in whole:
            text = (line.removeprefix(_BOM) if is_first else line).decode(errors="surrogateescape")
            is_first = False
            yield f"{text}\n"
    if rest:
        yield (rest.removeprefix(_BOM) if is_first else rest).decode(errors="surrogateescape")


def _header(reader: Iterator[list[str]], lines: _Lines, source: Source) -> list[str]:
    """Return the names of the columns."""
    names: list[str] = []
    try:
        while not names:
            names = next(reader, ["end"])
    except csv.Error as error:
        if re.search(r"\r[^\n]", "".join(lines.taken)):
            raise InputError(f"{source.label}: {ends_in_cr(source.path)}") from None
        raise InputError(f"{source.label}:1: can't be read as {source.format.upper()}: {error}") from None
    if not lines.taken:
        return []
    if re.fullmatch(r"sep=.?\s*", lines.taken[-1]):
        raise InputError(f"{source.label}:1: its first line is Excel's, and no header: {without_first(source.path)}")
    names = [name.strip() for name in names] if len(names) > 1 else names
    for mark, name in _OTHER_MARKS.items():
        if len(names) == 1 and mark in names[0]:
            raise InputError(f"{source.label}: its columns are separated by {name}: {separated_by(source.path, mark)}")
    for number, name in enumerate(names, 1):
        if not name:
            raise InputError(
                f"{source.label}:1: column {number} has no name in the header; where pandas wrote its index there:"
                " to_csv(…, index=False)"
            )
        if names.count(name) > 1:
            raise InputError(f"{source.label}:1: has two columns named {quoted(name)}; give each a name of its own")
    return names


def _records(reader: Iterator[list[str]], lines: _Lines, header: list[str], mark: str) -> Iterator[bytes]:
    width = len(header)
    while True:
        lines.begin()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            made = _encode(f"can't be read as a record: {clean(str(error))}; in a quoted cell a quote stands twice")
        else:
            made = b"" if not cells else _ragged(cells, width) or _row(header, cells, lines.taken, mark)
        yield made + b"\n" * lines.last


def _ragged(cells: list[str], width: int) -> bytes | None:
    if len(cells) == width:
        return None
    return _encode(f"has {len(cells)} cell{'s' * (len(cells) > 1)}, and the header has {width}")


def _row(header: list[str], cells: list[str], taken: list[str], mark: str) -> bytes:
    row: dict[str, str | None] = dict(zip(header, cells, strict=True))
    if "" in cells:
        texts = _quoted_empties("".join(taken), mark)
        row = {name: cell or ("" if at in texts else None) for at, (name, cell) in enumerate(row.items())}
    try:
        return _encode(row)
    except (UnicodeEncodeError, ValueError):
        return _encode(NOT_UTF8)


def _quoted_empties(record: str, mark: str) -> set[int]:
    """Return which cells of a record are `""`; of these a record may have many, and most have none."""
    if '""' not in record:
        return set()
    cell = rf'("(?:[^"]|"")*"|[^"{mark}\r\n][^{mark}\r\n]*)?(?:{mark}|\r?\n|$)'
    return {at for at, found in enumerate(re.finditer(re.compile(cell), record)) if found[1] == '""'}
