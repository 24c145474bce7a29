"""The journal: append-only lines with a CRC each (see `events`), with the kernel before anything is counted.

A kill leaves at most one torn line at the end; a damaged line costs only itself. The first line says whose the file is;
what stands behind another's is not taken for ours.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from batchmix.errors import NO_SPACE, disk_error, disk_errors
from batchmix.store.events import Begun, Event, decode_line, encode_into, was_whole
from batchmix.store.filesystem import allocate, open_plain, write_at

# Inside a JSON string each quote is escaped, so neither pattern can match in one: not even in an answer that quotes us.
_START = re.compile(rb'\{"e":"(?:begun|sent|heard|ended)",')
_TRAILER = re.compile(rb',"crc":"([0-9a-f]{8})"\}')
_NO_ANSWERS = (b'{"e":"begun",', b'{"e":"sent",', b'{"e":"ended",')
_CHUNK_BYTES = 1 << 19
"""So much of a journal is allocated and mapped at a time."""


class Line(msgspec.Struct, frozen=True, gc=False):
    """An event and where it stands in its file."""

    offset: int
    length: int
    event: Event | Begun


class Damage(msgspec.Struct, frozen=True, gc=False):
    """Bytes in the middle of a journal that are no event, or another's."""

    offset: int
    length: int
    answer: bool = True
    """It may have held what a provider answered."""
    whole: bool = False
    """It has both ends of a line."""
    other: bool = False
    """It is another shard's or lane's: a journal that was copied over this one."""

    def words(self, name: str) -> str:
        """Return what a person is told of it."""
        what = "another shard's" if self.other else "damaged"
        return f"{name}: {self.length} bytes at {self.offset} are {what} and were skipped"


def read_lines(file: BinaryIO) -> Iterator[Line | Damage]:
    """Yield all that a journal holds, in order; a torn tail, which every kill may leave, is passed over in silence.

    A last line that was whole once is damage.
    """
    offset = 0
    damage: list[Damage] = []  # told only when something whole follows
    for line in file:
        event = decode_line(line) if line != b"\n" else None
        if event is not None:
            yield from damage
            damage = []
            yield Line(offset, len(line.rstrip(b"\n")), event)
        elif line != b"\n":
            for found in _salvaged(line, offset):
                if isinstance(found, Damage):
                    damage.append(found)
                else:
                    yield from damage
                    damage = []
                    yield found
        offset += len(line)
    yield from (found for found in damage if found.whole)


def _salvaged(line: bytes, offset: int) -> Iterator[Line | Damage]:
    """Find whole events in bytes that are damaged, as where the newline between two lines was hit."""
    end = 0
    for start in _START.finditer(line):
        trailer = _TRAILER.search(line, start.end())
        if start.start() < end or trailer is None:
            continue
        event = decode_line(line[start.start() : trailer.end()])
        if event is None:
            continue
        if start.start() > end:
            yield _damage(line[end : start.start()], offset + end)
        end = trailer.end()
        yield Line(offset + start.start(), end - start.start(), event)
    if len(line.rstrip(b"\n\0")) > end:
        yield _damage(line[end:], offset + end)


def _damage(found: bytes, offset: int) -> Damage:
    # A power loss leaves zeros where a page never came to the disk.
    answer = b"\0" not in found and not found.startswith(_NO_ANSWERS)
    return Damage(offset, len(found), answer=answer, whole=was_whole(found))


def read_own_lines(file: BinaryIO, shard: int, lane: int) -> Iterator[Line | Damage]:
    """Yield the events of a shard and lane that a journal holds; what another's first line begins is damage."""
    other: int | None = None
    for found in read_lines(file):
        if isinstance(found, Line) and isinstance(found.event, Begun):
            mine = (found.event.shard, found.event.lane) == (shard, lane)
            if other is not None and mine:
                yield Damage(other, found.offset - other, other=True)
            other = None if mine else found.offset if other is None else other
        elif other is None:
            yield found
    if other is not None:
        yield Damage(other, file.tell() - other, other=True)


def has_event(path: Path) -> bool:
    """Return whether a file is a journal of ours with anything in it. Raises `RunError` for a link."""
    try:
        with open_journal(path) as file:
            return any(isinstance(found, Line) for found in read_lines(file))
    except FileNotFoundError:
        return False


def is_foreign(path: Path) -> bool:
    """Return whether a file holds things, and neither an event nor the beginning of one. Raises `RunError`."""
    begin = b'{"e":"'
    try:
        with open_journal(path) as file:
            head = next((line for line in file if line.strip(b"\0\n")), b"").strip(b"\0\n")[: len(begin)]
    except FileNotFoundError:
        return False
    return not begin.startswith(head) and not has_event(path)


