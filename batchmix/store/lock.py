"""One process at a time: a file that is locked for life, and whose text says who holds it. It is never deleted."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import time
from pathlib import Path

from batchmix.errors import RunError, RunLocked


def take_lock(path: Path, what: str, *, wait: bool = False) -> int:
    """Lock a file, which is made with its folder if need be, until the returned descriptor is closed.

    Raises `RunLocked`, which says that another process works on `what`, unless `wait` is set; `RunError` where the
    file can't be made.
    """
    for _ in range(20):
        try:
            path.parent.mkdir(0o700, parents=True, exist_ok=True)
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise RunError(f"{path}: can't be opened: {error.strerror}") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            time.sleep(0.02)  # `lock_holder` takes the lock for a moment to see whether it is free
            continue
        except BaseException:  # a signal while it waited
            os.close(fd)
            raise
        if _is_still(path, fd):
            _sign(fd)
            return fd
        os.close(fd)  # its folder was taken away between open and lock
    raise RunLocked(f"{what}: another batchmix works on it ({_signature(path)}); wait for it or end it")


def lock_holder(path: Path) -> str | None:
    """Return who holds a lock just now, or None."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _signature(path)
    finally:
        os.close(fd)
    return None


def _is_still(path: Path, fd: int) -> bool:
    try:
        return path.stat().st_ino == os.fstat(fd).st_ino
    except FileNotFoundError:
        return False


def _sign(fd: int) -> None:
    since = time.strftime("%Y-%m-%d %H:%M:%S %z")
    with contextlib.suppress(OSError):  # the text only informs
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"process {os.getpid()} on {socket.gethostname()} since {since}\n".encode(), 0)


def _signature(path: Path) -> str:
    try:
        text = path.read_text(errors="replace").strip()
    except OSError:
        return "unknown process"
    return "".join(char for char in text if char.isprintable())[:200] or "unknown process"
