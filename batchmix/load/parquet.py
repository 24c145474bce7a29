"""Parquet files: entered at the row group that holds a row, read on without decoding anything twice."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterator
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from batchmix.errors import InputError
from batchmix.load.files import Stamp, shown, stamp, unreadable
from batchmix.load.words import clean, quoted

_BATCH_ROWS = 1024
_BATCH_BYTES = 1 << 22
_BUFFER_BYTES = 1 << 16
_RUN_MARK = b"batchmix.schema"
"""The key that stands in the metadata of a run's own output."""


class Group(msgspec.Struct, frozen=True):
    """One row group: rows [first, stop) of the whole input."""

    first: int
    stop: int
    file: int
    number: int
    """Within its file."""


class ParquetInput:
    """Several Parquet files as one table. Raises `InputError` where one can't be read or their columns don't fit."""

    def __init__(self, paths: list[str]) -> None:
        self.paths = paths
        self._metadata = [_metadata(path) for path in paths]
        self.rows = sum(metadata.num_rows for metadata in self._metadata)
        schemas = [metadata.schema.to_arrow_schema() for metadata in self._metadata]
        self.is_a_run = any(_RUN_MARK in (schema.metadata or {}) for schema in schemas)
        for path, schema in zip(paths, schemas, strict=True):
            for name in {name for name in schema.names if schema.names.count(name) > 1}:
                raise InputError(f"{shown(path)}: has two columns named {quoted(name)}")
        try:
            unified = pa.unify_schemas([_bare(schema) for schema in schemas], promote_options="permissive")
        except pa.ArrowException as error:
            raise InputError(f"the columns of the Parquet files don't fit together: {clean(str(error))}") from error
        self.schema: pa.Schema = unified
        self._groups = self._all_groups()
        self._digests: dict[Group, tuple[Stamp, str]] = {}

    def _all_groups(self) -> list[Group]:
        groups, first = [], 0
        for file, metadata in enumerate(self._metadata):
            for number in range(metadata.num_row_groups):
                rows = metadata.row_group(number).num_rows
                if rows:
                    groups.append(Group(first, first + rows, file, number))
                first += rows
        return groups

    def place(self, row: int) -> str:
        """Return where a person finds a row; its number counts from 0 in its file."""
        group = self._groups[self.group_index(row)]
        before = sum(metadata.num_rows for metadata in self._metadata[: group.file])
        return f"{shown(self.paths[group.file])}, row {row - before}"

    def group_index(self, row: int) -> int:
        """Return which of all row groups holds a row."""
        return bisect_right(self._groups, row, key=lambda group: group.first) - 1

    def _groups_of(self, first: int, stop: int) -> list[Group]:
        return self._groups[self.group_index(first) : self.group_index(stop - 1) + 1] if first < stop else []

    def files_of(self, first: int, stop: int) -> set[int]:
        """Return which files hold a range of rows."""
        return {group.file for group in self._groups_of(first, stop)}

    def digests(self, ranges: list[tuple[int, int]]) -> list[str]:
        """Return the digest of each range of rows: of the bytes of the row groups that hold them. Raises `InputError`.

        No row group is read twice for it, in later calls neither while the file's status stays what it was.
        """
        read: dict[Group, str] = {}
        found = []
        for first, stop in ranges:
            here = []
            for group in self._groups_of(first, stop):
                if group not in read:
                    read[group] = self._group_digest(group)
                here.append((max(first, group.first) - group.first, min(stop, group.stop) - group.first, read[group]))
            found.append(hashlib.sha256(repr(here).encode()).hexdigest()[:32])
        return found

    def _group_digest(self, group: Group) -> str:
        path = self.paths[group.file]
        now = stamp(path)
        known = self._digests.get(group)
        if known is not None and known[0].proves(now):
            return known[1]
        try:
            with open(path, "rb") as file:  # noqa: PTH123
                digest = _bytes_digest(file, self._metadata[group.file].row_group(group.number))
        except OSError as error:
            raise unreadable(path, error) from error
        self._digests[group] = (now, digest)
        return digest

    def batches(self, start: int, columns: list[str]) -> Iterator[pa.RecordBatch]:
        """Yield all rows from `start` on, in small batches of these columns. Raises `InputError`."""
        schema = pa.schema([self.schema.field(name) for name in columns])
        for path, metadata in zip(self.paths, self._metadata, strict=True):
            if start >= metadata.num_rows:
                start -= metadata.num_rows
                continue
            yield from _file_batches(path, metadata, start, schema)
            start = 0


def _bare(schema: pa.Schema) -> pa.Schema:
    return pa.schema([pa.field(field.name, field.type) for field in schema])


def _metadata(path: str) -> Any:
    try:
        return pq.read_metadata(path)
    except PermissionError as error:
        raise unreadable(path, error) from error
    except (OSError, pa.ArrowException) as error:
        raise _no_parquet(path, error) from error


def _no_parquet(path: str, error: Exception) -> InputError:
    reason = clean(str(error).splitlines()[0] if str(error) else type(error).__name__)
    return InputError(f"{shown(path)}: can't be read as Parquet: {reason}")


def _bytes_digest(file: Any, group: Any) -> str:
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
    try:
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER_BYTES) as file:
            here = [name for name in schema.names if name in file.schema_arrow.names]
            # Each thread that decodes would keep memory of its own; one is fast enough.
            options = {"row_groups": groups, "columns": here, "use_threads": False}
            for batch in file.iter_batches(_batch_rows(metadata, groups), **options):
                if start >= batch.num_rows:
                    start -= batch.num_rows
                    continue
                yield fitted(batch.slice(start), schema)
                start = 0
    except PermissionError as error:
        raise unreadable(path, error) from error
    except (OSError, pa.ArrowException, IndexError) as error:
        raise _no_parquet(path, error) from error


def _batch_rows(metadata: Any, groups: list[int]) -> int:
    """Return how many rows to decode at once, so that long prompts take no more memory than short ones."""
    weight = max(metadata.row_group(g).total_byte_size / max(1, metadata.row_group(g).num_rows) for g in groups)
    return int(min(_BATCH_ROWS, max(16, _BATCH_BYTES / max(1, weight))))


def fitted(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
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
    """Reads ranges of rows; where one range lies behind the last one, nothing is decoded twice."""

    def __init__(self, source: ParquetInput, columns: list[str]) -> None:
        self._source = source
        self._columns = columns
        self._next: int | None = None
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._rest: pa.RecordBatch | None = None

    def read(self, first: int, stop: int) -> Iterator[pa.RecordBatch]:
        """Yield the rows [first, stop) in small batches."""
        if not self._is_before(first):
            self._batches, self._rest = self._source.batches(first, self._columns), None
            self._next = first
        at, self._next = self._next or 0, None  # until this range was read to its end
        while at < stop:
            batch = self._rest if self._rest is not None else next(self._batches, None)
            if batch is None:
                raise InputError(f"{shown(self._source.paths[-1])}: has fewer rows than its footer says")
            wanted = min(batch.num_rows, (first if at < first else stop) - at)
            self._rest = batch.slice(wanted) if wanted < batch.num_rows else None
            at += wanted
            if at == stop:
                self._next = stop
            if at > first:
                yield batch.slice(0, wanted)

    def _is_before(self, first: int) -> bool:
        """Return whether reading on leads to a row without decoding more than entering anew would."""
        if self._next is None or self._next > first:
            return False
        source = self._source
        return self._next == first or source.group_index(self._next) == source.group_index(first)