def open_journal(path: Path) -> BinaryIO:
    """Open a journal for reading. Raises `RunError` where it is a link or no plain file."""
    return open(open_plain(path, os.O_RDONLY), "rb")  # noqa: PTH123 - no link is followed


class Journal:
    """One file that is being appended to, by one thread; `sync` may be called from another.

    Lines are copied into a shared mapping of the file: what is there survives the process as if it had been written,
    and costs no system call (two `write`s a request took a quarter of the time that a whole request takes). Space is
    allocated ahead of the mapping, so that a full disk is an error and not a signal, and filled with newlines, so that
    the file is JSON lines at any moment; these are written, since to touch each new page through the mapping takes four
    times as long.

    Opening cuts off what follows the last whole line. `on_no_space` is called when the disk is full, and frees the
    reserve if there still is one: it returns whether another try makes sense.
    """

    def __init__(self, path: Path, on_no_space: Callable[[], bool]) -> None:
        self.path = path
        self._on_no_space = on_no_space
        self._lock = threading.Lock()
        self._dirty = False
        with disk_errors(path):
            self._fd = open_plain(path, os.O_RDWR | os.O_CREAT)
            whole = _whole_bytes(self._fd)
            os.ftruncate(self._fd, whole)
        self._end = whole + 1 if whole else 0  # behind the newline that the first mapping puts there
        self._base, self._size = 0, whole
        self._map: mmap.mmap | None = None
        self._line = bytearray()

    @property
    def is_new(self) -> bool:
        """Whether it holds nothing."""
        return self._end == 0

    def append(self, event: Event | Begun) -> tuple[int, int]:
        """Record an event; return offset and length of its line. Raises `NoSpace`."""
        line = self._line
        encode_into(line, event)
        offset = self._end
        end = offset + len(line)
        if end > self._size:
            self._grow(end)
        assert self._map is not None
        self._map[offset - self._base : end - self._base] = line
        self._end = end
        self._dirty = True
        return offset, len(line) - 1

    def _grow(self, end: int) -> None:
        """Map a stretch of the file that holds the byte before `end`. Raises `NoSpace` and `DiskError`."""
        base = self._size - self._size % mmap.ALLOCATIONGRANULARITY
        base = min(base, self._end - self._end % mmap.ALLOCATIONGRANULARITY)
        size = max(end, base + _CHUNK_BYTES)
        while True:
            try:
                allocate(self._fd, self._size, size)
                write_at(self._fd, b"\n" * (size - self._size), self._size)
                break
            except OSError as error:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._fd, self._size)
                if error.errno not in NO_SPACE or not self._on_no_space():
                    raise disk_error(error, self.path) from error
        if self._map is not None:
            self._map.close()
        with disk_errors(self.path):
            self._map = mmap.mmap(self._fd, size - base, offset=base)
        self._base, self._size = base, size

    def sync(self) -> None:
        """Bring what was appended to the disk, if anything was. Raises `NoSpace` and `DiskError`."""
        with self._lock, disk_errors(self.path):
            if self._dirty and self._fd >= 0:
                self._dirty = False
                self._keep_whole()
                os.fdatasync(self._fd)

    def _keep_whole(self) -> None:
        """Raise `OSError` where another program has cut the file off, and make room again for what is yet to come.

        A line that is appended before this was seen meets no file under the mapping, and ends the process (SIGBUS).
        """
        if self._map is not None and (size := os.fstat(self._fd).st_size) < self._size:
            allocate(self._fd, size, self._size)
            raise OSError(errno.ESTALE, "another program has cut it off")

    def close(self) -> None:
        """Cut what was allocated ahead, sync and close, whatever goes wrong. Raises `NoSpace` and `DiskError`."""
        try:
            with self._lock, disk_errors(self.path):
                if self._map is not None:
                    self._map.close()
                    self._map = None
                    os.ftruncate(self._fd, self._end)
            self.sync()
        finally:
            with self._lock:
                if self._fd >= 0:
                    os.close(self._fd)
                self._fd = -1


def _whole_bytes(fd: int) -> int:
    """Return where the last whole event of a file ends; what follows is a torn line, or space that was not used."""
    start = os.fstat(fd).st_size
    tail = b""
    while start > 0 or tail:
        if start > 0 and b"\n" not in tail:
            step = min(start, 1 << 16)
            start -= step
            tail = (os.pread(fd, step, start) + tail).rstrip(b"\n\0")
            continue
        newline = tail.rfind(b"\n")
        whole = [found for found in _salvaged(tail[newline + 1 :], start + newline + 1) if isinstance(found, Line)]
        if whole:
            return whole[-1].offset + whole[-1].length
        tail = tail[: newline + 1].rstrip(b"\n\0")
    return 0
