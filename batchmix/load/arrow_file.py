"""Reads one Arrow file, in the file format (Feather) or the stream format, by record batches.

The footer of the file format says where each record batch is. In a stream they are found once; Arrow's stream reader
goes on wherever its file stands. https://arrow.apache.org/docs/format/Columnar.html
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import msgspec
import pyarrow as pa

from batchmix.errors import InputError
from batchmix.formats.arrow_cast import fitted
from batchmix.formats.display import clean
from batchmix.load.digests import Digest, digest_text
from batchmix.load.files import open_file, shown, stamp, unreadable
from batchmix.load.table_input import batch_rows
from batchmix.remote.files import FileError, is_url

MAGIC = b"ARROW1"
"""The first and the last bytes of a file in the file format."""
CONTINUATION = b"\xff\xff\xff\xff"
"""The first bytes of a file in the stream format."""
_BLOCK_BYTES = 1 << 20
_FOOTER_END = struct.Struct("<i6s")
"""The end of the file format: the size of the footer, and the magic number."""
_BLOCK = struct.Struct("<qi4xq")
"""A block in the footer: its place, and the sizes of its metadata and its body."""
_DICTIONARIES, _RECORD_BATCHES = 2, 3
"""The numbers of the lists of blocks in the footer: https://github.com/apache/arrow/blob/main/format/File.fbs"""


class _Span(msgspec.Struct, frozen=True):
    """The bytes [start, stop) of a record batch or of dictionaries, and the rows of the batch."""

    start: int
    stop: int
    rows: int = 0


class _Index(msgspec.Struct, frozen=True):
    """What a file holds."""

    schema: pa.Schema
    batches: list[_Span]
    dictionaries: list[_Span]
    """In a stream, the bytes of a batch together with the dictionaries before it."""
    is_stream: bool


