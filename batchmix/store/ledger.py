"""The ledger: what was last known of each shard's answers, whatever becomes of `run.json`, of parts and of journals.

Append-only lines as in a journal; for each shard the last ones count:

    {"e":"left","shard":0,"crc":"…"}                                      its first journal was made
    {"e":"left","shard":0,"answers":17,"whole_bytes":9200,"crc":"…"}      a start ended and left it open
    {"e":"sealed","shard":0,"answers":20,"digest":"…","seal":{…},"crc":"…"}
    {"e":"dropped","shard":7,"crc":"…"}                                   the input no longer has it

A shard is `sealed` here before its part is put in place, so that there is never a part with fewer answers than this
says, but for the time in which its journals are there too.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

import msgspec

from batchmix.errors import RunError, disk_errors
from batchmix.store.events import decode_with, encode_line, was_whole
from batchmix.store.filesystem import open_plain, set_mode
from batchmix.store.schema import PartFooter, Seal


class _Line(msgspec.Struct, frozen=True, tag_field="e", tag=str.lower, omit_defaults=True):
    shard: int


class Left(_Line, frozen=True):
    """A shard has journals, or its part is not whole and that was agreed to."""

    answers: int | None = None
    """In its part and journals together; None: nobody counted."""
    whole_bytes: int = 0
    """Of its journals."""
    holes: int = 0
    """How often they were found damaged."""
    torn: bool = False
    """Its part can't be read, or not all of it."""


class Sealed(_Line, frozen=True):
    """A shard's part was made."""

    answers: int
    digest: str
    """As in the part's footer."""
    seal: Seal


class Dropped(_Line, frozen=True):
    """A shard's answers were let go."""


Entry = Left | Sealed | Dropped
_decoder: msgspec.json.Decoder[Entry] = msgspec.json.Decoder(Entry)


class Known(msgspec.Struct):
    """What was last known of a shard."""

    answers: int = 0
    """At least so many were there."""
    counted: bool = True
    """There were not more, unless they came since."""
    sealed: Sealed | None = None
    """Its part."""
    open: bool = False
    """Since then it was left open."""
    whole_bytes: int = 0
    holes: int = 0
    torn: bool = False

    @property
    def has_part(self) -> bool:
        """Whether its part was made, and is to be there."""
        return self.sealed is not None and not self.torn

    @property
    def exact(self) -> bool:
        """Whether `answers` is how many there were, and no more."""
        return self.counted and (self.open or self.sealed is not None)

    def leave(self, left: Left) -> None:
        """Take note of how it was left."""
        self.open, self.counted = True, left.answers is not None
        if left.answers is not None:
            self.answers, self.whole_bytes, self.holes, self.torn = (
                left.answers,
                left.whole_bytes,
                left.holes,
                left.torn,
            )


def sealed(footer: PartFooter, seal: Seal) -> Sealed:
    """Return the line for a part."""
    return Sealed(footer.shard, footer.totals.ok, footer.digest, seal)


class Ledger:
    """One run's ledger; any thread may append. `mode` gives the permissions of a new one, where the job says so."""

    def __init__(self, path: Path, mode: int | None) -> None:
        self.path = path
        self._mode = mode
        self._lock = threading.Lock()

    def known(self) -> dict[int, Known]:
        """Return what was last known of each shard. Damaged lines are passed over: what they said is not known.

        Raises `RunError`.
        """
        found: dict[int, Known] = {}
        for line in self._read().splitlines():
            entry = decode_with(_decoder, line)
            if isinstance(entry, Sealed):
                found[entry.shard] = Known(entry.answers, sealed=entry)
            elif isinstance(entry, Left):
                found.setdefault(entry.shard, Known()).leave(entry)
            elif entry is not None:
                found.pop(entry.shard, None)
        return found

    def damaged(self) -> int:
        """Return how many lines are damaged. Raises `RunError`."""
        lines = self._read().splitlines()
        return sum(was_whole(line) and decode_with(_decoder, line) is None for line in lines)

    def sealed(self) -> set[int]:
        """Return the shards that have parts."""
        return {index for index, known in self.known().items() if known.has_part}

    def _read(self) -> bytes:
        try:
            with open(open_plain(self.path, os.O_RDONLY), "rb") as file:  # noqa: PTH123 - no link is followed
                return file.read()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise RunError(f"{self.path}: can't be read: {error.strerror}") from error

    def append(self, *entries: Entry, sync: bool = True) -> None:
        """Add lines, and bring them to the disk at once or with the next. Raises `NoSpace` and `DiskError`."""
        if not entries:
            return
        lines = b"".join(map(encode_line, entries))
        with self._lock, disk_errors(self.path):
            fd = open_plain(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
            try:
                if not os.fstat(fd).st_size:
                    set_mode(self.path, self._mode)
                _append(fd, lines)
                if sync:
                    os.fdatasync(fd)
            finally:
                os.close(fd)


def _append(fd: int, lines: bytes) -> None:
    size = os.fstat(fd).st_size
    if size and os.pread(fd, 1, size - 1) != b"\n":  # torn by a kill
        lines = b"\n" + lines
    try:
        while lines:
            lines = lines[os.write(fd, lines) :]
    except OSError:
        os.ftruncate(fd, size)
        raise
