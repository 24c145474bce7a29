"""The state file of a job: what ran when, how it ended, and who keeps the job's schedule just now."""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from batchmix.errors import RunError
from batchmix.schedule.due import VERSION, History
from batchmix.store.filesystem import replace_file
from batchmix.store.lock import take_lock


class Book:
    """A job's history and its file, which is replaced at each change."""

    def __init__(self, path: Path, history: History) -> None:
        self._path = path
        self.history = history

    def save(self) -> None:
        """Bring the history to the disk. Raises `NoSpace`."""
        replace_file(self._path, msgspec.json.format(msgspec.json.encode(self.history), indent=1) + b"\n")


@contextlib.contextmanager
def opened_book(folder: Path, name: str, since: datetime.datetime) -> Iterator[Book]:
    """Hold the state of a job until the block ends; a job that has none begins at `since`.

    Raises `RunLocked`, with the holder's name, where another scheduler keeps the job, and `RunError` where the file
    is not ours.
    """
    path = folder / f"{name}.json"
    lock = take_lock(folder / f"{name}.lock", f"{name} in {folder}")
    try:
        book = Book(path, _read(path) or History(since))
        book.save()
        yield book
    finally:
        os.close(lock)


def _read(path: Path) -> History | None:
    try:
        history = msgspec.json.decode(path.read_bytes(), type=History)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise RunError(f"{path}: can't be read: {error}") from error
    if history.version != VERSION:
        raise RunError(f"{path}: was written by another version of batchmix")
    return history
