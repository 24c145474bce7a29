"""Converts CSV and TSV to JSON lines. All cells are text, and each row keeps the line number that it has in the file.

Python's `csv` is used, because it reports the line of each record and continues after a bad record. pyarrow's reader
takes many records at once.
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
from batchmix.load.conversions import bare_cr_message, with_commas, without_first
from batchmix.load.files import Source
from batchmix.load.jsonl import BOM, NOT_UTF8, BadLineError, decode_row, decode_value

_BLOCK_BYTES = 1 << 20
_MAX_RECORD_BYTES = 1 << 26
"""The maximum number of characters of one record. A longer record is most likely due to an unclosed quote."""
_OTHER_DELIMITERS = {";": "semicolons", "\t": "tabs", "|": "bars", ",": "commas"}
_encode = msgspec.json.encode


def decode_converted(line: bytes) -> dict[str, Any]:
    """Decode a line written by `csv_to_json` into its row. Raises `BadLineError` with the reason if the row is bad."""
    if line.startswith(b'"'):
        raise BadLineError(decode_value(line))
    return decode_row(line)


def csv_to_json(blocks: Iterator[bytes], source: Source, delimiter: str) -> Iterator[bytes]:
    """Yield a table's records as JSON lines, in blocks of about 1 MB.

    A record that spans several lines is followed by empty lines, so that line numbers stay the same as in the file. An
    empty cell becomes null, and a quoted empty cell becomes empty text. A bad record becomes a JSON string with the
    reason why it is bad. Raises `InputError` if the header can't be read, or if a column has no name.
    """
    lines = _Lines(blocks, source)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    limit = csv.field_size_limit(sys.maxsize)
    try:
        header = _header(reader, lines, source)
        block = [b"\n" * lines.last]
        size = 0
        for record in _records(reader, lines, header, delimiter):
            block.append(record)
            size += len(record)
            if size > _BLOCK_BYTES:
                yield b"".join(block)
                block.clear()
                size = 0
        yield b"".join(block)
    finally:
        csv.field_size_limit(limit)


class _Lines:
    """Gives lines of text to the CSV reader, and keeps the lines of the record that is being read."""

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
        if self._bytes > _MAX_RECORD_BYTES:
            begun = self.number - len(self.taken) + 1
            raise InputError(f"{self._source.label}:{begun}: the record is longer than 64 MB; is a quote not closed?")
        return line

    @property
    def last(self) -> int:
        """The number of lines that the current record has so far."""
        return len(self.taken)

    def begin(self) -> None:
        """Forget the lines of the last record, because a new one begins."""
        self.taken.clear()
        self._bytes = 0


def _split(blocks: Iterator[bytes]) -> Iterator[str]:
    rest = b""
    is_first = True
    for block in blocks:
        *whole, rest = (rest + block).split(b"\n")
        for line in whole:
            text = (line.removeprefix(BOM) if is_first else line).decode(errors="surrogateescape")
            is_first = False
            yield f"{text}\n"
    if rest:
        yield (rest.removeprefix(BOM) if is_first else rest).decode(errors="surrogateescape")


def _header(reader: Iterator[list[str]], lines: _Lines, source: Source) -> list[str]:
    """Return the names of the columns. Empty if the file has no lines. Raises `InputError` if the header is bad."""
    names: list[str] = []
    try:
        while not names:
            names = next(reader, ["end"])
    except csv.Error as error:
        if re.search(r"\r[^\n]", "".join(lines.taken)):
            raise InputError(f"{source.label}: {bare_cr_message(source.path)}") from None
        raise InputError(f"{source.label}:1: can't be read as {source.format.upper()}: {error}") from None
    if not lines.taken:
        return []
    if re.fullmatch(r"sep=.?\s*", lines.taken[-1]):
        raise InputError(
            f"{source.label}:1: the first line is a note of Excel's, not a header: {without_first(source.path)}"
        )
    names = [name.strip() for name in names] if len(names) > 1 else names
    for mark, name in _OTHER_DELIMITERS.items():
        if len(names) == 1 and mark in names[0]:
            raise InputError(
                f"{source.label}: the columns are separated by {name}; convert it: {with_commas(source.path, mark)}"
            )
    for number, name in enumerate(names, 1):
        if not name:
            raise InputError(
                f"{source.label}:1: column {number} has no name in the header; if pandas wrote its index there:"
                " to_csv(…, index=False)"
            )
        if names.count(name) > 1:
            raise InputError(f"{source.label}:1: has two columns named {quoted(name)}; rename one of them")
    return names


def _records(reader: Iterator[list[str]], lines: _Lines, header: list[str], delimiter: str) -> Iterator[bytes]:
    width = len(header)
    while True:
        lines.begin()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            json_line = _encode(
                f"can't be read as a record: {clean(str(error))}; in a quoted cell a quote stands twice"
            )
        else:
            json_line = b"" if not cells else _ragged(cells, width) or _row(header, cells, lines.taken, delimiter)
        yield json_line + b"\n" * lines.last


def _ragged(cells: list[str], width: int) -> bytes | None:
    if len(cells) == width:
        return None
    return _encode(f"has {len(cells)} cell{'s' * (len(cells) > 1)}, and the header has {width}")


def _row(header: list[str], cells: list[str], taken: list[str], delimiter: str) -> bytes:
    row: dict[str, str | None] = dict(zip(header, cells, strict=True))
    if "" in cells:
        texts = _quoted_empties("".join(taken), delimiter)
        row = {name: cell or ("" if at in texts else None) for at, (name, cell) in enumerate(row.items())}
    try:
        return _encode(row)
    except (UnicodeEncodeError, ValueError):
        return _encode(NOT_UTF8)


def _quoted_empties(record: str, delimiter: str) -> set[int]:
    """Return the positions of the cells that are written as `""` in a record."""
    if '""' not in record:
        return set()
    cell = rf'("(?:[^"]|"")*"|[^"{delimiter}\r\n][^{delimiter}\r\n]*)?(?:{delimiter}|\r?\n|$)'
    return {at for at, match in enumerate(re.finditer(re.compile(cell), record)) if match[1] == '""'}
