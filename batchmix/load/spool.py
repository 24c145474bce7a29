"""Copies stdin, compressed files and converted files (such as CSV) into the run folder, to be read by shard."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from batchmix.errors import InputError, NoSpace
from batchmix.formats.display import clean
from batchmix.load.decompress import Readable, block, opened, plain
from batchmix.load.files import HEAD_BYTES, Source, shown
from batchmix.load.foreign_files import wrong_content
from batchmix.load.sources import format_of

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FOLDER = re.compile(r"[0-9]{6,}(\.tmp)?")
_FILE = re.compile(r"[0-9]{5,}\.(jsonl|parquet)")


class Spool:
    """A new folder of spooled files below `root`. It has a temporary name until `finish`."""

    def __init__(self, root: Path, *, sends_rows: bool) -> None:
        self._root = root
        self._sends_rows = sends_rows
        taken = [int(path.stem) for path in root.iterdir() if _FOLDER.fullmatch(path.name)] if root.is_dir() else []
        self.folder = root / f"{max(taken, default=0) + 1:06}"
        self._temporary = self.folder.with_suffix(".tmp")

    def add(self, number: int, source: Source, stream: Readable | None) -> tuple[str, str]:
        """Spool one source, read from `stream` if it is stdin. Return the future path of the copy, and its SHA-256.

        Raises `InputError` and `NoSpace`. In both cases the caller must call `discard`.
        """
        format_ = format_of(source)
        name = f"{number:05}{'.jsonl' if format_.to_json_lines else format_.suffixes[0]}"
        with contextlib.ExitStack() as stack:
            reading = plain(stream, source) if stream is not None else stack.enter_context(opened(source))
            first = block(reading, source)
            if problem := wrong_content(source, first[:HEAD_BYTES], sends_rows=self._sends_rows):
                raise InputError(f"{source.label}: {problem}")
            with _writing(self._root):
                if not self._temporary.exists():
                    self._root.mkdir(0o700, parents=True, exist_ok=True)
                    self._temporary.mkdir(0o700)
                fd = os.open(self._temporary / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            stack.callback(os.close, fd)
            blocks = _blocks(first, reading, source)
            convert = format_.to_json_lines
            digest = self._copied(convert(blocks, source) if convert is not None else blocks, fd)
        return str(self.folder / name), digest

    def _copied(self, blocks: Iterator[bytes], fd: int) -> str:
        digest = hashlib.sha256()
        for some in blocks:
            digest.update(some)
            with _writing(self._root):
                _write_all(fd, some)
        with _writing(self._root):
            os.fsync(fd)
        return digest.hexdigest()

    def finish(self) -> None:
        """Sync the folder, and rename it to its final name. Raises `NoSpace` and `InputError`."""
        with _writing(self._root):
            _sync(self._temporary)
            self._temporary.rename(self.folder)
            _sync(self._root)

    def discard(self) -> None:
        """Remove the folder, whether finished or not."""
        remove_spool(self._temporary)
        remove_spool(self.folder)


def is_spool(path: Path) -> bool:
    """Return whether a path is a folder with spooled files and nothing else."""
    with contextlib.suppress(OSError):
        return (
            _FOLDER.fullmatch(path.name) is not None
            and stat.S_ISDIR(path.lstat().st_mode)
            and all(_FILE.fullmatch(file.name) and stat.S_ISREG(file.lstat().st_mode) for file in path.iterdir())
        )
    return False


def remove_spool(path: Path) -> None:
    """Remove a folder of spooled files if possible. A path that is anything else is not touched."""
    with contextlib.suppress(OSError):
        if is_spool(path):
            for file in path.iterdir():
                file.unlink()
            path.rmdir()


def drop_others(root: Path, keep: set[Path]) -> None:
    """Remove all folders of spooled files below `root` except `keep`."""
    for path in root.iterdir() if root.is_dir() else ():
        if path not in keep:
            remove_spool(path)


def relocated(path: str, root: Path) -> str:
    """Return a spooled file's path below `root` if it exists there, since its run folder may have been moved."""
    moved = root.joinpath(*Path(path).parts[-2:])
    return str(moved) if moved.exists() else path


def _blocks(first: bytes, reading: Readable, source: Source) -> Iterator[bytes]:
    some = first
    while some:
        yield some
        some = block(reading, source)


def _write_all(fd: int, block: bytes) -> None:
    view = memoryview(block)
    while view:
        view = view[os.write(fd, view) :]


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextlib.contextmanager
def _writing(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise NoSpace(
                f"no space left to spool the input in {shown(str(root))}; make room and give the same command again"
            ) from error
        reason = clean(error.strerror or str(error))
        raise InputError(f"{shown(str(root))}: the input can't be spooled there: {reason}") from error
