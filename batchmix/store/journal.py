"""The journal: append-only JSON lines with a CRC each, with the kernel before anything is counted.

A line is an event with its checksum as the last key, so that `jq` reads it:

    {"e":"sent","row":7,"model":"m","sample":0,"attempt":1,"hash":"…","at":1790000000000,"crc":"89abcdef"}
    {"e":"heard","row":7,…,"status":200,"body":"{\"id\":…}","crc":"…"}
    {"e":"ended","row":8,…,"status":"rejected","type":"bad_row","message":"…","crc":"…"}

The CRC is zlib's crc32 of all bytes before `,"crc"`. A kill leaves at most one torn line at the end; a damaged line
costs only itself.
"""

from __future__ import annotations

import base64
import contextlib
import mmap
import os
import re
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, BinaryIO

import msgspec

from batchmix.errors import NoSpace
from batchmix.records import Exchange, Key
from batchmix.store.files import NO_SPACE, allocate, open_plain

# Inside a JSON string each quote is escaped, so neither pattern can match in one: not even in an answer that quotes us.
_START = re.compile(rb'\{"e":"(?:sent|heard|ended)",')
_TRAILER = re.compile(rb',"crc":"([0-9a-f]{8})"\}')
_CHUNK_BYTES = 1 << 19
"""So much of a journal is allocated and mapped at a time."""
_TRAILER_BYTES = len(b',"crc":"01234567"}')


_Count = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]
_Row = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Time = Annotated[int, msgspec.Meta(ge=0, lt=253_402_300_800_000)]
"""Unix time in ms, before the year 10000. A line whose numbers fit into no column is as good as damaged."""


class _Event(msgspec.Struct, frozen=True, tag_field="e", omit_defaults=True, gc=False):
    row: _Row
    model: str
    sample: _Count
    attempt: _Count
    """Absolute: counts on over all starts; 0 where nothing was ever sent."""
    hash: str

    @property
    def key(self) -> Key:
        return (self.row, self.model, self.sample)


class Sent(_Event, tag="sent", frozen=True, gc=False):
    """The intent: this attempt is about to leave."""

    at: _Time
    prompt: int = 0
    """Its tokens, by an estimate."""
    most: int | None = None
    """The most that its answer may have; None: it does not say."""


class Heard(_Event, tag="heard", frozen=True, gc=False):
    """The end of an attempt, as the wire saw it; the fields are those of `records.Exchange`."""

    at: _Time
    done: _Time
    latency: float
    path: str
    status: _Count | None = None
    type: str = ""
    request_id: str | None = None
    served_model: str | None = None
    fault: str | None = None
    fault_message: str = ""
    maybe_billed: bool = False
    body: str = ""
    base64: bool = False
    """The body was not UTF-8 and stands here in base64."""
    reused_from: str | None = None
    """The run that this answer was taken from; nothing was sent, and `attempt` is 0."""
    inputs: int = 0

    def exchange(self) -> Exchange:
        """Return what was heard as it was given to `heard`."""
        return Exchange(
            sent_at_ms=self.at,
            finished_at_ms=self.done,
            latency_s=self.latency,
            status=self.status,
            body=self._bytes(),
            content_type=self.type,
            request_id=self.request_id,
            served_model=self.served_model,
            fault=self.fault,
            fault_message=self.fault_message,
            maybe_billed=self.maybe_billed,
            inputs=self.inputs,
        )

    def _bytes(self) -> bytes:
        if self.base64:
            with contextlib.suppress(ValueError):  # else it is what stands there
                return base64.b64decode(self.body)
        return self.body.encode()


class Ended(_Event, tag="ended", frozen=True, gc=False):
    """A row ended without an answer."""

    status: str
    """`failed` or `rejected`."""
    type: str
    message: str
    code: str | None = None


Event = Sent | Heard | Ended
_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)


