"""Which files an input is, and what tells whether they have changed."""

from __future__ import annotations

import glob
import hashlib
import os
import time
from pathlib import Path

import msgspec

from batchmix.errors import InputError

JSONL = "jsonl"
PARQUET = "parquet"
_FORMATS = {".jsonl": JSONL, ".ndjson": JSONL, ".parquet": PARQUET, ".pq": PARQUET}
_COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
_KNOWN = ".jsonl or .ndjson (also with .gz or .zst), .parquet"
_RACY_NS = 2_000_000_000
"""A file that was changed so shortly before it was read may have been changed again within the clock's grain."""


class Source(msgspec.Struct, frozen=True):
    """One file of the input, as it was given."""

    path: str
    format: str
    compression: str | None = None

    @property
    def label(self) -> str:
        """How messages call it."""
        return shown(self.path)


class Stamp(msgspec.Struct, frozen=True):
    """What a file's status says; equal stamps mean equal contents if `settled`."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    settled: bool
    """The last change was long enough before the file was read."""


def shown(path: str) -> str:
    """Return a path as a person would write it here."""
    relative = os.path.relpath(path)
    text = relative if len(relative) < len(path) else path
    return text.encode("utf-8", "replace").decode()


def find_sources(path: str) -> tuple[Source, ...]:
    """Return the files that a path, a folder or a glob means, in name order. Raises `InputError`."""
    if os.path.isdir(path):  # noqa: PTH112 - a path may hold a glob, which Path would take apart
        found = sorted(entry.path for entry in os.scandir(path) if entry.is_file() and _format(entry.path)[0])
        if not found:
            data = Path(path, "data")
            hint = f"; did you mean {shown(str(data))}?" if any(data.glob("*.parquet")) else ""
            raise InputError(f"{shown(path)}: the folder holds no {_KNOWN} files{hint}")
    elif os.path.exists(path):  # noqa: PTH110
        found = [path]
    elif glob.has_magic(path):
        found = sorted(glob.glob(path))
        if not found:
            raise InputError(f"{shown(path)}: no file matches")
    else:
        raise InputError(f"{shown(path)}: no such file")
    return tuple(_source(name) for name in found)


def _format(path: str) -> tuple[str | None, str | None]:
    stem, suffix = os.path.splitext(path.lower())  # noqa: PTH122
    compression = _COMPRESSIONS.get(suffix)
    found = _FORMATS.get(os.path.splitext(stem)[1] if compression else suffix)  # noqa: PTH122
    return (None if compression and found == PARQUET else found), compression


def _source(path: str) -> Source:
    kind, compression = _format(path)
    if kind is None:
        raise InputError(f"{shown(path)}: is of no known format; batchmix reads {_KNOWN}")
    if os.path.isdir(path):  # noqa: PTH112
        raise InputError(f"{shown(path)}: is a folder; a glob must match files")
    return Source(path, kind, compression)


def one_format(sources: tuple[Source, ...]) -> str:
    """Return the format of all sources. Raises `InputError` where they differ."""
    first = sources[0]
    for source in sources:
        if source.format != first.format:
            raise InputError(f"{first.label} and {source.label}: JSONL and Parquet can't be one input")
    return first.format


def stamp(path: str) -> Stamp:
    """Return a file's stamp. Raises `InputError`."""
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError as error:
        raise unreadable(path, error) from error
    settled = time.time_ns() - max(status.st_ctime_ns, status.st_mtime_ns) > _RACY_NS
    return Stamp(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, settled)


def file_digest(path: str) -> str:
    """Return the digest of a whole file. Raises `InputError`."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: str, error: OSError) -> InputError:
    """Return the error for a file that can't be read."""
    return InputError(f"{shown(path)}: can't be read: {error.strerror or error}")
