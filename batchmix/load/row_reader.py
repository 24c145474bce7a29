"""What a file format has to offer: a reader that scans rows once, and yields any shard of them later."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import msgspec
import pyarrow as pa

from batchmix.errors import InputChanged
from batchmix.load.carried_columns import CarriedColumns, ColumnMaker
from batchmix.load.column_types import ColumnType
from batchmix.load.prompts import PromptSource
from batchmix.load.scan import RowChecker, Scan, ScanOptions, ShardRange

Line = tuple[int, int] | None
"""Number of the file, and of the line in it; None where a format has no lines."""
Row = tuple[int, dict[str, Any] | str, Line]
"""A row's index, its values or what is wrong with it, and its line."""


class ScannedRows(msgspec.Struct, frozen=True):
    """What a reader finds in one pass over all rows."""

    rows: int
    shards: tuple[ShardRange, ...]
    columns: dict[str, int]
    """As `Scan.columns`."""


class RowReader(Protocol):
    """Reads the rows of an input in one format. Each pass is read by one thread; passes don't disturb each other."""

    columns: list[str] | None
    """All columns; None where only a scan finds them."""
    is_a_run: bool
    """Whether the input is known to be another run's output."""

    def first_row(self) -> Mapping[str, Any]:
        """Return the first row that can be read, or at least its columns. Raises `InputError`."""

    def scan(self, prompts: PromptSource, checker: RowChecker, options: ScanOptions) -> ScannedRows:
        """Read all rows once; `checker` is given what is wrong with them. Raises `InputError`."""

    def rows(self, shard: ShardRange, prompts: PromptSource, model: str) -> Iterator[list[Row]]:
        """Yield a shard's rows for one model in small batches. Raises `InputChanged` and `InputError`."""

    def carried(self, shard: ShardRange, columns: CarriedColumns, scan: Scan) -> Iterator[pa.RecordBatch]:
        """Yield a shard's carried columns in small batches, and check its digest. Raises `InputChanged`."""

    def is_unchanged(self, shard: ShardRange, scan: Scan) -> bool:
        """Return whether the bytes of a shard are still those that were scanned. Raises `InputError`."""

    def has_same_bytes(self, scan: Scan) -> bool:
        """Return whether all bytes are still those of an earlier scan, by reading them all. Raises `InputError`."""

    def place(self, row: int, line: Line) -> str:
        """Return where a person finds a row, such as `rows.jsonl:12`."""

    def column(self, name: str, configured: ColumnType | None, scan: Scan) -> ColumnMaker:
        """Return the type of a carried column, and what makes it. Raises `InputError`."""

    def prove(self, columns: CarriedColumns, scan: Scan) -> dict[str, str]:
        """Convert the carried columns that no scan converted; return `Scan.proven`. Raises `InputError`."""


def changed(shard: ShardRange) -> InputChanged:
    """Return the error for a shard whose bytes are no longer those that were scanned."""
    return InputChanged(
        f"the input changed during the run (rows {shard.first} to {shard.stop - 1}); the answers so far are"
        " kept; give the same command again"
    )
