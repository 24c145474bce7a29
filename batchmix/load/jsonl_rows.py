"""Reads rows of JSONL files: all rows once, to find shards and column types, and then the rows of any shard."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pyarrow as pa

from batchmix.errors import InputError
from batchmix.formats.arrow_build import array_maker, array_of
from batchmix.formats.text import EXACT, json_text, utf8
from batchmix.load.carried_columns import CarriedColumns, ColumnMaker
from batchmix.load.column_types import ColumnType
from batchmix.load.digests import Digest, digest_text, new_digest
from batchmix.load.files import Source
from batchmix.load.json_texts import decode_row_but
from batchmix.load.jsonl import (
    WHOLE_FILE,
    BadLineError,
    Decode,
    Segment,
    decode_row,
    first_row,
    read_lines,
    segments_digest,
)
from batchmix.load.prompts import PromptSource
from batchmix.load.row_reader import Line, Row, ScannedRows, changed
from batchmix.load.scan import REPORT_EVERY, RowChecker, Scan, ScanOptions, ShardRange

_BATCH_ROWS = 128
"""The number of rows that are read at once for requests."""
_CARRIED_ROWS = 256
"""The number of rows that are read at once for carried columns. More would cost memory while a shard is sealed
(`tests/benchmarks/memory.py`).
"""
_BATCH_BYTES = 1 << 20
"""The number of bytes of lines after which a batch ends early, so that rows with long prompts take no more memory."""
_TEXT, _INT, _FLOAT, _BOOL, _OTHER, _LONG = 1, 2, 4, 8, 16, 32
"""JSON types as bits. `_LONG` marks whole numbers that a double can't represent exactly. run.json stores the bits."""
_BY_TYPE = {str: _TEXT, int: _INT, float: _FLOAT, bool: _BOOL, type(None): 0}
_MAX_SHAPES = 1000
"""The number of combinations of names and types that are remembered, which bounds the memory for odd inputs."""
_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1


class JsonTypes:
    """Collects the JSON types of each column."""

    def __init__(self) -> None:
        self.columns: dict[str, int] = {}
        """The columns in order of appearance, each with its JSON types so far as bits. 0 if all values were null."""
        # Most rows have the same names and types. A combination that was seen before can only add large numbers.
        self._shapes: dict[tuple[Any, ...], tuple[str, ...]] = {}

    def add(self, row: dict[str, Any]) -> None:
        """Add a row's values."""
        shape = (*row, *map(type, row.values()))
        numbers = self._shapes.get(shape)
        if numbers is None:
            if len(self._shapes) >= _MAX_SHAPES:
                self._shapes.clear()
            self._shapes[shape] = tuple(name for name, value in row.items() if type(value) is int)
            for name, value in row.items():
                self.columns[name] = self.columns.get(name, 0) | _json_type(value)
        else:
            for name in numbers:
                if not -EXACT <= row[name] <= EXACT:
                    self.columns[name] |= _json_type(row[name])


def _json_type(value: Any) -> int:
    json_type = _BY_TYPE.get(type(value), _OTHER)
    if json_type != _INT or -EXACT <= value <= EXACT:
        return json_type
    return _INT | _LONG if _INT64_MIN <= value <= _INT64_MAX else _OTHER


def column_maker(types: int) -> ColumnMaker:
    """Return the Arrow type for a column with these JSON types, and the function that converts its values."""
    array = array_maker()
    if types in (0, _TEXT):
        return pa.string(), _texts
    if types in (_INT, _INT | _LONG):
        return pa.int64(), lambda values: array(values, pa.int64())
    if types == _BOOL:
        return pa.bool_(), lambda values: array(values, pa.bool_())
    if types in (_FLOAT, _FLOAT | _INT):
        return pa.float64(), lambda values: array(map(_double, values), pa.float64())
    return pa.string(), lambda values: array(map(json_text, values), pa.string())


def _texts(values: list[str | None]) -> pa.Array:
    try:
        return array_of(values, pa.string())  # for long texts faster than pyarrow.array
    except UnicodeEncodeError:
        return array_of([utf8(value) for value in values], pa.string())


def _double(value: Any) -> float | None:
    return None if value is None else float(value)


