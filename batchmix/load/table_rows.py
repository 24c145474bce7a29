"""Reads all rows of a small table beside the input, such as a file of labels, in any format that an input may have."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from batchmix.errors import InputError
from batchmix.formats.arrow_values import row_values
from batchmix.load.csv_lines import decode_converted
from batchmix.load.files import Source, shown
from batchmix.load.jsonl import WHOLE_FILE, BadLineError, Segment, decode_row, read_lines
from batchmix.load.sources import find_sources, format_of
from batchmix.load.spool import Spool
from batchmix.load.table_input import Cursor, TableFile, TableInput


def table_rows(path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each row of a file, of a folder or of the files that a glob matches, after its place for messages.

    Raises `InputError` for a file that can't be read, and for a bad row.
    """
    for source in find_sources(path):
        if source.is_stream:
            raise InputError(f"{source.label}: can be read only once; give a file")
        opened = format_of(source).opened
        yield from _lines(source) if opened is None else _table(source, opened)


def _table(source: Source, opened: Callable[[str], TableFile]) -> Iterator[tuple[str, dict[str, Any]]]:
    files = TableInput([source.path], opened)
    row = 0
    for batch in Cursor(files, files.names).read(0, files.rows):
        for values in row_values(batch):
            yield files.place(row), values
            row += 1


def _lines(source: Source) -> Iterator[tuple[str, dict[str, Any]]]:
    decode = decode_converted if format_of(source).to_json_lines else decode_row
    with tempfile.TemporaryDirectory(prefix="batchmix-") as folder:
        spool = Spool(Path(folder), sends_rows=False)
        copy, _ = spool.add(0, source, None)
        spool.finish()
        for number, _, line in read_lines(copy, Segment(0, 0, WHOLE_FILE, 1)):
            if not line:
                continue
            try:
                yield f"{shown(source.path)}:{number}", decode(line)
            except BadLineError as error:
                raise InputError(f"{shown(source.path)}:{number}: {error}") from None
