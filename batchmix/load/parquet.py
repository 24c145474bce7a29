"""Reads one Parquet file, by row groups."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from batchmix.errors import InputError
from batchmix.formats.arrow_cast import fitted, storable
from batchmix.formats.display import clean
from batchmix.load.digests import Digest, digest_text
from batchmix.load.files import open_file, shown, unreadable
from batchmix.load.parquet_types import with_texts
from batchmix.load.table_input import batch_rows
from batchmix.remote.files import FileError, is_url
from batchmix.remote.stubs import fetch_if_stub

_BUFFER_BYTES, _REMOTE_BUFFER_BYTES = 1 << 16, 1 << 20
"""The bytes of each column that are read at once: more from object storage, where each read waits for the network."""


class ParquetFile:
    """A Parquet file, as a `TableFile`. Raises `InputError` if it can't be read."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._metadata, schema = _opened(path)
        self.schema = with_texts(schema, self._metadata.schema)
        groups = range(self._metadata.num_row_groups)
        self.group_rows = tuple(self._metadata.row_group(number).num_rows for number in groups)

    def digest(self, group: int, empty: Digest) -> str:
        """Return the digest of the bytes of a row group. Raises `InputError`."""
        try:
            with open_file(self._path) as file:
                return _bytes_digest(file, self._metadata.row_group(group), empty)
        except OSError as error:
            raise unreadable(self._path, error) from error

    def batches(self, start: int, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """Yield the rows from `start` on in small batches, with some columns of the file. Raises `InputError`."""
        return _file_batches(self._path, self._metadata, start, schema)


def _opened(path: str) -> tuple[Any, pa.Schema]:
    """Return a file's metadata and its Arrow schema. A part of a run of which only the footer is here is fetched.

    Raises `InputError`.
    """
    try:
        if not is_url(path):
            fetch_if_stub(Path(path))
        with _source(path) as source, pq.ParquetFile(source) as file:
            return file.metadata, file.schema_arrow
    except (PermissionError, FileError) as error:
        raise unreadable(path, error) from error
    except (OSError, pa.ArrowException) as error:
        raise _no_parquet(path, error) from error


def _source(path: str) -> AbstractContextManager[Any]:
    """Return what pyarrow opens: a path, or an open file in object storage."""
    return open_file(path) if is_url(path) else contextlib.nullcontext(path)


def _no_parquet(path: str, error: Exception) -> InputError:
    reason = clean(str(error).splitlines()[0] if str(error) else type(error).__name__)
    return InputError(f"{shown(path)}: can't be read as Parquet: {reason}")


def _bytes_digest(file: Any, group: Any, digest: Digest) -> str:
    for number in range(group.num_columns):
        column = group.column(number)
        dictionary = column.dictionary_page_offset
        file.seek(column.data_page_offset if dictionary is None else min(dictionary, column.data_page_offset))
        bytes_left = column.total_compressed_size
        while bytes_left > 0 and (block := file.read(min(bytes_left, 1 << 20))):
            digest.update(block)
            bytes_left -= len(block)
    return digest_text(digest)


def _file_batches(path: str, metadata: Any, start: int, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    group = 0
    while start >= metadata.row_group(group).num_rows:
        start -= metadata.row_group(group).num_rows
        group += 1
    groups = list(range(group, metadata.num_row_groups))
    try:
        size = _REMOTE_BUFFER_BYTES if is_url(path) else _BUFFER_BYTES
        with _source(path) as source, pq.ParquetFile(source, pre_buffer=False, buffer_size=size) as file:
            # Each decoding thread would keep memory of its own, and one thread is fast enough.
            options = {"columns": schema.names, "use_threads": False}
            sizes = (metadata.row_group(g) for g in groups)
            rows = batch_rows(max(one.total_byte_size / max(1, one.num_rows) for one in sizes))
            # pyarrow can't join dictionaries inside lists and structs, so such row groups are read one by one.
            runs = [groups] if all(storable(dtype) is dtype for dtype in schema.types) else [[one] for one in groups]
            for batch in chain.from_iterable(file.iter_batches(rows, row_groups=run, **options) for run in runs):
                if start >= batch.num_rows:
                    start -= batch.num_rows
                    continue
                yield fitted(batch.slice(start), schema)
                start = 0
    except (PermissionError, FileError) as error:
        raise unreadable(path, error) from error
    except (OSError, pa.ArrowException, IndexError) as error:
        raise _no_parquet(path, error) from error