class JsonlReader:
    """Reads JSONL files, and files of other formats that were converted to JSON lines."""

    columns: list[str] | None = None
    is_a_run = False

    def __init__(self, sources: tuple[Source, ...], paths: tuple[str, ...], decode: Decode = decode_row) -> None:
        self._sources = sources
        self._paths = paths
        self._decode = decode

    def first_row(self) -> dict[str, Any]:
        """Return the first row that can be decoded, or an empty row if there is none."""
        return first_row(self._paths)

    def scan(self, prompts: PromptSource, checker: RowChecker, options: ScanOptions) -> ScannedRows:
        """Read all lines once. Raises `InputError`."""
        return JsonlScan(self._decode, checker, options).run(self._sources, self._paths)

    def rows(self, shard: ShardRange, prompts: PromptSource, model: str) -> Iterator[list[Row]]:
        """Yield a shard's rows in small batches. Raises `InputChanged` and `InputError`."""
        decode = self._decode
        if decode is decode_row and prompts.json_columns:
            decode = partial(decode_row_but, prompts.json_columns)
        return self._batches(shard, _BATCH_ROWS, decode)

    def carried(self, shard: ShardRange, columns: CarriedColumns, scan: Scan) -> Iterator[pa.RecordBatch]:
        """Yield a shard's carried columns in small batches. Raises `InputChanged` if the shard has changed."""
        # Hashing long rows takes longer than all else here, so it is left out while the files' status proves as much.
        files = {segment.file for segment in shard.segments}
        digest = None if scan.is_current(files) else new_digest(shard.digest)
        for batch in self._batches(shard, _CARRIED_ROWS, self._decode, digest):
            yield columns.from_json([(index, row if isinstance(row, dict) else {}) for index, row, _ in batch])
        if not scan.is_current(files):
            now = segments_digest(self._paths, shard.segments, shard.digest) if digest is None else digest_text(digest)
            if now != shard.digest:
                raise changed(shard)

    def _batches(
        self, shard: ShardRange, max_rows: int, decode: Decode, digest: Digest | None = None
    ) -> Iterator[list[Row]]:
        """Yield a shard's rows in batches of at most `max_rows`, and add all bytes that are read to `digest`."""
        index, size = shard.first, 0
        batch: list[Row] = []
        for segment in shard.segments:
            for number, raw, line in read_lines(self._paths[segment.file], segment):
                if digest is not None:
                    digest.update(raw)
                if not line:
                    continue
                if index == shard.stop:
                    raise changed(shard)
                try:
                    row: dict[str, Any] | str = decode(line)
                except BadLineError as error:
                    row = str(error)
                batch.append((index, row, (segment.file, number)))
                index += 1
                size += len(line)
                if len(batch) == max_rows or size > _BATCH_BYTES:
                    yield batch
                    batch, size = [], 0
        if index != shard.stop:
            raise changed(shard)
        if batch:
            yield batch

    def is_unchanged(self, shard: ShardRange, scan: Scan) -> bool:
        """Return whether a shard's bytes are unchanged since the scan."""
        return segments_digest(self._paths, shard.segments, shard.digest) == shard.digest

    def has_same_bytes(self, scan: Scan) -> bool:
        """Return whether no bytes have changed since an earlier scan."""
        return all(self.is_unchanged(shard, scan) for shard in scan.shards)

    def place(self, row: int, line: Line) -> str:
        """Return the file's name and the number of the line."""
        file, number = line or (0, 0)
        return f"{self._sources[file].name}:{number}"

    def column(self, name: str, configured: ColumnType | None, scan: Scan) -> ColumnMaker:
        """Return a column's type, and the function that converts values to the column.

        It is the configured type, or else one that fits all values.
        """
        return column_maker(scan.columns[name]) if configured is None else (configured.type, configured.array)

    def prove(self, columns: CarriedColumns, scan: Scan) -> dict[str, str]:
        """Return `Scan.proven` unchanged: nothing is left to check, since the scan saw the type of every value."""
        return scan.proven


class JsonlScan:
    """One pass over all lines, which finds the shards and the types of the columns."""

    def __init__(self, decode: Decode, checker: RowChecker, options: ScanOptions) -> None:
        self._decode = decode
        self._checker = checker
        self._options = options
        self._types = JsonTypes()
        self._rows = 0
        self._first = 0
        self._shards: list[ShardRange] = []
        self._segments: list[Segment] = []
        self._digest = new_digest(self._options.earlier_digest)

    def run(self, sources: tuple[Source, ...], paths: tuple[str, ...]) -> ScannedRows:
        """Scan the files in order. Return their shards, columns and number of rows. Raises `InputError`."""
        for number, (source, path) in enumerate(zip(sources, paths, strict=True)):
            self._file(number, path, source.label)
        self._end_shard()
        self._options.on_progress(self._rows)
        return ScannedRows(self._rows, tuple(self._shards), self._types.columns)

    def _file(self, file: int, path: str, label: str) -> None:
        decode, add_types, problem_of = self._decode, self._types.add, self._checker.problem
        start = end = offset = 0
        first_line = 1
        blanks: list[bytes] = []  # raw blank lines, which belong to the row after them
        for number, raw, line in read_lines(path, Segment(file, 0, WHOLE_FILE, 1)):
            if self._rows == self._options.limit:
                break
            offset += len(raw)
            if not line:
                blanks.append(raw)
                continue
            self._digest.update(b"".join([*blanks, raw]) if blanks else raw)
            blanks.clear()
            self._rows += 1
            try:
                row = decode(line)
                add_types(row)
                problem = problem_of(row)
            except BadLineError as error:
                problem = str(error)
            except InputError as error:
                raise InputError(f"{label}:{number}: {error}") from None
            if problem is not None:
                self._checker.bad(f"{label}:{number}", problem, self._rows)
            if self._rows % REPORT_EVERY == 0:
                self._options.on_progress(self._rows)
            end = offset
            if self._rows - self._first == self._options.shard_rows:
                self._segments.append(Segment(file, start, end, first_line))
                self._end_shard()
                start, first_line = end, number + 1
        if end > start:
            self._segments.append(Segment(file, start, end, first_line))

    def _end_shard(self) -> None:
        if self._rows > self._first:
            shard = ShardRange(self._first, self._rows, digest_text(self._digest), tuple(self._segments))
            self._shards.append(shard)
        self._first = self._rows
        self._segments = []
        self._digest = new_digest(self._options.earlier_digest)
