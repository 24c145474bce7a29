"""Locks folders by means of lock files, so that only one process at a time works on a folder.

A process holds the lock until it exits. The file contains the name of the process, and is never deleted.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import socket
import time
from pathlib import Path

from batchmix.errors import TEMPORARY_ERRORS, RunError, RunLocked, disk_error
from batchmix.store.filesystem import open_plain

_SIGNATURE = re.compile(rb"process [0-9]+ on [^\n]* since [^\n]*\n")
_MAX_BYTES = 1_000
"""The size in bytes that every lock file of batchmix is smaller than."""


def take_lock(path: Path, what: str, *, wait: bool = False) -> int:
    """Lock a file until `release_lock`, or until the process ends. Missing files and folders are created.

    If another process works on `what`, the function raises `RunLocked`, or waits if `wait` is set. It raises `RunError`
    if the file can't be created or is not a lock file of batchmix, and `NoSpace` or `DiskError` if the disk is the
    reason.
    """
    for _ in range(20):
        try:
            path.parent.mkdir(0o700, parents=True, exist_ok=True)
            fd = open_plain(path, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            if error.errno in TEMPORARY_ERRORS:
                raise disk_error(error, path) from error
            raise RunError(f"{path}: can't be opened: {error.strerror}") from error
        try:
            _check_ours(path, fd)
            fcntl.flock(fd, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            time.sleep(0.02)  # `lock_holder` takes the lock for a moment to find out whether it is free
            continue
        except BaseException:  # another kind of file, or a signal during the wait
            os.close(fd)
            raise
        if _is_still(path, fd):
            _sign(fd)
            return fd
        os.close(fd)  # the file was removed between open and lock
    raise RunLocked(f"{what}: another batchmix works on it ({_signature(path)}); wait for it or stop it")


def release_lock(fd: int) -> None:
    """Release a lock and close its descriptor.

    Unlocked explicitly, because a process that was forked meanwhile has a copy of the descriptor, which holds the lock.
    """
    fcntl.flock(fd, fcntl.LOCK_UN)
    os.close(fd)


def lock_holder(path: Path) -> str | None:
    """Return the name of the process that holds a lock now. None if no process does."""
    try:
        fd = open_plain(path, os.O_RDONLY)
    except (OSError, RunError):
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _signature(path)
    finally:
        os.close(fd)
    return None


def is_signed(path: Path) -> bool:
    """Return whether a lock file contains the name of a process. Raises `RunError` for any other kind of file."""
    try:
        fd = open_plain(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        return _check_ours(path, fd)
    finally:
        os.close(fd)


def _check_ours(path: Path, fd: int) -> bool:
    """Return whether a lock file contains the name of a process. Raises `RunError` for any other content."""
    text = os.pread(fd, _MAX_BYTES, 0)
    if _SIGNATURE.match(text) and len(text) < _MAX_BYTES:
        return True
    if text or os.fstat(fd).st_nlink > 1:
        raise RunError(f"{path}: is not a lock file of batchmix; move it away, or choose another folder")
    return False  # the process was killed before it wrote its name


def _is_still(path: Path, fd: int) -> bool:
    try:
        return path.lstat().st_ino == os.fstat(fd).st_ino
    except FileNotFoundError:
        return False


def _sign(fd: int) -> None:
    since = time.strftime("%Y-%m-%d %H:%M:%S %z")
    text = f"process {os.getpid()} on {socket.gethostname()} since {since}\n".encode()
    with contextlib.suppress(OSError):  # only for the user. It is truncated last, so the file is never empty again.
        os.pwrite(fd, text, 0)
        os.ftruncate(fd, len(text))


def _signature(path: Path) -> str:
    try:
        fd = open_plain(path, os.O_RDONLY)
    except (OSError, RunError):
        return "unknown process"
    try:
        text = os.pread(fd, _MAX_BYTES, 0).decode(errors="replace").strip()
    finally:
        os.close(fd)
    return "".join(char for char in text if char.isprintable())[:200] or "unknown process"
