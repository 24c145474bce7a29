"""The scheduled runs of a job, in its state file, and which of them is due. Only `open_state` touches the disk.

A scheduled run that was begun is finished before another begins. Of the runs that were missed, only the latest is made
up. A scheduled run is over when its process ended by itself, or died three times without being stopped. One that was
stopped before it had a run folder, as by a full disk, is tried again until it has one, or the next is due.
"""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from batchmix.errors import RunError
from batchmix.job.cron import Schedule
from batchmix.store.filesystem import replace_file
from batchmix.store.lock import take_lock

VERSION = 1
_FINAL = frozenset({0, 1, 2, 3})
"""Exit codes of a run that ended by itself; a signal gives a negative one or one above 127."""
STOPPED = 3
"""The exit code of a run that was stopped early."""
_MAX_DEATHS = 3
_MAX_RUNS = 1_000
"""Scheduled runs in a state file: the latest."""


class ScheduledRun(msgspec.Struct):
    """One scheduled run of a job, as its state file has it."""

    date: datetime.date = msgspec.field(name="night")
    """The scheduled date."""
    due: datetime.datetime
    folder: str
    """The run folder; empty where the job file could not be read."""
    started_at: datetime.datetime
    starts: int = 0
    deaths: int = 0
    """How often a signal ended the run while the scheduler was not being stopped."""
    exit_code: int | None = None
    """Of the last start that ended; for a signal, 128 and its number."""
    ended_at: datetime.datetime | None = None
    """None until it is over."""
    on_finish: str | None = None
    """The result of the `on_finish` command: `ok`, an error, or empty where there is no command; None until then."""

    def record_exit(self, code: int, now: datetime.datetime, *, stopping: bool, again: bool = False) -> None:
        """Record the exit of a start, with its return code as `subprocess` gives it.

        `stopping`: the scheduler is being stopped. `again`: there is no run folder yet, and it can be tried again.
        """
        self.exit_code = code if code >= 0 else 128 - code
        if self.exit_code == STOPPED and again:
            return
        if self.exit_code not in _FINAL and not stopping:
            self.deaths += 1
        if self.exit_code in _FINAL or self.deaths >= _MAX_DEATHS:
            self.ended_at = now


class RunHistory(msgspec.Struct):
    """The scheduled runs of a job in order; the last one may still be open."""

    since: datetime.datetime
    """Runs that were due up to here are not made up."""
    runs: list[ScheduledRun] = msgspec.field(default_factory=list, name="nights")
    version: int = VERSION

    @property
    def open(self) -> ScheduledRun | None:
        """The scheduled run that was begun and is not over."""
        return self.runs[-1] if self.runs and self.runs[-1].ended_at is None else None

    def due(self, schedule: Schedule, now: datetime.datetime) -> datetime.datetime | None:
        """Return the due time of the run to start now, or None."""
        if self.open:
            return self.open.due
        latest = schedule.latest(now)
        return latest if latest and _utc(latest) > self._through else None

    def following(self, schedule: Schedule, now: datetime.datetime) -> datetime.datetime | None:
        """Return when the next run will be due."""
        return schedule.following(max(_utc(now), self._through))

    def begin(self, due: datetime.datetime, folder: str, now: datetime.datetime) -> ScheduledRun:
        """Begin a scheduled run, or return the open one, and count a start of it."""
        run = self.open
        if run is None:
            run = ScheduledRun(due.date(), due, folder, now)
            self.runs = [*self.runs[1 - _MAX_RUNS :], run]
        run.starts += 1
        return run

    @property
    def _through(self) -> datetime.datetime:
        return max(_utc(self.since), _utc(self.runs[-1].due)) if self.runs else _utc(self.since)


def _utc(moment: datetime.datetime) -> datetime.datetime:
    return moment.astimezone(datetime.UTC)


class StateFile:
    """A job's history and its file, which is replaced at each change."""

    def __init__(self, path: Path, history: RunHistory) -> None:
        self._path = path
        self.history = history

    def save(self) -> None:
        """Write the history to the disk. Raises `NoSpace`."""
        replace_file(self._path, msgspec.json.format(msgspec.json.encode(self.history), indent=1) + b"\n")


@contextlib.contextmanager
def open_state(folder: Path, name: str, since: datetime.datetime) -> Iterator[StateFile]:
    """Open and lock the state of a job until the block ends; a new job's history begins at `since`.

    Raises `RunLocked`, with the holder's name, where another scheduler runs the job, and `RunError` where the file was
    not written by batchmix.
    """
    path = folder / f"{name}.json"
    lock = take_lock(folder / f"{name}.lock", f"{name} in {folder}")
    try:
        state = StateFile(path, _read(path) or RunHistory(since))
        state.save()
        yield state
    finally:
        os.close(lock)


def _read(path: Path) -> RunHistory | None:
    try:
        history = msgspec.json.decode(path.read_bytes(), type=RunHistory)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise RunError(f"{path}: can't be read: {error}") from error
    if history.version != VERSION:
        raise RunError(f"{path}: was written by another version of batchmix")
    return history