class ArrowFile:
    """An Arrow file, as a `TableFile`. On a disk, it is mapped into memory. Raises `InputError` if it can't be read."""

    def __init__(self, path: str) -> None:
        self._path = path
        with _readable(path):
            self._index = _index_of(path)
        self.schema = self._index.schema
        self.group_rows = tuple(batch.rows for batch in self._index.batches)

    def digest(self, group: int, empty: Digest) -> str:
        """Return the digest of a record batch's bytes, and of the dictionaries for it. Raises `InputError`."""
        empty.update(self.schema.serialize())
        with _readable(self._path), open_file(self._path) as file:
            for span in [*self._dictionaries(group), self._index.batches[group]]:
                file.seek(span.start)
                left = span.stop - span.start
                while left > 0 and (block := file.read(min(left, _BLOCK_BYTES))):
                    empty.update(block)
                    left -= len(block)
        return digest_text(empty)

    def batches(self, start: int, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """Yield the rows from `start` on in small batches, with some columns of the file. Raises `InputError`."""
        group = 0
        while start >= self.group_rows[group]:
            start -= self.group_rows[group]
            group += 1
        with _readable(self._path), _opened(self._path) as file:
            for span, read in self._read(file, group, schema.names):
                self._check_size(span)
                whole = _checked(read())
                size = batch_rows(whole.nbytes / max(1, whole.num_rows))
                for at in range(start, span.rows, size):
                    self._check_size(span)
                    yield fitted(whole.slice(at, size), schema)
                start = 0

    def _read(self, file: Any, group: int, names: list[str]) -> Iterator[tuple[_Span, Callable[[], pa.RecordBatch]]]:
        """Yield each record batch from a number on: its span, and a function that reads it."""
        options = _options([self.schema.get_field_index(name) for name in names])
        batches = self._index.batches
        if not self._index.is_stream:
            reader = pa.ipc.open_file(file, options=options)
            yield from ((batches[n], partial(reader.get_batch, n)) for n in range(group, len(batches)))
            return
        reader = pa.ipc.open_stream(file, options=options)
        for before in self._dictionaries(group):
            file.seek(before.start)
            reader.read_next_batch()
        file.seek(batches[group].start)
        yield from ((batch, reader.read_next_batch) for batch in batches[group:])

    def _dictionaries(self, group: int) -> list[_Span]:
        spans, first = self._index.dictionaries, self._index.batches[group]
        return [span for span in spans if span.start < first.start] if self._index.is_stream else spans

    def _check_size(self, span: _Span) -> None:
        """Raise `InputError` if the file has become shorter: reading its mapped bytes would end the process."""
        if not is_url(self._path) and os.stat(self._path).st_size < span.stop:  # noqa: PTH116
            raise InputError(f"{shown(self._path)}: has become shorter")


@contextlib.contextmanager
def _readable(path: str) -> Iterator[None]:
    try:
        yield
    except (PermissionError, FileNotFoundError, FileError) as error:
        raise unreadable(path, error) from error
    except (OSError, pa.ArrowException, StopIteration, EOFError, struct.error) as error:
        reason = clean(str(error).splitlines()[0] if str(error) else "it is cut off")
        raise InputError(f"{shown(path)}: can't be read as Arrow: {reason}") from error


def _opened(path: str) -> Any:
    return pa.PythonFile(open_file(path), mode="r") if is_url(path) else pa.memory_map(path)


def _index_of(path: str) -> _Index:
    """Return what a file holds. No more than one column is decoded."""
    if not stamp(path).size:
        raise EOFError("it is empty")
    with _opened(path) as file:
        if file.read(len(MAGIC)) == MAGIC:
            return _file_index(file)
        file.seek(0)
        return _stream_index(file)


def _file_index(file: Any) -> _Index:
    schema = pa.ipc.open_file(file).schema
    reader = pa.ipc.open_file(file, options=_options(_cheapest(schema)))
    file.seek(file.size() - _FOOTER_END.size)
    (length, _) = _FOOTER_END.unpack(file.read())
    file.seek(file.size() - _FOOTER_END.size - length)
    footer = file.read(length)
    batches = [
        _Span(span.start, span.stop, reader.get_batch(number).num_rows)
        for number, span in enumerate(_blocks(footer, _RECORD_BATCHES))
    ]
    return _Index(schema, batches, _blocks(footer, _DICTIONARIES), is_stream=False)


def _blocks(footer: bytes, field: int) -> list[_Span]:
    """Return a list of blocks in a footer, a flatbuffer whose validity Arrow has checked."""
    (table,) = struct.unpack_from("<I", footer)
    (back,) = struct.unpack_from("<i", footer, table)
    size, _ = struct.unpack_from("<HH", footer, table - back)
    place = 4 + 2 * field
    (offset,) = struct.unpack_from("<H", footer, table - back + place) if place < size else (0,)
    if not offset:
        return []
    (step,) = struct.unpack_from("<I", footer, table + offset)
    start = table + offset + step
    (count,) = struct.unpack_from("<I", footer, start)
    blocks = (_BLOCK.unpack_from(footer, start + 4 + number * _BLOCK.size) for number in range(count))
    return [_Span(first, first + metadata + body) for first, metadata, body in blocks]


def _stream_index(file: Any) -> _Index:
    schema = pa.ipc.read_schema(file)
    file.seek(0)
    reader = pa.ipc.open_stream(file, options=_options(_cheapest(schema)))
    batches, dictionaries, count = [], [], 0
    while True:
        start = file.tell()
        try:
            batch = reader.read_next_batch()
        except StopIteration:
            break
        batches.append(_Span(start, file.tell(), batch.num_rows))
        if reader.stats.num_dictionary_batches > count:
            count = reader.stats.num_dictionary_batches
            dictionaries.append(batches[-1])
    if file.tell() < file.size():
        raise EOFError("it holds more than one stream; give a file for each")
    return _Index(schema, batches, dictionaries, is_stream=True)


def _options(columns: list[int]) -> Any:
    return pa.ipc.IpcReadOptions(included_fields=columns, use_threads=False)


def _cheapest(schema: pa.Schema) -> list[int]:
    """Return the column that is decoded to count rows: one whose values have a fixed size, if there is any."""
    fixed = (at for at, field in enumerate(schema) if pa.types.is_primitive(field.type))
    return [next(fixed, 0)] if len(schema) else []


def _checked(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Raise `pa.ArrowInvalid` if values would be read outside of the batch. Texts may have invalid bytes."""
    for column in batch.columns:
        try:
            column.validate(full=True)
        except pa.ArrowInvalid as error:
            if "UTF8" not in str(error):
                raise
    return batch
