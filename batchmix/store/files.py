"""What the room does with files in more than one place."""

from __future__ import annotations

import errno
import os
from pathlib import Path

NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""The ways in which a system says that nothing more can be written."""


def allocate(fd: int, start: int, stop: int) -> None:
    """Make a file have room on the disk for its bytes [start, stop). Raises `OSError` where there is none."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(fd, start, stop - start)
        return
    while start < stop:
        start += os.pwrite(fd, bytes(min(stop - start, 1 << 20)), start)


def sync_file(path: Path) -> None:
    """Bring a file to the disk."""
    _sync(path, os.O_RDONLY)


def sync_folder(path: Path) -> None:
    """Bring a folder's names to the disk."""
    _sync(path, os.O_RDONLY | os.O_DIRECTORY)


def replace_file(path: Path, data: bytes) -> None:
    """Put a file in place of another, on the disk before it appears; only its owner can read it."""
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:  # noqa: PTH123 - opened with its mode above
            file.write(data)
        sync_file(temporary)
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _sync(path: Path, flags: int) -> None:
    fd = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
