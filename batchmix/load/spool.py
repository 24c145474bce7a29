"""Compressed files and stdin, written out once as plain JSONL, so that any shard of them can be entered."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import sys
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from batchmix.errors import InputError, NoSpace
from batchmix.load.files import Source, shown, unreadable

STDIN = "-"
_BLOCK_BYTES = 1 << 20
_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}


class Spool:
    """One spooling: a folder of its own below `root`, which appears when it is whole."""

    def __init__(self, root: Path) -> None:
        self._root = root
        taken = [int(path.name) for path in root.glob("*") if path.name.isdigit()] if root.is_dir() else []
        self.folder = root / f"{max(taken, default=0) + 1:06}"
        self._making = root / f"{self.folder.name}.tmp"

    def add(self, number: int, source: Source, stream: BinaryIO | None) -> tuple[str, str]:
        """Spool one source (from `stream` where it is stdin); return the path it will have, and its digest.

        Raises `InputError` for what can't be read and `NoSpace`.
        """
        self._make_folder()
        name = f"{number:05}.jsonl"
        try:
            with contextlib.ExitStack() as stack:
                reading = _decompressed(stream) if stream else stack.enter_context(_opened(source))
                fd = os.open(self._making / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
                writing = stack.enter_context(open(fd, "wb"))  # noqa: PTH123 - opened with its mode above
                digest = _copied(reading, writing, source)
        except BaseException:
            self.discard()
            raise
        return str(self.folder / name), digest

    def _make_folder(self) -> None:
        if not self._making.exists():
            self._root.mkdir(0o700, parents=True, exist_ok=True)
            shutil.rmtree(self._making, ignore_errors=True)
            self._making.mkdir(0o700)

    def finish(self) -> None:
        """Put the folder in place."""
        self._making.rename(self.folder)

    def discard(self) -> None:
        """Take away all that was spooled here."""
        shutil.rmtree(self._making, ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)


def drop_others(root: Path, keep: set[Path]) -> None:
    """Remove all spools but some."""
    for path in root.iterdir() if root.is_dir() else ():
        if path not in keep:
            shutil.rmtree(path, ignore_errors=True)


class _Blocks:
    """A stream whose first block has been looked at."""

    def __init__(self, first: bytes, rest: BinaryIO) -> None:
        self._first = first
        self._rest = rest

    def read(self, size: int) -> bytes:
        first, self._first = self._first[:size], self._first[size:]
        return first or self._rest.read(size)


def first_block(stream: BinaryIO) -> bytes:
    """Return the start of a stream; empty where it is at its end."""
    return stream.read(_BLOCK_BYTES)


def with_first(first: bytes, stream: BinaryIO) -> Any:
    """Return a stream that begins with a block that was taken from it."""
    return _Blocks(first, stream)


def standard_input() -> BinaryIO | None:
    """Return stdin, or None where it is a terminal or closed."""
    if sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
        return None
    return sys.stdin.buffer


def _opened(source: Source) -> Any:
    try:
        return pa.input_stream(source.path, compression=source.compression)
    except OSError as error:
        raise unreadable(source.path, error) from error


def _decompressed(stream: Any) -> Any:
    """Return a stream of plain bytes; gzip and zstd are known by how they begin."""
    first = stream.read(_BLOCK_BYTES)
    if first[:4] == b"PAR1":
        raise InputError("stdin: Parquet can't be piped in; give the file's path")
    kind = next((kind for magic, kind in _MAGIC.items() if first.startswith(magic)), None)
    blocks = _Blocks(first, stream)
    return blocks if kind is None else pa.CompressedInputStream(pa.PythonFile(_Readable(blocks), mode="r"), kind)


class _Readable:
    """What pyarrow wants of a Python file."""

    closed = False

    def __init__(self, blocks: _Blocks) -> None:
        self._blocks = blocks

    def read(self, size: int = -1) -> bytes:
        return self._blocks.read(size if size > 0 else _BLOCK_BYTES)

    def close(self) -> None:
        self.closed = True


def _copied(reading: Any, writing: BinaryIO, source: Source) -> str:
    digest = hashlib.sha256()
    while True:
        try:
            block = reading.read(_BLOCK_BYTES)
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"{_label(source)}: can't be decompressed: {str(error).splitlines()[0]}") from error
        if not block:
            break
        digest.update(block)
        try:
            writing.write(block)
        except OSError as error:
            raise _no_space(error) from error
    try:
        writing.flush()
        os.fsync(writing.fileno())
    except OSError as error:
        raise _no_space(error) from error
    return digest.hexdigest()


def _label(source: Source) -> str:
    return "stdin" if source.path == STDIN else shown(source.path)


def _no_space(error: OSError) -> Exception:
    if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return NoSpace("no space left to spool the input; make room and start the same command again")
    return error
