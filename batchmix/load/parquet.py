"""Parquet files: entered at the row group that holds a row, read on without decoding anything twice."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from batchmix.errors import InputError
from batchmix.load.files import shown

_BATCH_ROWS = 1024
_BUFFER_BYTES = 1 << 20


class ParquetInput:
    """Several Parquet files as one table. Raises `InputError` where one can't be read or their columns don't fit."""

    def __init__(self, paths: list[str]) -> None:
        self.paths = paths
        self._metadata = [_metadata(path) for path in paths]
        self.rows = sum(metadata.num_rows for metadata in self._metadata)
        schemas = [metadata.schema.to_arrow_schema() for metadata in self._metadata]
        self.is_a_run = any(b"batchmix.schema" in (schema.metadata or {}) for schema in schemas)
        try:
            self.schema: pa.Schema = pa.unify_schemas(
                [schema.remove_metadata() for schema in schemas], promote_options="permissive"
            )
        except pa.ArrowException as error:
            raise InputError(f"the columns of the Parquet files don't fit together: {error}") from error
        names = self.schema.names
        for name in names:
            if names.count(name) > 1:
                raise InputError(f"{shown(paths[0])}: has two columns named {name!r}")

    def place(self, row: int) -> str:
        """Return where a person finds a row."""
        for path, metadata in zip(self.paths, self._metadata, strict=True):
            if row < metadata.num_rows:
                return f"{shown(path)}, row {row}"
            row -= metadata.num_rows
        return f"row {row}"

    def digests(self) -> list[tuple[int, int, str]]:
        """Return (first row, stop row, digest of the bytes) of each row group, over all files."""
        found, first = [], 0
        for path, metadata in zip(self.paths, self._metadata, strict=True):
            try:
                with open(path, "rb") as file:  # noqa: PTH123
                    for number in range(metadata.num_row_groups):
                        group = metadata.row_group(number)
                        found.append((first, first + group.num_rows, _group_digest(file, group)))
                        first += group.num_rows
            except OSError as error:
                raise InputError(f"{shown(path)}: can't be read: {error.strerror or error}") from error
        return found

    def batches(self, start: int, columns: list[str]) -> Iterator[pa.RecordBatch]:
        """Yield all rows from `start` on, in small batches of these columns. Raises `InputError`."""
        schema = pa.schema([self.schema.field(name) for name in columns])
        for path, metadata in zip(self.paths, self._metadata, strict=True):
            if start >= metadata.num_rows:
                start -= metadata.num_rows
                continue
            try:
                yield from _file_batches(path, metadata, start, schema)
            except (OSError, pa.ArrowException) as error:
                raise InputError(f"{shown(path)}: can't be read as Parquet: {error}") from error
            start = 0


def _metadata(path: str) -> Any:
    try:
        return pq.read_metadata(path)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{shown(path)}: can't be read as Parquet: {str(error).splitlines()[0]}") from error


def _group_digest(file: Any, group: Any) -> str:
    digest = hashlib.sha256()
    for number in range(group.num_columns):
        column = group.column(number)
        dictionary = column.dictionary_page_offset
        file.seek(column.data_page_offset if dictionary is None else min(dictionary, column.data_page_offset))
        left = column.total_compressed_size
        while left > 0 and (block := file.read(min(left, 1 << 20))):
            digest.update(block)
            left -= len(block)
    return digest.hexdigest()[:32]


def _file_batches(path: str, metadata: Any, start: int, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    group = 0
    while start >= metadata.row_group(group).num_rows:
        start -= metadata.row_group(group).num_rows
        group += 1
    groups = list(range(group, metadata.num_row_groups))
    with pq.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER_BYTES) as file:
        here = [name for name in schema.names if name in file.schema_arrow.names]
        for batch in file.iter_batches(_BATCH_ROWS, row_groups=groups, columns=here):
            if start >= batch.num_rows:
                start -= batch.num_rows
                continue
            yield _fitted(batch.slice(start), schema)
            start = 0


def _fitted(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return a batch with the columns of a schema: missing ones null, others cast."""
    columns = []
    for field in schema:
        if field.name not in batch.schema.names:
            columns.append(pa.nulls(batch.num_rows, field.type))
        else:
            column = batch.column(field.name)
            columns.append(column if column.type == field.type else column.cast(field.type))
    return pa.RecordBatch.from_arrays(columns, schema=schema) if columns else batch


class Cursor:
    """Reads ranges of rows; where one range begins at the end of the last, nothing is decoded twice."""

    def __init__(self, source: ParquetInput, columns: list[str]) -> None:
        self._source = source
        self._columns = columns
        self._next = -1
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._rest: pa.RecordBatch | None = None

    def read(self, first: int, stop: int) -> Iterator[pa.RecordBatch]:
        """Yield the rows [first, stop) in small batches."""
        if self._next != first:
            self._batches, self._rest = self._source.batches(first, self._columns), None
        self._next = -1  # until this range was read to its end
        while first < stop:
            batch = self._rest if self._rest is not None else next(self._batches, None)
            if batch is None:
                raise InputError(f"{shown(self._source.paths[-1])}: has fewer rows than its footer says")
            wanted = min(batch.num_rows, stop - first)
            self._rest = batch.slice(wanted) if wanted < batch.num_rows else None
            first += wanted
            if first == stop:
                self._next = stop
            yield batch.slice(0, wanted)


def plain_values(value: Any) -> Any:
    """Return a value read from Arrow without the nulls that only fill up structs; a message keeps `content: null`."""
    if isinstance(value, list):
        return [plain_values(item) for item in value]
    if isinstance(value, dict):
        return {key: plain_values(item) for key, item in value.items() if item is not None or key == "content"}
    return value
