"""Finds the first row with each request in a run, and reads that row's answer, so that no request is sent twice."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa

from batchmix.formats.pyarrow_setup import compute
from batchmix.records import Exchange, Key, Status
from batchmix.store.parts import open_part
from batchmix.store.reuse import EXCHANGE_COLUMNS, exchange_of

_EMPTY = -1
_HALF = 64
_ALL = 1 << 2 * _HALF


class FirstRows:
    """Maps each request hash and sample of one model to the first row that has both.

    This is a hash table with open addressing, of 40 to 75 bytes per entry. It keeps complete request hashes, with the
    sample added, so that different requests are never confused.
    """

    def __init__(self) -> None:
        self._count = 0
        self._clear(1024)

    def _clear(self, slots: int) -> None:
        self._mask = slots - 1
        self._high, self._low = array("Q", bytes(8 * slots)), array("Q", bytes(8 * slots))
        self._rows = array("q", [_EMPTY]) * slots

    def first(self, hash_: str, row: int, sample: int = 0) -> int:
        """Return the first row with a request hash. If there is none yet, `row` becomes the first."""
        number = _number(hash_, sample)
        slot = self._slot(number)
        if self._rows[slot] == _EMPTY:
            self._put(slot, number, row)
            return row
        first: int = self._rows[slot]
        return first

    def put(self, hash_: str, row: int, sample: int = 0) -> None:
        """Record `row` as the first row with a request hash, in place of any other row."""
        number = _number(hash_, sample)
        self._put(self._slot(number), number, row)

    def add_part(self, path: Path, model: str) -> None:
        """Add the rows of a part that have answers of a model."""
        with open_part(path) as file:
            for batch in file.iter_batches(8192, columns=["row", "model", "sample", "status", "request_hash"]):
                pc = compute()
                is_answer = pc.and_(pc.equal(batch["model"], model), pc.equal(batch["status"], Status.OK))
                answers = batch.filter(is_answer)
                columns = (answers[name].to_pylist() for name in ("request_hash", "row", "sample"))
                for hash_, row, sample in zip(*columns, strict=True):
                    self.put(hash_, row, sample)

    def _slot(self, hash_number: int) -> int:
        """Return the index of the slot that holds a hash, or of the free slot where the hash belongs."""
        high, low = hash_number >> _HALF, hash_number & (2**_HALF - 1)
        slot: int = low & self._mask
        while self._rows[slot] != _EMPTY and (self._low[slot] != low or self._high[slot] != high):
            slot = (slot + 1) & self._mask
        return slot

    def _put(self, slot: int, number: int, row: int) -> None:
        self._count += self._rows[slot] == _EMPTY
        self._high[slot], self._low[slot], self._rows[slot] = number >> _HALF, number & (2**_HALF - 1), row
        if 3 * self._count > 2 * len(self._rows):
            self._grow()

    def _grow(self) -> None:
        old = self._high, self._low, self._rows
        self._clear(2 * len(self._rows))
        for high, low, row in zip(*old, strict=True):
            if row != _EMPTY:
                slot: int = low & self._mask
                while self._rows[slot] != _EMPTY:
                    slot = (slot + 1) & self._mask
                self._high[slot], self._low[slot], self._rows[slot] = high, low, row


def _number(hash_: str, sample: int) -> int:
    return (int(hash_, 16) + sample) % _ALL


def first_rows_in(parts: Iterable[Path], model: str) -> FirstRows:
    """Return the rows that have answers of a model in some parts."""
    first_rows = FirstRows()
    for path in parts:
        first_rows.add_part(path, model)
    return first_rows


class PartAnswers:
    """Reads answers in sealed parts. The last row group stays in memory, which makes reading in row order fast."""

    def __init__(self) -> None:
        self._part = (Path(), 0)  # path and inode, because a part may be replaced meanwhile
        self._group: pa.Table = pa.table({})
        self._at: dict[Key, int] = {}

    def answer(self, path: Path, key: Key, hash_: str) -> tuple[Exchange, bool] | None:
        """Return a part's answer to a request, as the provider sent it, and whether it is kept without being valid.

        None if the part has none.
        """
        try:
            part = path, path.stat().st_ino
            if self._part != part or key not in self._at:
                self._read(part, key)
        except FileNotFoundError:
            return None
        at = self._at.get(key)
        if at is None:
            return None
        row = {name: self._group[name][at].as_py() for name in ("error_type", *EXCHANGE_COLUMNS)}
        if row["request_hash"] != hash_ or row["raw"] is None:
            return None
        return exchange_of(row), row["error_type"] is not None

    def _read(self, part: tuple[Path, int], key: Key) -> None:
        """Load the answers of the row group that contains a key."""
        with open_part(part[0]) as file:
            for group in _groups(file.metadata, key[0]):
                table = file.read_row_group(group, columns=["row", "model", "status", "error_type", *EXCHANGE_COLUMNS])
                self._group, self._part = (
                    table.filter(compute().equal(table["status"], Status.OK)).combine_chunks(),
                    part,
                )
                names = (self._group[name].to_pylist() for name in ("row", "model", "sample"))
                self._at = {one: at for at, one in enumerate(zip(*names, strict=True))}
                if key in self._at:
                    return


def _groups(metadata: Any, row: int) -> Iterable[int]:
    """Yield the row groups that may hold an input row."""
    columns = range(metadata.num_columns)
    column = next(i for i in columns if metadata.schema.column(i).path == "row")
    for group in range(metadata.num_row_groups):
        statistics = metadata.row_group(group).column(column).statistics
        if statistics is None or statistics.min <= row <= statistics.max:
            yield group
