"""Reads the status and the first bytes of input files, and shows their names. I/O errors become `InputError`."""

from __future__ import annotations

import hashlib
import io
import os
import time

import msgspec

from batchmix.errors import InputError
from batchmix.formats.display import clean
from batchmix.job import MEMORY, QUERY
from batchmix.remote.files import FileError, info_of, is_url, open_url

STDIN = "-"
"""The path that stands for stdin."""
HEAD_BYTES = 1 << 16
"""The number of bytes at the beginning of a file that are read to recognise its format."""
_RACY_NS = 2_000_000_000
"""2 seconds, the resolution of the coarsest time stamps (FAT). A file that changed less than this before it was read
may change again without getting another time stamp.
"""


class Source(msgspec.Struct, frozen=True):
    """One file of the input, as the job names it."""

    path: str
    format: str
    """The name of an `InputFormat`."""
    compression: str | None = None

    @property
    def is_stream(self) -> bool:
        """Whether the rows come through stdin, from memory or from a query, and are read only once."""
        return self.path == STDIN or self.path.startswith((MEMORY, QUERY))

    @property
    def label(self) -> str:
        """The path as messages show it."""
        return stream_label(self.path) if self.is_stream else shown(self.path)

    @property
    def name(self) -> str:
        """The file's name without its folder, so that it does not depend on the working directory."""
        return stream_label(self.path) if self.is_stream else clean(os.path.basename(self.path), 200)  # noqa: PTH119


class Stamp(msgspec.Struct, frozen=True):
    """The status of a file. If it equals an earlier stamp that is `settled`, the file still has the same contents."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    settled: bool
    """Whether the file was read so long after its last change that a later change gets another time stamp."""
    etag: str | None = None
    """The version of an object in object storage, in place of times and inode. None for a file on a disk."""

    def proves(self, now: Stamp) -> bool:
        """Return whether a file with the stamp `now` still has the contents that were read under this stamp."""
        return msgspec.structs.replace(now, settled=True) == self


def stream_label(path: str) -> str:
    """Return how messages name the rows of a stream."""
    if path.startswith(QUERY):
        return "input.query"
    return "stdin" if path == STDIN else "data"


def stamp(path: str) -> Stamp:
    """Return a file's stamp. Raises `InputError`."""
    try:
        if is_url(path):
            info = info_of(path)
            return Stamp(info.size, 0, 0, 0, settled=info.etag is not None, etag=info.etag)
        status = os.stat(path)  # noqa: PTH116
    except OSError as error:
        raise unreadable(path, error) from error
    settled = time.time_ns() - max(status.st_ctime_ns, status.st_mtime_ns) > _RACY_NS
    return Stamp(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, settled)


def has_size(path: str, size: int) -> bool:
    """Return whether a file exists and has this size."""
    try:
        return (info_of(path).size if is_url(path) else os.stat(path).st_size) == size  # noqa: PTH116
    except OSError:
        return False


def open_file(
    path: str, *, buffering: int = io.DEFAULT_BUFFER_SIZE, stop: int | None = None
) -> io.BufferedReader | io.FileIO:
    """Open a file on a disk or in object storage, which will not be read beyond the byte `stop` if that is given.

    Raises `OSError`.
    """
    if is_url(path):
        return open_url(path, stop)
    return io.FileIO(path) if buffering == 0 else io.BufferedReader(io.FileIO(path), buffering)


def head_of(path: str, size: int = HEAD_BYTES) -> bytes:
    """Return the first bytes of a file. Raises `InputError`."""
    try:
        with open_file(path, stop=size) as file:
            return file.read(size)
    except OSError as error:
        raise unreadable(path, error) from error


def file_digest(path: str) -> str:
    """Return the SHA-256 of a whole file. Raises `InputError`."""
    try:
        with open_file(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise unreadable(path, error) from error


def shown(path: str) -> str:
    """Return a path as messages show it: relative to the working directory if that is shorter. A URL stays whole."""
    if is_url(path):
        return clean(path, 1000)
    relative = os.path.relpath(path)
    return clean(relative if len(relative) < len(path) else path, 1000)


def unreadable(path: str, error: OSError) -> InputError:
    """Return the error for a file that can't be read."""
    if isinstance(error, FileError):
        return InputError(clean(str(error), 1000))
    reasons = {
        PermissionError: "permission denied; make it readable, or give another file",
        FileNotFoundError: "the file is gone",
    }
    reason = reasons.get(type(error)) or clean(error.strerror or str(error))
    return InputError(f"{shown(path)}: can't be read: {reason}")
