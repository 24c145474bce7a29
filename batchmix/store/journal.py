"""Writes journals, which are append-only files of JSON lines (see `events`).

A line counts only once the operating system has it, so that it survives a kill of the process.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import mmap
import os
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec

from batchmix.errors import NO_SPACE, disk_error, disk_errors
from batchmix.records import Exchange, Request
from batchmix.store.events import Event, JournalHeader, ResponseReceived
from batchmix.store.filesystem import allocate, open_plain, write_at
from batchmix.store.journal_reader import Line, salvaged
from batchmix.store.line_checksum import add_checksum

_CHUNK_BYTES = 1 << 19
"""The number of bytes of a journal that are allocated and mapped at a time, enough for some hundred answers."""
_BLANK = memoryview(b"\n" * _CHUNK_BYTES)
_LONG_BYTES = 1 << 15
"""The length of a line from which a system call takes less time than new pages of the mapping."""
_MEAN_OF = 16
"""About how many of the last lines count for the mean length of a line."""
_encoder = msgspec.json.Encoder()
_writing: dict[Path, Journal] = {}
"""The journals that are open for writing in this process."""


def encode_line(event: msgspec.Struct) -> bytes:
    """Return an event as a line of JSON with its checksum, for a journal or a similar file."""
    line = bytearray()
    encode_into(line, event)
    return bytes(line)


def encode_into(line: bytearray, event: msgspec.Struct) -> None:
    """Replace the content of a buffer with an event's line."""
    _encoder.encode_into(event, line)
    add_checksum(line)


class Journal:
    """A journal that one thread appends to. Another thread may call `sync`.

    Lines are copied into a shared memory mapping of the file. Once appended, they survive a crash of the process, as
    after `write`, but need no system call. (Two calls of `write` used to take a quarter of the time of a complete
    request.) Space is allocated before it is mapped, so that a full disk raises an error instead of a signal. Unused
    space is filled with newlines, so that the file is valid JSON lines at any moment. The newlines are written by a
    system call, because touching each new page through the mapping takes four times as long. Long lines are written by
    a system call too, and so are the short ones between them.

    Opening truncates the file after the last complete line. `on_no_space` is called when the disk is full. It frees the
    disk space that was reserved, if any is left, and returns whether it is worth trying again.
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
        self._end = whole + 1 if whole else 0  # after the newline that `_grow` writes there first
        self._base, self._size = 0, whole
        self._map: mmap.mmap | None = None
        self._line = bytearray()
        self._mean_bytes = 0.0  # of a line, lately

        _writing[path] = self

    @property
    def is_new(self) -> bool:
        """Whether the journal is empty."""
        return self._end == 0

    def append(self, event: Event | JournalHeader) -> tuple[int, int]:
        """Append an event, and return the offset and length of its line. Raises `NoSpace`."""
        line = self._line
        encode_into(line, event)
        offset, length = self._end, len(line)
        end = offset + length
        self._mean_bytes += (length - self._mean_bytes) / _MEAN_OF
        is_long = length >= _LONG_BYTES or (end > self._size and self._mean_bytes >= _LONG_BYTES)
        if is_long and self._map is not None:  # the first line is never written so: a newline may go before it
            self._retried(lambda: write_at(self._fd, line, offset))
            self._size = max(self._size, end)
        else:
            if end > self._size:
                self._grow(end)
            assert self._map is not None
            self._map[offset - self._base : end - self._base] = line
        self._end = end
        self._dirty = True
        return offset, length - 1

    def _retried(self, write: Callable[[], None]) -> None:
        """Write to the file, again if space can be freed. Raises `NoSpace` and `DiskError`, and leaves no trace."""
        while True:
            try:
                write()
                return
            except OSError as error:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._fd, self._size)
                    write_at(self._fd, _BLANK[: max(0, self._size - self._end)], self._end)
                if error.errno not in NO_SPACE or not self._on_no_space():
                    raise disk_error(error, self.path) from error

    def _grow(self, end: int) -> None:
        """Map the next chunk of the file, at least up to `end`. Raises `NoSpace` and `DiskError`."""
        base = self._size - self._size % mmap.ALLOCATIONGRANULARITY
        base = min(base, self._end - self._end % mmap.ALLOCATIONGRANULARITY)
        size = max(end, base + _CHUNK_BYTES)

        def write() -> None:
            allocate(self._fd, self._size, size)
            for start in range(self._size, size, _CHUNK_BYTES):
                write_at(self._fd, _BLANK[: size - start], start)

        self._retried(write)
        if self._map is not None:
            self._map.close()
        with disk_errors(self.path):
            self._map = mmap.mmap(self._fd, size - base, offset=base)
        self._base, self._size = base, size

    def sync(self) -> None:
        """Flush appended lines to the disk. Raises `NoSpace` and `DiskError`."""
        with self._lock, disk_errors(self.path):
            if self._dirty and self._fd >= 0:
                self._dirty = False
                self._keep_whole()
                os.fdatasync(self._fd)

    def _keep_whole(self) -> None:
        """If another program has truncated the file, allocate its space again and raise `OSError`.

        An append before that kills the process (SIGBUS), since the mapping has no file behind it.
        """
        expected = self._size  # read first, since the other thread may add a chunk to the file meanwhile
        if self._map is not None and (size := os.fstat(self._fd).st_size) < expected:
            allocate(self._fd, size, expected)
            raise OSError(errno.ESTALE, "another program has cut it off")

    def close(self) -> None:
        """Cut off the unused space, sync and close the file, even after an error. Raises `NoSpace` and `DiskError`."""
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
            if _writing.get(self.path) is self:
                del _writing[self.path]


def whole_bytes_of(path: Path, fd: int) -> int:
    """Return the size of a journal up to its last complete line, also while this process writes to it."""
    journal = _writing.get(path)
    return _whole_bytes(fd) if journal is None else journal._end


def _whole_bytes(fd: int) -> int:
    """Return the size of a journal up to its last complete event. The rest is unused space or an incomplete line."""
    start = os.fstat(fd).st_size
    tail = b""
    while start > 0 or tail:
        if start > 0 and b"\n" not in tail:
            step = min(start, 1 << 16)
            start -= step
            tail = (os.pread(fd, step, start) + tail).rstrip(b"\n\0")
            continue
        newline = tail.rfind(b"\n")
        whole = [entry for entry in salvaged(tail[newline + 1 :], start + newline + 1) if isinstance(entry, Line)]
        if whole:
            return whole[-1].offset + whole[-1].length
        tail = tail[: newline + 1].rstrip(b"\n\0")
    return 0


def response_received(request: Request, attempt: int, exchange: Exchange, reused_from: str | None) -> ResponseReceived:
    """Return the event that records an exchange. The event keeps the body byte for byte."""
    try:
        body, is_base64 = exchange.body.decode(), False
    except UnicodeDecodeError:
        body, is_base64 = base64.b64encode(exchange.body).decode(), True
    return ResponseReceived(
        request.row,
        request.model,
        request.sample,
        attempt,
        request.hash,
        exchange.sent_at_ms,
        exchange.finished_at_ms,
        exchange.latency_s,
        request.path,
        exchange.status,
        exchange.content_type,
        exchange.request_id,
        exchange.served_model,
        exchange.fault,
        exchange.fault_message,
        exchange.maybe_billed,
        body,
        is_base64,
        reused_from,
        exchange.inputs,
    )
