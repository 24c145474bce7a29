"""The interface of a file format's reader, which scans all rows once and later yields the rows of any shard."""

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
from batchmix.records import Failure

Line = tuple[int, int] | None
"""The number of the file (from 0), and the number of the line in the file (from 1). None if the format has no lines."""
Row = tuple[int, dict[str, Any] | str | Failure, Line]
"""A row's index in the input, its values, and its line. In place of the values, a text says why they can't be decoded,
and a `Failure` why the row needs no request."""


class ScannedRows(msgspec.Struct, frozen=True):
    """The result of a reader's one pass over all rows."""

    rows: int
    shards: tuple[ShardRange, ...]
    columns: dict[str, int]
    """The columns, with the JSON types of their values (see `Scan.columns`)."""
    proven: dict[str, str] = {}
    """Columns that were read, and whose values fit these types in any case (see `Scan.proven`)."""


class RowReader(Protocol):
    """Reads the rows of an input in one format.

    Several threads may read at once: each iterator is used by one thread, and iterators don't affect each other.
    """

    columns: list[str] | None
    """All columns. None if only a scan can find them."""
    is_a_run: bool
    """Whether the files themselves say that they are another run's output."""

    def first_row(self) -> Mapping[str, Any]:
        """Return the first row that can be decoded. Its values may be None, since only its columns matter.

        Raises `InputError`.
        """

    def scan(self, prompts: PromptSource, checker: RowChecker, options: ScanOptions) -> ScannedRows:
        """Read all rows once, and report bad rows to `checker`. Raises `InputError`."""

    def rows(self, shard: ShardRange, prompts: PromptSource, model: str) -> Iterator[list[Row]]:
        """Yield a shard's rows in small batches, for requests to `model`. Raises `InputChanged` and `InputError`."""

    def carried(self, shard: ShardRange, columns: CarriedColumns, scan: Scan) -> Iterator[pa.RecordBatch]:
        """Yield a shard's carried columns in small batches. Raises `InputChanged` if its digest differs."""

    def is_unchanged(self, shard: ShardRange, scan: Scan) -> bool:
        """Return whether a shard still has the bytes that were scanned. Raises `InputError`."""

    def has_same_bytes(self, scan: Scan) -> bool:
        """Read all bytes, and return whether they are the same as in an earlier scan. Raises `InputError`."""

    def place(self, row: int, line: Line) -> str:
        """Return where the user finds a row, such as `rows.jsonl:12`."""

    def column(self, name: str, configured: ColumnType | None, scan: Scan) -> ColumnMaker:
        """Return the type of a carried column, and the function that converts values to the column.

        `configured` is the type that the job gives, if it gives one. Raises `InputError`.
        """

    def prove(self, columns: CarriedColumns, scan: Scan) -> dict[str, str]:
        """Convert all carried values once, unless the scan did, and return the new `Scan.proven`.

        Raises `InputError` if a value does not fit its column's type.
        """


def changed(shard: ShardRange) -> InputChanged:
    """Return the error for a shard whose bytes have changed since the scan."""
    return InputChanged(
        f"the input changed during the run (rows {shard.first} to {shard.stop - 1}); the answers so far are"
        " kept; give the same command again"
    )