def heard(key: Key, attempt: int, request_hash: str, path: str, exchange: Exchange) -> Heard:
    """Return the event that records an exchange; the body is kept byte for byte."""
    try:
        body, encoded = exchange.body.decode(), False
    except UnicodeDecodeError:
        body, encoded = base64.b64encode(exchange.body).decode(), True
    return Heard(
        key[0],
        key[1],
        key[2],
        attempt,
        request_hash,
        exchange.sent_at_ms,
        exchange.finished_at_ms,
        exchange.latency_s,
        path,
        exchange.status,
        exchange.content_type,
        exchange.request_id,
        exchange.served_model,
        exchange.fault,
        exchange.fault_message,
        exchange.maybe_billed,
        body,
        encoded,
        inputs=exchange.inputs,
    )


def encode_line(event: Event) -> bytes:
    """Return an event as a line of the journal."""
    text = _encoder.encode(event)[:-1]
    return b'%b,"crc":"%08x"}\n' % (text, zlib.crc32(text))


def decode_line(line: bytes) -> Event | None:
    """Return the event on a line (its newline may be missing), or None if the line is damaged."""
    line = line.rstrip(b"\n")
    text, trailer = line[:-_TRAILER_BYTES], line[-_TRAILER_BYTES:]
    if trailer != b',"crc":"%08x"}' % zlib.crc32(text):
        return None
    try:
        return _decoder.decode(line)
    except msgspec.DecodeError:  # a whole line of another version
        return None


class Line(msgspec.Struct, frozen=True, gc=False):
    """An event and where it stands in its file."""

    offset: int
    length: int
    event: Event


class Damage(msgspec.Struct, frozen=True, gc=False):
    """Bytes in the middle of a journal that are no event."""

    offset: int
    length: int


def read_lines(file: BinaryIO) -> Iterator[Line | Damage]:
    """Yield all that a journal holds, in order; a torn tail, which every kill may leave, is passed over in silence."""
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
            yield Damage(offset + end, start.start() - end)
        end = trailer.end()
        yield Line(offset + start.start(), end - start.start(), event)
    if len(line.rstrip(b"\n\0")) > end:
        yield Damage(offset + end, len(line) - end)


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
    the file is JSON lines at any moment.

    Opening cuts off what follows the last whole line. `on_no_space` is called when the disk is full, and frees the
    reserve if there still is one: it returns whether another try makes sense.
    """

    def __init__(self, path: Path, on_no_space: Callable[[], bool]) -> None:
        self.path = path
        self._on_no_space = on_no_space
        self._fd = open_plain(path, os.O_RDWR | os.O_CREAT)
        self._lock = threading.Lock()
        self._dirty = False
        whole = _whole_bytes(self._fd)
        os.ftruncate(self._fd, whole)
        self._end = whole + 1 if whole else 0  # behind the newline that the first mapping puts there
        self._base, self._size = 0, whole
        self._map: mmap.mmap | None = None

    def append(self, event: Event) -> tuple[int, int]:
        """Record an event; return offset and length of its line. Raises `NoSpace`."""
        line = encode_line(event)
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
        """Map a stretch of the file that holds the byte before `end`. Raises `NoSpace`."""
        base = self._size - self._size % mmap.ALLOCATIONGRANULARITY
        base = min(base, self._end - self._end % mmap.ALLOCATIONGRANULARITY)
        size = max(end, base + _CHUNK_BYTES)
        while True:
            try:
                allocate(self._fd, self._size, size)
                break
            except OSError as error:
                os.ftruncate(self._fd, self._size)
                if error.errno not in NO_SPACE:
                    raise
                if not self._on_no_space():
                    raise NoSpace(
                        f"no space left for {self.path}; make room and start the same command again"
                    ) from error
        if self._map is not None:
            self._map.close()
        self._map = mmap.mmap(self._fd, size - base, offset=base)
        self._map[self._size - base :] = b"\n" * (size - self._size)
        self._base, self._size = base, size

    def sync(self) -> None:
        """Bring what was appended to the disk, if anything was."""
        with self._lock:
            if self._dirty and self._fd >= 0:
                self._dirty = False
                os.fdatasync(self._fd)

    def close(self) -> None:
        """Cut what was allocated ahead, sync and close."""
        if self._map is not None:
            self._map.close()
            self._map = None
            os.ftruncate(self._fd, self._end)
        self.sync()
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
