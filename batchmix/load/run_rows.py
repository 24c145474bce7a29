"""Reads the results of another run as rows: its carried columns, its result columns, and its answers under its name.

A part can be read as soon as it is there. Where each part begins is known before, from `run.json`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from batchmix.errors import FailureAction, InputError
from batchmix.formats.arrow_build import array_of
from batchmix.formats.arrow_values import values
from batchmix.load.carried_columns import CarriedColumns, answers_in
from batchmix.load.digests import digest_text, new_digest
from batchmix.load.files import Source, shown, unreadable
from batchmix.load.parquet import ParquetFile
from batchmix.load.prompts import PromptSource
from batchmix.load.row_reader import Line, Row, ScannedRows
from batchmix.load.scan import RowChecker, Scan, ScanOptions, ShardRange
from batchmix.load.table_input import Cursor, RowGroup, TableInput
from batchmix.load.table_reader import TableReader, columns_read, row_dicts
from batchmix.records import NO_INPUT, SKIPPED, Failure, Status, part_name

_KEY = ("custom_id", "model", "sample")
_OUTCOME = ("status", "error_type", "error_message")
_TAIL = 8
"""The bytes at the end of a Parquet file that say how long its footer is."""


class _PartsOfRun(msgspec.Struct):
    """What `run.json` says of the parts."""

    name: str
    rows: int
    results: int
    shard_rows: int


def _read_run(folder: Path) -> _PartsOfRun | None:
    try:
        run = msgspec.json.decode((folder / "run.json").read_bytes(), type=_PartsOfRun)
    except (OSError, ValueError):
        return None
    return run if run.rows and run.shard_rows > 0 else None


def parts_of_run(path: str) -> list[str]:
    """Return the paths of all parts that a run will have once it is finished. Empty if the path is no run folder."""
    run = _read_run(Path(path))
    data = os.path.join(path, "data")  # noqa: PTH118 - Path would normalise it
    return [os.path.join(data, part_name(i)) for i in range(-(-run.rows // run.shard_rows))] if run else []  # noqa: PTH118


def missing_parts(paths: tuple[str, ...]) -> int:
    """Return how many of a run's parts are not there yet."""
    return sum(not os.path.exists(path) for path in paths)  # noqa: PTH110


