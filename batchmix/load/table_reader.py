"""Reads rows of files that hold a typed table: Parquet and Arrow.

A scan takes the number of rows and the types from what the files say of themselves, and reads only the columns that
requests need.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from batchmix.errors import InputError
from batchmix.formats.arrow_build import array_of
from batchmix.formats.arrow_cast import fit, nullable, with_valid_utf8
from batchmix.formats.arrow_values import is_extension, is_list, is_text, row_values, values
from batchmix.formats.display import clean, quoted
from batchmix.formats.text import text_of
from batchmix.load.carried_columns import CarriedColumns, ColumnMaker, Make
from batchmix.load.column_types import ColumnType
from batchmix.load.files import Source, shown
from batchmix.load.jsonl import decode_cell
from batchmix.load.messages import no_prompt
from batchmix.load.parquet_types import shown_type, type_hint
from batchmix.load.prompts import Mode, PromptSource
from batchmix.load.row_reader import Line, Row, ScannedRows, changed
from batchmix.load.scan import RowChecker, Scan, ScanOptions, ShardRange
from batchmix.load.table_input import Cursor, TableFile, TableInput

_MESSAGES = "must be a list of structs, each with a text as role, or the same as JSON text"


class TableReader:
    """Reads the rows of files that hold a typed table. `opened` opens each of them."""

    def __init__(
        self, sources: tuple[Source, ...], paths: tuple[str, ...], *, opened: Callable[[str], TableFile]
    ) -> None:
        self._files = TableInput(list(paths), opened)
        self._cursors: dict[tuple[str, str], Cursor] = {}
        self.columns: list[str] | None = self._files.names
        self.is_a_run = self._files.is_a_run

    def first_row(self) -> dict[str, Any]:
        """Return all columns, each with None as its value."""
        return dict.fromkeys(self._files.names)

    def scan(self, prompts: PromptSource, checker: RowChecker, options: ScanOptions) -> ScannedRows:
        """Check the column types, and also every row if the types alone don't show that the rows are right.

        Raises `InputError`.
        """
        files = self._files
        rows = files.rows if options.limit is None else min(options.limit, files.rows)
        if prompts.mode in (Mode.PLAIN, Mode.BODIES) and rows:
            _check_types(files)
        each = _needs_each_row(files, prompts)
        columns = columns_read(files, prompts)
        if columns or each:
            scanned = 0
            for batch in Cursor(files, columns).read(0, rows):
                if each:
                    _check_rows(files, checker, prompts, scanned, batch)
                scanned += batch.num_rows
                options.on_progress(scanned)
        ranges = [(first, min(first + options.shard_rows, rows)) for first in range(0, rows, options.shard_rows)]
        digests = files.digests(ranges, options.earlier_digest)
        shards = [ShardRange(*each, digest) for each, digest in zip(ranges, digests, strict=True)]
        texts = {name: str(dtype) for name in columns if (dtype := files.text_type(name)) is not None}
        return ScannedRows(rows, tuple(shards), dict.fromkeys(files.names, 0), texts)

    def rows(self, shard: ShardRange, prompts: PromptSource, model: str) -> Iterator[list[Row]]:
        """Yield a shard's rows in small batches, with only the columns that requests need. Raises `InputError`."""
        for first, batch in self._batches(shard, columns_read(self._files, prompts), ("requests", model)):
            yield [(index, row, None) for index, row in enumerate(row_dicts(batch, prompts.mode), first)]

    def carried(self, shard: ShardRange, columns: CarriedColumns, scan: Scan) -> Iterator[pa.RecordBatch]:
        """Yield a shard's carried columns in small batches. Raises `InputChanged` if the shard has changed."""
        for first, batch in self._batches(shard, columns.sources, ("carried", "")):
            yield columns.from_arrow(first, batch)
        if not self.is_unchanged(shard, scan):
            raise changed(shard)

    def _batches(
        self, shard: ShardRange, columns: list[str], purpose: tuple[str, str]
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        # A pass continues with the cursor of the last pass for the same purpose. Two passes at once have a cursor each.
        cursor = self._cursors.pop(purpose, None) or Cursor(self._files, columns)
        first = shard.first
        for batch in cursor.read(shard.first, shard.stop):
            yield first, batch
            first += batch.num_rows
        self._cursors[purpose] = cursor

    def is_unchanged(self, shard: ShardRange, scan: Scan) -> bool:
        """Return whether a shard is unchanged: by the status of its files, or else by its bytes."""
        if scan.is_current(self._files.files_of(shard.first, shard.stop)):
            return True
        return self._files.digests([(shard.first, shard.stop)], shard.digest)[0] == shard.digest

    def has_same_bytes(self, scan: Scan) -> bool:
        """Return whether the columns and all bytes are the same as in an earlier scan, and no rows are missing."""
        if self._files.rows < scan.rows or self._files.names != list(scan.columns):
            return False
        ranges, earlier = zip(*(((shard.first, shard.stop), shard.digest) for shard in scan.shards), strict=True)
        return self._files.digests(list(ranges), earlier[0]) == list(earlier)

    def place(self, row: int, line: Line) -> str:
        """Return the file, and the row's index in the file."""
        return self._files.place(row)

    def column(self, name: str, configured: ColumnType | None, scan: Scan) -> ColumnMaker:
        """Return a column's type, and a function that casts the column to the type.

        It is the configured type, or else one that fits all files. Raises `InputError` if no type fits, or if Parquet
        can't store the type.
        """
        dtype = self._files.column_type(name) if configured is None else configured.type
        try:
            pq.write_table(pa.table({"c": pa.nulls(1, nullable(dtype))}).take(array_of([0], pa.int64())), io.BytesIO())
        except pa.ArrowException:
            raise InputError(
                f"the column {quoted(name)} is {shown_type(dtype)}, which Parquet can't store. {type_hint(name)}"
            ) from None
        return dtype, partial(_cast, configured, dtype)

    def prove(self, columns: CarriedColumns, scan: Scan) -> dict[str, str]:
        """Convert the carried columns once, so that a value that does not fit is found before any row costs money.

        Columns that an earlier start converted (`Scan.proven`) are skipped. Returns `Scan.proven` with all columns.
        Raises `InputError`.
        """
        unproven = [name for name, dtype in columns.types.items() if scan.proven.get(name) != dtype]
        first = 0
        for batch in Cursor(self._files, unproven).read(0, scan.rows) if unproven else ():
            for name in batch.schema.names:
                if name in columns.makers:
                    self._try(columns.makers[name], name, batch.column(name), first)
            first += batch.num_rows
        return {**scan.proven, **columns.types}

    def _try(self, maker: ColumnMaker, name: str, column: pa.Array, first: int) -> None:
        dtype, make = maker
        try:
            make(column)
        except pa.ArrowException:
            number = next((number for number in range(len(column)) if not _fits(make, column.slice(number, 1))), 0)
            value = clean(text_of(values(column.slice(number, 1))[0]), 60)
            raise InputError(
                f"{self._files.place(first + number)}: the column {quoted(name)} holds {value}, which does not fit into"
                f" {shown_type(dtype)}, the type of what {self._files.types_shown(name)}. {type_hint(name)}"
            ) from None


def _fits(make: Make, column: pa.Array) -> bool:
    try:
        make(column)
    except pa.ArrowException:
        return False
    return True


def _cast(configured: ColumnType | None, dtype: pa.DataType, column: pa.Array) -> pa.Array:
    if configured is not None and column.type != dtype:
        return configured.array(values(column))
    return with_valid_utf8(fit(column, dtype))


def columns_read(files: TableInput, prompts: PromptSource) -> list[str]:
    """Return the columns that are needed to build requests."""
    return [name for name in files.names if prompts.reads is None or name in prompts.reads]


def row_dicts(batch: pa.RecordBatch, mode: Mode) -> list[dict[str, Any]]:
    """Return a batch's rows, with `messages` and `body` decoded, unless a template makes the messages."""
    rows = row_values(batch)
    if mode is not Mode.TEMPLATE:
        names = [name for name in ("messages", "body") if name in batch.schema.names]
        for row in rows if names else ():
            row.update((name, decode_cell(row[name])) for name in names)
    return rows


def _needs_each_row(files: TableInput, prompts: PromptSource) -> bool:
    """Return whether each row must be checked, because a row may be bad even if the column types are right."""
    if prompts.names_model or prompts.has_row_params or prompts.checks_values:
        return True
    if prompts.mode is not Mode.PLAIN:
        return not files.everywhere(prompts.required)
    return "messages" in files.names or not files.everywhere(prompts.required | {"prompt"})


def _check_rows(
    files: TableInput, checker: RowChecker, prompts: PromptSource, first: int, batch: pa.RecordBatch
) -> None:
    """Report the bad rows of a batch, which begins with row `first`."""
    for index, row in enumerate(row_dicts(batch, prompts.mode), first):
        problem = checker.problem(row)
        if problem is not None:
            whole = dict.fromkeys(files.names_at(index)) | row  # the message lists all columns
            checker.bad(files.place(index), prompts.problem(whole) or problem, index + 1)


def _check_types(files: TableInput) -> None:
    if "messages" not in files.names and "prompt" not in files.names:
        raise InputError(f"{shown(files.paths[0])}: {no_prompt(files.names)}")
    for name, is_right, should in (("messages", _may_be_messages, _MESSAGES), ("prompt", _may_be_text, "must be text")):
        types = files.types_of(name)
        for path, dtype in types.items():
            if not is_right(dtype):
                hint = "; rename a list of messages to messages" if name == "prompt" and _may_be_messages(dtype) else ""
                raise InputError(
                    f"{shown(path)}: the column {name} has the type {shown_type(dtype)}; it {should}{hint}"
                )
        if name == "messages" and not all(map(pa.types.is_null, types.values())):
            return  # prompt matters only in rows whose messages are null, which `_check_rows` checks


def _may_be_text(dtype: pa.DataType) -> bool:
    return is_text(dtype) or pa.types.is_null(dtype)


def _may_be_messages(dtype: pa.DataType) -> bool:
    is_json = is_extension(dtype) and dtype.extension_name == "arrow.json"
    return is_json or _may_be_text(dtype) or (is_list(dtype) and pa.types.is_struct(dtype.value_type))
