"""Opens, replaces and syncs files of a run folder, and reserves disk space.

Files are never opened through a link. A new file is written under a unique temporary name and renamed when it is
complete.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from batchmix.errors import NO_SPACE, NoSpace, RunError, disk_error, disk_errors

PRIVATE = 0o600
TEMPORARY = r"\.{}\.[0-9a-f]{{16}}\.tmp"
"""A regular expression for the temporary names of a file. The `{}` stands for the file's final name."""


def allocate(fd: int, start: int, stop: int) -> None:
    """Allocate a file's bytes [start, stop) on the disk. Raises `OSError` if there is no space."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(fd, start, stop - start)
        return
    for place in range(start, stop, 1 << 20):
        write_at(fd, bytes(min(stop - place, 1 << 20)), place)


def write_at(fd: int, data: bytes | bytearray | memoryview, start: int) -> None:
    """Write all of `data` at an offset of a file. Raises `OSError`, which keeps no view of the data."""
    written = 0
    while written < len(data):
        with memoryview(data)[written:] as rest:
            written += os.pwrite(fd, rest, start + written)


def open_plain(path: Path, flags: int, mode: int = PRIVATE) -> int:
    """Open a regular file and return its descriptor. If there is a pipe at the path, the function does not wait.

    Raises `RunError` if the path is a link or not a regular file, and `OSError` for other errors.
    """
    try:
        fd = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, mode)
    except OSError as error:
        if not is_regular_or_missing(path):
            raise not_plain(path) from error
        raise
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise not_plain(path)
    return fd


def names_in(folder: Path) -> list[str]:
    """Return the sorted names in a folder. A missing folder has none. Raises `DiskError` if it can't be read."""
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208 - only names are needed
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise disk_error(error, folder) from error


def is_regular_or_missing(path: Path) -> bool:
    """Return whether a path is a regular file (not a link), or does not exist."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return True


def not_plain(path: Path) -> RunError:
    """Return the error for a link or folder that is in the place of a file of batchmix."""
    what = f"a link to {path.readlink()}" if path.is_symlink() else "no plain file"
    return RunError(f"{path}: is {what}; batchmix takes only files that it wrote there itself: move it away")


@contextlib.contextmanager
def atomic_replacement(path: Path, mode: int | None = PRIVATE, *, made_in: Path | None = None) -> Iterator[Path]:
    """Yield the path of a new, empty file. When the block succeeds, the file is synced and replaces `path`.

    If `mode` is None, the permissions follow the umask. The file is created beside `path`, or in `made_in`, a folder on
    the same disk. Raises `RunError` if `path` is a link or not a regular file, and `OSError` for other errors.
    """
    if not is_regular_or_missing(path):
        raise not_plain(path)
    temporary = (made_in or path.parent) / f".{path.name}.{secrets.token_hex(8)}.tmp"
    os.close(open_plain(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666 if mode is None else PRIVATE))
    try:
        set_mode(temporary, mode)
        yield temporary
        sync_file(temporary)
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):  # the first error counts
            temporary.unlink()
        raise
    sync_folder(path.parent)


def replace_file(path: Path, data: bytes, mode: int = PRIVATE) -> None:
    """Replace the content of a file atomically and durably. Raises `NoSpace` and `DiskError`."""
    with disk_errors(path), atomic_replacement(path, mode) as temporary:
        temporary.write_bytes(data)


def set_mode(path: Path, mode: int | None) -> None:
    """Set the permissions of a file or a folder. On a folder, permission to read includes permission to enter.

    Nothing changes if `mode` is None, or if the file system does not allow it.
    """
    if mode is None:
        return
    now = path.stat().st_mode
    wanted = mode | (mode & 0o444) >> 2 | now & 0o7000 if stat.S_ISDIR(now) else mode
    if stat.S_IMODE(now) != wanted:
        with contextlib.suppress(PermissionError):
            path.chmod(wanted)


def is_ours(path: Path, has_our_content: Callable[[Path], bool]) -> bool:
    """Return whether a path may be replaced: nothing is there, or a regular file that `has_our_content` accepts."""
    if not path.exists() and not path.is_symlink():
        return True
    try:
        return is_regular_or_missing(path) and has_our_content(path)
    except (OSError, ValueError):
        return False


def sync_file(path: Path) -> None:
    """Flush a file to the disk."""
    _sync(path, os.O_RDONLY)


def sync_folder(path: Path) -> None:
    """Flush the names in a folder to the disk."""
    _sync(path, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    fd = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class Reserve:
    """Reserves disk space, so that answers to requests in flight can be stored when the disk is full.

    The space is taken by a file without a name, which the system frees even if the process is killed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: IO[bytes] | None = None

    def hold(self, size: int) -> None:
        """Reserve `size` bytes of disk space. Raises `NoSpace` if there is not enough."""
        try:
            self._file = tempfile.TemporaryFile(dir=self._folder, prefix=".reserve-")  # noqa: SIM115 - open until `release`
            allocate(self._file.fileno(), 0, size)
        except OSError as error:
            self.release()
            if error.errno in NO_SPACE:
                message = f"no space left: {self._folder} needs {size >> 20} MB free to keep what is in flight safe"
                raise NoSpace(f"{message}; make room and start the same command again") from error
            raise disk_error(error, self._folder) from error

    def release(self) -> bool:
        """Free the reserved space. Return whether any was reserved."""
        file, self._file = self._file, None
        if file is not None:
            file.close()
        return file is not None
