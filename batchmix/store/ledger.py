"""The ledger of a run: how many answers each shard had, in case parts, journals or `run.json` are lost.

Like a journal, it is a file to which lines are only appended. The last lines of each shard count:

    {"e":"left","shard":0,"xxh3":"…"}                                     the shard's first journal was created
    {"e":"left","shard":0,"answers":17,"whole_bytes":9200,"xxh3":"…"}     a start ended and left the shard open
    {"e":"sealed","shard":0,"answers":20,"digest":"…","seal":{…},"xxh3":"…"}
    {"e":"dropped","shard":7,"xxh3":"…"}                                  the input no longer has the shard

The line `sealed` is written before the shard's part is put in place. So no part ever has fewer answers than the ledger
says, except while the shard's journals still exist.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

import msgspec

from batchmix.errors import RunError, disk_errors
from batchmix.store.filesystem import open_plain, set_mode
from batchmix.store.journal import encode_line
from batchmix.store.journal_reader import decode_with, was_whole
from batchmix.store.schema import PartFooter, Seal


class ShardLeftOpen(msgspec.Struct, frozen=True, tag_field="e", tag="left", omit_defaults=True):
    """A line of the ledger: a shard has journals, or its part is incomplete and the user accepted that."""

    shard: int
    answers: int | None = None
    """The number of answers in the shard's part and journals together. None if they were not counted."""
    whole_bytes: int = 0
    """The size of the shard's journals, each counted up to its last complete line."""
    damaged: int = msgspec.field(default=0, name="holes")
    """The number of damaged places in the shard's journals."""
    part_damaged: bool = msgspec.field(default=False, name="torn")
    """Whether the shard's part can't be read completely."""


class ShardSealed(msgspec.Struct, frozen=True, tag_field="e", tag="sealed", omit_defaults=True):
    """A line of the ledger: a shard's part was written, with this number of answers."""

    shard: int
    answers: int
    digest: str
    """The digest in the part's footer."""
    seal: Seal

    @classmethod
    def of(cls, footer: PartFooter, seal: Seal) -> ShardSealed:
        """Return the ledger line for a part."""
        return cls(footer.shard, footer.totals.ok, footer.digest, seal)


class ShardDropped(msgspec.Struct, frozen=True, tag_field="e", tag="dropped", omit_defaults=True):
    """A line of the ledger: a shard's answers were deleted, since the input no longer has its rows."""

    shard: int


LedgerLine = ShardLeftOpen | ShardSealed | ShardDropped
_decoder: msgspec.json.Decoder[LedgerLine] = msgspec.json.Decoder(LedgerLine)


class LastState(msgspec.Struct):
    """The state of a shard according to its last ledger lines."""

    answers: int = 0
    """The minimum number of answers that the shard had."""
    counted: bool = True
    """Whether `answers` was the exact number when the last line was written."""
    sealed: ShardSealed | None = None
    """The ledger line for the shard's part. None if it has no part."""
    open: bool = False
    """Whether the last line says that the shard was left open."""
    whole_bytes: int = 0
    damaged: int = 0
    part_damaged: bool = False

    @property
    def has_part(self) -> bool:
        """Whether the shard must have an undamaged part."""
        return self.sealed is not None and not self.part_damaged

    @property
    def exact(self) -> bool:
        """Whether `answers` is the exact number, not a minimum."""
        return self.counted and (self.open or self.sealed is not None)

    def apply(self, line: ShardLeftOpen) -> None:
        """Update the state from a ledger line which says that the shard was left open."""
        self.open, self.counted = True, line.answers is not None
        if line.answers is not None:
            self.answers, self.whole_bytes = line.answers, line.whole_bytes
            self.damaged, self.part_damaged = line.damaged, line.part_damaged


class Ledger:
    """The ledger file of one run. Any thread may append to it. A new file gets the permissions `mode`."""

    def __init__(self, path: Path, mode: int | None) -> None:
        self.path = path
        self._mode = mode
        self._lock = threading.Lock()

    def read(self) -> dict[int, LastState]:
        """Return the last state of each shard. Damaged lines are skipped. Raises `RunError`."""
        states: dict[int, LastState] = {}
        for data in self._bytes().splitlines():
            line = decode_with(_decoder, data)
            if isinstance(line, ShardSealed):
                states[line.shard] = LastState(line.answers, sealed=line)
            elif isinstance(line, ShardLeftOpen):
                states.setdefault(line.shard, LastState()).apply(line)
            elif line is not None:
                states.pop(line.shard, None)
        return states

    def damaged_lines(self) -> int:
        """Return the number of damaged lines. Raises `RunError`."""
        return sum(was_whole(line) and decode_with(_decoder, line) is None for line in self._bytes().splitlines())

    def sealed_shards(self) -> set[int]:
        """Return the shards that have parts."""
        return {index for index, state in self.read().items() if state.has_part}

    def _bytes(self) -> bytes:
        try:
            with open(open_plain(self.path, os.O_RDONLY), "rb") as file:  # noqa: PTH123 - no link is followed
                return file.read()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise RunError(f"{self.path}: can't be read: {error.strerror}") from error

    def append(self, *lines: LedgerLine, sync: bool = True) -> None:
        """Append lines. If `sync`, they are on the disk when the method returns. Raises `NoSpace` and `DiskError`."""
        if not lines:
            return
        data = b"".join(map(encode_line, lines))
        with self._lock, disk_errors(self.path):
            fd = open_plain(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
            try:
                if not os.fstat(fd).st_size:
                    set_mode(self.path, self._mode)
                _append(fd, data)
                if sync:
                    os.fdatasync(fd)
            finally:
                os.close(fd)


def _append(fd: int, data: bytes) -> None:
    size = os.fstat(fd).st_size
    if size and os.pread(fd, 1, size - 1) != b"\n":  # a kill cut off the last line
        data = b"\n" + data
    try:
        while data:
            data = data[os.write(fd, data) :]
    except OSError:
        os.ftruncate(fd, size)
        raise