class RunParts(TableInput):
    """The parts of a run as one table, with the columns that a next run reads. Raises `InputError`."""

    def __init__(self, paths: list[str]) -> None:
        self.paths = paths
        self.folder = Path(paths[0]).parent.parent
        run = _read_run(self.folder)
        first = next((path for path in paths if os.path.exists(path)), None)  # noqa: PTH110
        if run is None or first is None:
            raise InputError(f"{shown(str(self.folder))}: is a run that has no finished part yet")
        self.results_per_row = max(1, run.results // run.rows)
        """How many results, and with it rows for the next run, each row has: one for each model and sample."""
        self.rows = run.results
        self.is_a_run = True
        self.name = _answer_name(self.folder.name, run.name)
        schema = ParquetFile(first).schema
        self._sources = {name: name for name in schema.names} | self._answers(schema.names)
        renamed = pa.schema([schema.field(source).with_name(name) for name, source in self._sources.items()])
        self._schemas = dict.fromkeys(paths, renamed)
        self.names = list(self._sources)
        step = run.shard_rows * self.results_per_row
        self._groups = [RowGroup(i * step, min((i + 1) * step, run.results), i, 0) for i in range(len(paths))]

    def _answers(self, names: list[str]) -> dict[str, str]:
        """Return the columns with the answers, by the names under which they are carried, with their sources."""
        name = self.name if self.name not in names else f"{self.name}_answer"
        typed = answers_in(names)
        flat = {f"{name}.{field.removeprefix('answer.')}": field for field in names if field in typed and "." in field}
        answers = {name: "answer"} if "answer" in typed else flat or {name: "response"}
        if taken := answers.keys() & set(names):
            raise InputError(
                f"{shown(str(self.folder))}: has a column {min(taken)!r}, so that its answers can't be carried under"
                " its name; give its folder another name"
            )
        return answers

    def place(self, row: int) -> str:
        """Return the run, and the number of the row in it."""
        return f"{shown(str(self.folder))}, row {row // self.results_per_row}"

    @property
    def is_whole(self) -> bool:
        """Whether all parts are there."""
        return not missing_parts(tuple(self.paths))

    def digests(self, ranges: list[tuple[int, int]], like: str = "") -> list[str]:
        """Return a digest for each range of rows, from the footers of its parts. Empty if a part is not there yet.

        A footer has the sizes and times of its part's results, so that no two parts have the same.
        """
        digests = []
        for first, stop in ranges:
            groups = self._groups_of(first, stop)
            footers = [_footer(self.paths[group.file]) for group in groups]
            if None in footers:
                digests.append("")
                continue
            digest = new_digest(like)
            for group, footer in zip(groups, footers, strict=True):
                digest.update(repr((max(first, group.first), min(stop, group.stop))).encode())
                digest.update(footer or b"")
            digests.append(digest_text(digest))
        return digests

    def batches(self, start: int, columns: list[str]) -> Iterator[pa.RecordBatch]:
        """Yield all rows from `start` on in small batches. A part is opened when its turn comes."""
        key = _KEY if self.results_per_row > 1 and _KEY[0] in columns else ()
        sources = dict.fromkeys([self._sources[name] for name in columns] + list(key))
        for group in self._groups[self.group_index(start) :]:
            path = self.paths[group.file]
            part = ParquetFile(path)
            if sum(part.group_rows) != group.stop - group.first:
                raise InputError(f"{shown(path)}: has other rows than run.json says")
            here = pa.schema([part.schema.field(source) for source in sources if source in part.schema.names])
            for batch in part.batches(max(0, start - group.first), here):
                yield self._renamed(batch, columns, several=bool(key))

    def _renamed(self, batch: pa.RecordBatch, columns: list[str], *, several: bool) -> pa.RecordBatch:
        there = {name: self._sources[name] for name in columns if self._sources[name] in batch.schema.names}
        arrays = {name: batch.column(source) for name, source in there.items()}
        if several:
            keys = zip(*(values(batch.column(name)) for name in _KEY), strict=True)
            arrays[_KEY[0]] = array_of([f"{id_}/{model}/{sample}" for id_, model, sample in keys], pa.string())
        return pa.RecordBatch.from_pydict(arrays) if arrays else batch.select([])  # which has as many rows


def _answer_name(folder: str, job: str) -> str:
    """Return the name for a run's answers: the folder's, or the job's if the folder's begins with a digit, as dates do.

    What can't be in a template's variable becomes `_`.
    """
    return re.sub(r"\W", "_", job if folder[:1].isdigit() else folder)


def _footer(path: str) -> bytes | None:
    """Return the footer of a Parquet file. None if there is no file."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL))
            length = int.from_bytes(file.read(4), "little")
            file.seek(max(0, size - _TAIL - length))
            return file.read(length)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unreadable(path, error) from error


class RunReader(TableReader):
    """Reads the results of a run. Its rows without an answer are failures, except those that the run has skipped."""

    _files: RunParts

    def __init__(self, sources: tuple[Source, ...], paths: tuple[str, ...]) -> None:
        self._files = RunParts(list(paths))
        self._cursors: dict[tuple[str, str], Cursor] = {}
        self.columns: list[str] | None = self._files.names
        self.is_a_run = True

    def scan(self, prompts: PromptSource, checker: RowChecker, options: ScanOptions) -> ScannedRows:
        """Check what all parts say of the rows, or, as long as some are not there yet, only their columns."""
        if self._files.is_whole:
            return super().scan(prompts, checker, options)
        rows, names = self._files.rows, self._files.names
        ranges = [(first, min(first + options.shard_rows, rows)) for first in range(0, rows, options.shard_rows)]
        digests = self._files.digests(ranges, options.earlier_digest)
        if lacking := sorted(prompts.required.difference(names)):
            raise InputError(f"{shown(str(self._files.folder))}: {prompts.problem(dict.fromkeys(names)) or lacking[0]}")
        shards = tuple(ShardRange(*each, digest) for each, digest in zip(ranges, digests, strict=True))
        return ScannedRows(rows, shards, dict.fromkeys(names, 0))

    def parts_of(self, shard: ShardRange) -> set[int]:
        """Return the numbers of the parts that have the rows of a shard."""
        return self._files.files_of(shard.first, shard.stop)

    def digested(self, shard: ShardRange) -> ShardRange:
        """Return a shard with the digest of the rows that it has now."""
        (digest,) = self._files.digests([(shard.first, shard.stop)], shard.digest)
        return msgspec.structs.replace(shard, digest=digest)

    def rows(self, shard: ShardRange, prompts: PromptSource, model: str) -> Iterator[list[Row]]:
        """Yield a shard's rows in small batches. A row without an answer is a `Failure`. Raises `InputError`."""
        columns = list(dict.fromkeys([*columns_read(self._files, prompts), *_OUTCOME]))
        for first, batch in self._batches(shard, columns, ("requests", model)):
            yield [(index, self._row(row), None) for index, row in enumerate(row_dicts(batch, prompts.mode), first)]

    def _row(self, row: dict[str, Any]) -> dict[str, Any] | Failure:
        type_, message = row["error_type"], row["error_message"] or ""
        if row["status"] == Status.OK or type_ == SKIPPED:
            return row
        if type_ != NO_INPUT:  # otherwise it says already in which run the row has failed
            message = f"the row has no answer in {shown(str(self._files.folder))}: {type_}: {message}"
        return Failure(FailureAction.REJECT, NO_INPUT, message)

    def prove(self, columns: CarriedColumns, scan: Scan) -> dict[str, str]:
        """Convert only columns that change their types: the others have been in a part already."""
        same = {
            name: dtype
            for name, dtype in columns.types.items()
            if name not in columns.makers or str(self._files.column_type(name)) == dtype
        }
        return super().prove(columns, msgspec.structs.replace(scan, proven={**scan.proven, **same}))

    def place(self, row: int, line: Line) -> str:
        """Return the run, and the number of the row in it."""
        return self._files.place(row)
