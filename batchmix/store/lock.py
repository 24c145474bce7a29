"""One process at a time: a lock file that a process holds until it exits, with its name in it; never deleted."""

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


def take_lock(path: Path, what: str, *, wait: bool = False) -> int:
    """Lock a file until the returned descriptor is closed; the file and its folder are made if they do not exist.

    Raises `RunLocked` where another process works on `what`, unless `wait` is set; `RunError` where the file can't be
    made, or is not one of ours; `NoSpace` and `DiskError` where the disk is the reason.
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
        except BaseException:  # not ours, or a signal while it waited
            os.close(fd)
            raise
        if _is_still(path, fd):
            _sign(fd)
            return fd
        os.close(fd)  # its folder was taken away between open and lock
    raise RunLocked(f"{what}: another batchmix works on it ({_signature(path)}); wait for it or stop it")


def lock_holder(path: Path) -> str | None:
    """Return the process that holds a lock now, or None."""
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
    """Return whether a lock file was signed by batchmix. Raises `RunError` for any other file."""
    try:
        fd = open_plain(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        return _check_ours(path, fd)
    finally:
        os.close(fd)


def _check_ours(path: Path, fd: int) -> bool:
    """Return whether a lock is signed. Raises `RunError` where its text is not that of a lock of ours."""
    text = os.pread(fd, _MAX_BYTES, 0)
    if _SIGNATURE.match(text) and len(text) < _MAX_BYTES:
        return True
    if text or os.fstat(fd).st_nlink > 1:
        raise RunError(f"{path}: is not a lock file of batchmix; move it away, or choose another folder")
    return False  # killed before it was signed


def _is_still(path: Path, fd: int) -> bool:
    try:
        return path.lstat().st_ino == os.fstat(fd).st_ino
    except FileNotFoundError:
        return False


def _sign(fd: int) -> None:
    since = time.strftime("%Y-%m-%d %H:%M:%S %z")
    text = f"process {os.getpid()} on {socket.gethostname()} since {since}\n".encode()
    with contextlib.suppress(OSError):  # it only informs; cut last, so that the file is never empty again
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
