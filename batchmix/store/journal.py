"""Writing journals: append-only lines of JSON (see `events`), each of which is with the kernel before it counts.

The CRC at the end of a line is zlib's crc32 of all bytes before `,"crc"`.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import threading
import zlib
from collections.abc import Callable
from pathlib import Path

import msgspec

from batchmix.errors import NO_SPACE, disk_error, disk_errors
from batchmix.store.events import Event, JournalHeader
from batchmix.store.filesystem import allocate, open_plain, write_at
from batchmix.store.journal_reader import Line, salvaged

_CHUNK_BYTES = 1 << 19
"""How much of a journal is allocated and mapped at a time: some hundred answers."""
_encoder = msgspec.json.Encoder()


def encode_line(event: msgspec.Struct) -> bytes:
    """Return an event as a line of a journal, or of another file whose lines have a CRC each."""
    line = bytearray()
    encode_into(line, event)
    return bytes(line)


def encode_into(line: bytearray, event: msgspec.Struct) -> None:
    """Replace the content of a buffer by an event's line."""
    _encoder.encode_into(event, line)
    line.pop()
    line += b',"crc":"%08x"}\n' % zlib.crc32(line)


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

    def append(self, event: Event | JournalHeader) -> tuple[int, int]:
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
        whole = [found for found in salvaged(tail[newline + 1 :], start + newline + 1) if isinstance(found, Line)]
        if whole:
            return whole[-1].offset + whole[-1].length
        tail = tail[: newline + 1].rstrip(b"\n\0")
    return 0
