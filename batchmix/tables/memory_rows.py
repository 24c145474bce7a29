"""Writes a table or rows from memory to an unnamed temporary file, which a run then reads like a file of the input."""

from __future__ import annotations

import contextlib
import hashlib
import io
import tempfile
from collections.abc import AsyncIterable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import pyarrow as pa

from batchmix.engine.shutdown import StopRequest
from batchmix.errors import NO_SPACE, InputError, RunError, disk_error
from batchmix.formats.arrow_cast import fitted
from batchmix.formats.display import clean
from batchmix.formats.parquet_schema import parquet_schema
from batchmix.job import Input
from batchmix.load.template import Template
from batchmix.store.parts import write_rows
from batchmix.tables.content_digest import ContentDigest
from batchmix.tables.libraries import type_shown
from batchmix.tables.record_batches import record_batches, with_one_column
from batchmix.tables.row_dicts import json_lines

TAKES = (
    "a DataFrame of pandas or Polars, an Arrow table, reader or dataset, a Dataset of Hugging Face, a relation of"
    " DuckDB, a dictionary of columns, or an iterable of dictionaries or strings"
)
"""The kinds of data in memory, for messages."""
_NO_ROWS = (str, bytes, bytearray, memoryview)
_SLICE_ROWS = 2048
"""The number of rows of a table that are converted at once, if they are short."""
_SLICE_BYTES = 1 << 20
"""The number of bytes that are converted at once, which bounds the memory, and the size of row groups."""


class MemoryRows(msgspec.Struct, frozen=True):
    """Rows from memory in a temporary file, which vanishes when it is closed or the process ends."""

    file: BinaryIO
    """Positioned at its beginning. The caller closes it."""
    format: str
    """`parquet` or `jsonl`."""
    digest: str
    """The SHA-256 of the content in hex: the same for the same data in another process."""
    rows: int


def memory_rows(data: Any, folder: Path, name_of_text: str, stop_request: StopRequest | None = None) -> MemoryRows:
    """Write data to a temporary file in `folder`: tables as Parquet, anything else as JSON lines.

    Iterators and readers are consumed, in bounded memory. A string becomes a row with one column, `name_of_text`.
    Raises `InputError` for what batchmix can't take, `RunError` if it can't write in the folder, `NoSpace`, and the
    reason of the stop request. An exception of an iterator passes unchanged. In all these cases no file is left.
    """
    check = (stop_request or StopRequest()).check
    data = with_one_column(data, name_of_text)
    reader = record_batches(data)
    file = _temporary_file(folder)
    try:
        written = _json_lines(data, file, name_of_text, check) if reader is None else _parquet(reader, file, check)
        file.seek(0)
        check()
    except BaseException as error:
        with contextlib.suppress(OSError):  # on a full disk, what is still buffered can't be written either
            file.close()
        if isinstance(error, OSError) and error.errno in NO_SPACE:
            raise disk_error(error, folder) from error
        raise
    return written


def _temporary_file(folder: Path) -> BinaryIO:
    try:
        return tempfile.TemporaryFile(dir=folder)
    except OSError as error:
        if error.errno in NO_SPACE:
            raise disk_error(error, folder) from error
        raise RunError(f"{folder}: the rows can't be written there: {error.strerror}") from error


def name_of_text(source: Input) -> str:
    """Return the column for rows that are only a text: the only one that the template reads, or the prompt itself."""
    columns = Template(source).required
    return next(iter(columns)) if len(columns) == 1 else "prompt"


def _json_lines(data: Any, file: BinaryIO, name_of_text: str, check: Callable[[], None]) -> MemoryRows:
    digest, rows = hashlib.sha256(), 0
    for line in json_lines(_iterable(data), name_of_text):
        check()
        digest.update(line)
        file.write(line)
        rows += 1
    return MemoryRows(file, "jsonl", digest.hexdigest(), rows)


def _iterable(data: Any) -> Iterable[Any]:
    if isinstance(data, AsyncIterable):
        raise InputError(
            "the data is an async iterator, which a run can't wait for; collect it first: [row async for row in rows]"
        )
    if isinstance(data, set | frozenset):
        raise InputError("the data is a set, which has another order in each process; pass a sorted list")
    if isinstance(data, io.IOBase):
        raise InputError("the data is an open file; pass its path")
    # Iterating over a table of a library that does not know Arrow's interface would yield the names of its columns.
    is_table = hasattr(data, "columns") and hasattr(data, "dtypes")
    if is_table or isinstance(data, _NO_ROWS) or not isinstance(data, Iterable):
        raise InputError(f"the data is of the type {type_shown(data)}; batchmix takes {TAKES}")
    return data


def _parquet(reader: pa.RecordBatchReader, file: BinaryIO, check: Callable[[], None]) -> MemoryRows:
    schema = parquet_schema(reader.schema)
    digest = ContentDigest(schema)
    try:
        write_rows(file, schema, _converted(reader, schema, digest), check)
    except pa.ArrowNotImplementedError as error:  # some kinds of lists, in older versions
        raise InputError(f"Parquet can't hold the table: {clean(str(error))}") from error
    return MemoryRows(file, "parquet", digest.hexdigest(), digest.rows)


def _converted(reader: pa.RecordBatchReader, schema: pa.Schema, digest: ContentDigest) -> Iterator[pa.RecordBatch]:
    for batch in reader:
        weight = batch.nbytes / max(1, batch.num_rows)
        rows = int(min(_SLICE_ROWS, max(16, _SLICE_BYTES / max(1, weight))))
        for start in range(0, batch.num_rows, rows):
            converted = fitted(batch.slice(start, rows), schema)
            digest.update(converted)
            yield converted
