"""Reads the decompressed bytes of files.

The first bytes show whether a file is compressed. All members of a compressed file are read.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import zlib
from collections.abc import Iterator
from typing import BinaryIO, Protocol

import pyarrow as pa

from batchmix.errors import InputError
from batchmix.formats.display import clean
from batchmix.job import MEMORY
from batchmix.load.files import STDIN, Source, open_file, unreadable
from batchmix.load.sources import GZIP, MAGIC, compression_of, is_pipe
from batchmix.remote.files import FileError

BLOCK_BYTES = 1 << 20
"""The number of plain bytes that are read at once."""
_PACKED_BYTES = 1 << 16
"""The number of compressed bytes that are read at once. Decompressed, they are at most about 1,000 times as many."""
_logger = logging.getLogger(__name__)


class Readable(Protocol):
    """A source of bytes."""

    def read(self, size: int, /) -> bytes:
        """Return some of the next bytes, more or fewer than `size`. Empty at the end."""


class _Blocks:
    """A stream whose first block has been read already. Reading returns that block again, and then the rest."""

    closed = False

    def __init__(self, first: bytes, rest: Readable) -> None:
        self._first = first
        self._rest = rest

    def read(self, size: int = BLOCK_BYTES) -> bytes:
        wanted = size if size > 0 else BLOCK_BYTES
        first, self._first = self._first[:wanted], self._first[wanted:]
        return first or self._rest.read(wanted)

    def close(self) -> None:
        self.closed = True


class _Gunzipped:
    """The plain bytes of all members of a gzip stream, as the program gzip outputs them.

    Zeros after a member are padding. Any other bytes after a member that are not gzip are left out with a warning.
    """

    def __init__(self, stream: Readable, label: str) -> None:
        self._stream = stream
        self._label = label
        self._member = zlib.decompressobj(wbits=31)

    def read(self, size: int, /) -> bytes:
        while True:
            if self._member.eof:
                packed = self._next_member()
                if not packed:
                    return b""
            else:
                packed = self._stream.read(_PACKED_BYTES)
                if not packed:
                    raise EOFError("the file is cut off")
            if plain := self._member.decompress(packed):
                return plain

    def _next_member(self) -> bytes:
        """Begin the next member, and return its first bytes. Empty if there is no other member."""
        packed = self._member.unused_data.lstrip(b"\x00")
        while len(packed) < len(MAGIC[GZIP]) and (more := self._stream.read(_PACKED_BYTES)):
            packed = (packed + more).lstrip(b"\x00")
        if packed.startswith(MAGIC[GZIP]):
            self._member = zlib.decompressobj(wbits=31)
            return packed
        if packed:
            _logger.warning("%s: the bytes after the end of its gzip data are not gzip, and are left out", self._label)
        return b""


@contextlib.contextmanager
def piped(stdin: BinaryIO | None, path: str) -> Iterator[Readable | None]:
    """Yield the stream to read if `path` is `-`, a pipe, or rows in memory. None if it is empty, closed or a terminal.

    None also for any other path. `stdin` replaces the process's standard input, or has the rows in memory.
    """
    with contextlib.ExitStack() as stack:
        stream: BinaryIO | None = stdin
        if path.startswith(MEMORY):
            pass
        elif path != STDIN:
            stream = stack.enter_context(_open(path)) if is_pipe(path) else None
        elif stdin is None and sys.stdin is not None and not sys.stdin.closed and not sys.stdin.isatty():
            stream = sys.stdin.buffer
        first = stream.read(BLOCK_BYTES) if stream is not None else b""
        yield _Blocks(first, stream) if stream is not None and first else None


def _open(path: str) -> BinaryIO:
    try:
        return open_file(path)
    except OSError as error:
        raise unreadable(path, error) from error


@contextlib.contextmanager
def opened(source: Source) -> Iterator[Readable]:
    """Yield a file's plain bytes. Raises `InputError`."""
    with _open(source.path) as file:
        yield plain(file, source)


def plain(stream: Readable, source: Source) -> Readable:
    """Return a stream of the decompressed bytes, for `block` to read. `stream` must be at its beginning."""
    first = block(stream, source)
    compression = compression_of(first, source.compression)
    blocks = _Blocks(first, stream)
    if compression == GZIP:
        return _Gunzipped(blocks, source.label)
    if compression is None:
        return blocks
    unpacked: Readable = pa.CompressedInputStream(pa.PythonFile(blocks, mode="r"), compression)
    return unpacked


def block(reading: Readable, source: Source) -> bytes:
    """Return the next plain bytes of a source. Empty at the end. Raises `InputError`."""
    try:
        return reading.read(BLOCK_BYTES)
    except (IsADirectoryError, FileError) as error:
        raise unreadable(source.path, error) from error
    except (OSError, pa.ArrowException, zlib.error, EOFError) as error:
        reason = clean(str(error).splitlines()[0] if str(error) else type(error).__name__)
        raise InputError(f"{source.label}: can't be decompressed; the file is cut off or damaged: {reason}") from error
