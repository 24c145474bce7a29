"""Reads several files of tables as one table, from any row on. Consecutive ranges of rows are decoded only once."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator
from typing import Protocol

import msgspec
import pyarrow as pa

from batchmix.errors import InputError
from batchmix.formats.arrow_cast import nullable, storable
from batchmix.formats.display import quoted
from batchmix.load.digests import Digest, digest_text, new_digest
from batchmix.load.files import Stamp, shown, stamp
from batchmix.load.parquet_types import shown_type, type_hint, unified

_BATCH_ROWS = 1024
"""The number of rows that are decoded at once, if they are short."""
_BATCH_BYTES = 1 << 20
"""The number of bytes of values that are decoded at once, so that rows with long prompts come in smaller batches."""
_RUN_MARK = b"batchmix.schema"
"""A metadata key that only the output of a run has."""


class TableFile(Protocol):
    """A file that holds a table in groups of rows, each of which can be read by itself."""

    schema: pa.Schema
    """The columns, with the types in which they are read."""
    group_rows: tuple[int, ...]
    """The number of rows of each group."""

    def digest(self, group: int, empty: Digest) -> str:
        """Return the digest of a group's bytes, computed with `empty`. Raises `InputError`."""

    def batches(self, start: int, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """Yield the rows from `start` on in small batches, with some columns of the file. Raises `InputError`."""


class RowGroup(msgspec.Struct, frozen=True):
    """A row group of a file, with rows [first, stop) of the whole input."""

    first: int
    stop: int
    file: int
    number: int
    """The index of the row group in its file."""


class TableInput:
    """Several files as one table. `opened` opens each of them.

    Raises `InputError` if a file can't be read, or has two columns with one name.
    """

    def __init__(self, paths: list[str], opened: Callable[[str], TableFile]) -> None:
        self.paths = paths
        self._files = [opened(path) for path in paths]
        self.rows = sum(sum(file.group_rows) for file in self._files)
        self.is_a_run = any(_RUN_MARK in (file.schema.metadata or {}) for file in self._files)
        # The types of a file without rows are ignored, unless no file has rows.
        self._schemas = {
            path: file.schema
            for path, file in zip(paths, self._files, strict=True)
            if any(file.group_rows) or not self.rows
        }
        for path, schema in self._schemas.items():
            for name in {name for name in schema.names if schema.names.count(name) > 1}:
                raise InputError(f"{shown(path)}: has two columns named {quoted(name)}")
        self.names = list(dict.fromkeys(name for schema in self._schemas.values() for name in schema.names))
        """All columns of all files, in order of appearance."""
        self._groups = self._all_groups()
        self._digests: dict[tuple[RowGroup, str], tuple[Stamp, str]] = {}

    def types_of(self, name: str) -> dict[str, pa.DataType]:
        """Return the types of a column in the files that have it, by path."""
        schemas = self._schemas.items()
        return {path: schema.field(name).type for path, schema in schemas if name in schema.names}

    def types_shown(self, name: str) -> str:
        """Return the types of a column for a message, each with one file in which the column has that type."""
        first = {dtype: path for path, dtype in reversed(self.types_of(name).items())}
        return " and ".join(f"{shown(path)} has ({shown_type(dtype)})" for dtype, path in reversed(first.items()))

    def everywhere(self, names: Collection[str]) -> bool:
        """Return whether each file with rows has all of these columns."""
        return all(set(names) <= set(schema.names) for schema in self._schemas.values())

    def text_type(self, name: str) -> pa.DataType | None:
        """Return the type of a column that is plain text of one type in all files. None for any other column."""
        types = set(self.types_of(name).values())
        dtype = types.pop() if len(types) == 1 else None
        return dtype if dtype in (pa.string(), pa.large_string()) else None

    def column_type(self, name: str) -> pa.DataType:
        """Return a type for a carried column that fits the types of all files. Single values may still not fit.

        Raises `InputError` if no type fits all files.
        """
        types = list(self.types_of(name).items())
        first, merged = types[0]
        for path, dtype in types[1:]:
            both = unified(merged, dtype)
            if both is None:
                raise InputError(
                    f"the files don't fit together: the column {quoted(name)} is {shown_type(merged)} in {shown(first)}"
                    f" and {shown_type(dtype)} in {shown(path)}. {type_hint(name)}"
                )
            first, merged = (first if both == merged else path), both
        return storable(merged if self.everywhere([name]) else nullable(merged))

    def _all_groups(self) -> list[RowGroup]:
        groups, first = [], 0
        for file, opened in enumerate(self._files):
            for number, rows in enumerate(opened.group_rows):
                if rows:
                    groups.append(RowGroup(first, first + rows, file, number))
                first += rows
        return groups

    def place(self, row: int) -> str:
        """Return the place of a row for a message: the file, and the row's number in the file, counted from 0."""
        group = self._groups[self.group_index(row)]
        before = sum(sum(file.group_rows) for file in self._files[: group.file])
        return f"{shown(self.paths[group.file])}, row {row - before}"

    def names_at(self, row: int) -> list[str]:
        """Return the columns of the file that contains a row."""
        names: list[str] = self._schemas[self.paths[self._groups[self.group_index(row)].file]].names
        return names

    def group_index(self, row: int) -> int:
        """Return the index of the row group that contains a row, among the row groups of all files."""
        return bisect_right(self._groups, row, key=lambda group: group.first) - 1

    def _groups_of(self, first: int, stop: int) -> list[RowGroup]:
        return self._groups[self.group_index(first) : self.group_index(stop - 1) + 1] if first < stop else []

    def files_of(self, first: int, stop: int) -> set[int]:
        """Return the indexes of the files that contain rows [first, stop)."""
        return {group.file for group in self._groups_of(first, stop)}

    def digests(self, ranges: list[tuple[int, int]], like: str = "") -> list[str]:
        """Return a digest for each range of rows, computed from the bytes of the row groups that contain the range.

        `like` is an earlier digest that they will be compared with. Empty if there is none. The digest of a row group
        is cached while the status of its file does not change. Raises `InputError`.
        """
        read: dict[RowGroup, str] = {}
        digests = []
        for first, stop in ranges:
            here = []
            for group in self._groups_of(first, stop):
                if group not in read:
                    read[group] = self._group_digest(group, like)
                here.append((max(first, group.first) - group.first, min(stop, group.stop) - group.first, read[group]))
            digest = new_digest(like)
            digest.update(repr(here).encode())
            digests.append(digest_text(digest))
        return digests

    def _group_digest(self, group: RowGroup, like: str) -> str:
        path = self.paths[group.file]
        now = stamp(path)
        empty = new_digest(like)
        cached = self._digests.get((group, empty.name))
        if cached is not None and cached[0].proves(now):
            return cached[1]
        digest = self._files[group.file].digest(group.number, empty)
        self._digests[group, empty.name] = (now, digest)
        return digest

    def batches(self, start: int, columns: list[str]) -> Iterator[pa.RecordBatch]:
        """Yield all rows from `start` on in small batches. A batch lacks columns that its file lacks.

        Columns have the types of their file. Raises `InputError`.
        """
        for path, file in zip(self.paths, self._files, strict=True):
            rows = sum(file.group_rows)
            if start >= rows:
                start -= rows
                continue
            schema = self._schemas[path]
            yield from file.batches(start, pa.schema([schema.field(name) for name in columns if name in schema.names]))
            start = 0


def batch_rows(row_bytes: float) -> int:
    """Return the number of rows to decode at once: fewer if rows are long, to bound memory."""
    return int(min(_BATCH_ROWS, max(16, _BATCH_BYTES / max(1, row_bytes))))


class Cursor:
    """Reads ranges of rows.

    A range that begins where the last one ended is read on from there, so nothing is decoded twice.
    """

    def __init__(self, source: TableInput, columns: list[str]) -> None:
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
        at, self._next = self._next or 0, None  # unknown until this range has been read to its end
        while at < stop:
            batch = self._rest if self._rest is not None else next(self._batches, None)
            if batch is None:
                raise InputError(f"{shown(self._source.paths[-1])}: has fewer rows than it says")
            wanted = min(batch.num_rows, (first if at < first else stop) - at)
            self._rest = batch.slice(wanted) if wanted < batch.num_rows else None
            at += wanted
            if at == stop:
                self._next = stop
            if at > first:
                yield batch.slice(0, wanted)

    def _is_before(self, first: int) -> bool:
        """Return whether reading on from the current position to a row costs no more than starting again."""
        if self._next is None or self._next > first:
            return False
        source = self._source
        return self._next == first or source.group_index(self._next) == source.group_index(first)
