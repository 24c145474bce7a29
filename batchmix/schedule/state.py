"""Keeps the scheduled runs of a job in its state file, and decides which run is due.

A scheduled run that has begun is finished before another begins. Of several missed runs, only the latest is made up
for. A scheduled run is over when its process exits by itself, or has been killed three times, other than by the
scheduler. A run may stop before it has created its run folder, for example because the disk is full. Such a run is
tried again until it has created its run folder or the next run is due.
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Iterator
from pathlib import Path

import msgspec

from batchmix.errors import RunError
from batchmix.job.cron import Schedule
from batchmix.store.filesystem import replace_file
from batchmix.store.lock import release_lock, take_lock

VERSION = 1
_FINAL = frozenset({0, 1, 2, 3})
"""The exit codes of a run that ended by itself. After a signal, the code is above 127."""
STOPPED = 3
"""The exit code of a run that stopped early."""
_MAX_DEATHS = 3
"""The number of kills and crashes after which a scheduled run is over."""
_MAX_RUNS = 1_000
"""The most scheduled runs in a state file. The oldest are dropped."""


class ScheduledRun(msgspec.Struct):
    """One scheduled run of a job, as stored in its state file."""

    date: datetime.date = msgspec.field(name="night")
    """The scheduled date."""
    due: datetime.datetime
    folder: str
    """The run folder. Empty if the job file could not be read."""
    started_at: datetime.datetime
    starts: int = 0
    deaths: int = 0
    """The number of starts that ended with a signal or a crash while the scheduler was not being stopped."""
    exit_code: int | None = None
    """The exit code of the last start that has ended. After a signal, this is 128 plus the signal's number."""
    ended_at: datetime.datetime | None = None
    """When the run was over. None if the run is not over."""
    on_finish: str | None = None
    """The result of the `on_finish` command: `ok` or an error. Empty without a command. None before it was called."""

    def record_exit(self, code: int, now: datetime.datetime, *, stopping: bool, can_retry: bool = False) -> None:
        """Record how a start ended. `code` is negative after a signal, as in `subprocess`.

        `stopping` says whether the scheduler is being stopped, and `can_retry` whether a run that stopped early may be
        tried again.
        """
        self.exit_code = code if code >= 0 else 128 - code
        if self.exit_code == STOPPED and can_retry:
            return
        if self.exit_code not in _FINAL and not stopping:
            self.deaths += 1
        if self.exit_code in _FINAL or self.deaths >= _MAX_DEATHS:
            self.ended_at = now


class RunHistory(msgspec.Struct):
    """The scheduled runs of a job, the oldest first. Only the last may not be over yet."""

    since: datetime.datetime
    """Runs that were due at or before this time are not made up for."""
    runs: list[ScheduledRun] = msgspec.field(default_factory=list, name="nights")
    version: int = VERSION

    @property
    def open(self) -> ScheduledRun | None:
        """The scheduled run that has begun and is not over. None if there is none."""
        return self.runs[-1] if self.runs and self.runs[-1].ended_at is None else None

    def due(self, schedule: Schedule, now: datetime.datetime) -> datetime.datetime | None:
        """Return the scheduled time of the run to start or resume now. None if no run is due."""
        if self.open:
            return self.open.due
        latest = schedule.latest(now)
        if latest is None or _utc(latest) <= self._through(now) or self._has_run(latest):
            return None
        return latest

    def following(self, schedule: Schedule, now: datetime.datetime) -> datetime.datetime | None:
        """Return the scheduled time of the next run. None if the schedule has no further time."""
        due = schedule.following(max(_utc(now), self._through(now)))
        while due is not None and self._has_run(due):
            due = schedule.following(due)
        return due

    def ahead(self, now: datetime.datetime) -> datetime.datetime | None:
        """Return the latest recorded time in the future, because the clock was ahead. None if there is none."""
        return max(
            (time for time in (self.since, *(run.due for run in self.runs)) if _utc(time) > _utc(now)), default=None
        )

    def set_right(self, since: datetime.datetime, now: datetime.datetime) -> bool:
        """Let the history begin at `since` if it begins in the future. Return whether it did."""
        if _utc(self.since) <= _utc(now):
            return False
        self.since = since
        return True

    def begin(self, due: datetime.datetime, folder: str, now: datetime.datetime) -> ScheduledRun:
        """Record a start of the run that is not over. If all are over, add one with this due time. Returns the run."""
        run = self.open
        if run is None:
            run = ScheduledRun(due.date(), due, folder, now)
            self.runs = [*self.runs[1 - _MAX_RUNS :], run]
        run.starts += 1
        return run

    def _through(self, now: datetime.datetime) -> datetime.datetime:
        """Return the time up to which the schedule is settled. Only a run that is due after it can be started.

        Times in the future were recorded by a clock that was ahead, and settle nothing.
        """
        times = (_utc(self.since), *(_utc(run.due) for run in self.runs))
        return max((time for time in times if time <= _utc(now)), default=_utc(now))

    def _has_run(self, due: datetime.datetime) -> bool:
        """Return whether the run of a scheduled time has begun, even if it began before its time."""
        return any(_utc(run.due) == _utc(due) for run in self.runs)


def _utc(moment: datetime.datetime) -> datetime.datetime:
    return moment.astimezone(datetime.UTC)


class StateFile:
    """The history of a job's scheduled runs, which `save` writes to the state file."""

    def __init__(self, path: Path, history: RunHistory) -> None:
        self._path = path
        self.history = history

    def save(self) -> None:
        """Write the history to the disk. Raises `NoSpace`."""
        replace_file(self._path, msgspec.json.format(msgspec.json.encode(self.history), indent=1) + b"\n")


@contextlib.contextmanager
def open_state(folder: Path, name: str, since: datetime.datetime) -> Iterator[StateFile]:
    """Open the state file of a job, and lock it until the `with` block ends. A new job's history begins at `since`.

    Raises `RunLocked` if another scheduler runs the job; the message names its process. Raises `RunError` if the file
    can't be read.
    """
    path = folder / f"{name}.json"
    lock = take_lock(folder / f"{name}.lock", f"{name} in {folder}")
    try:
        state = StateFile(path, _read(path) or RunHistory(since))
        state.save()
        yield state
    finally:
        release_lock(lock)


_ANEW = (
    "move it away, and the job begins as a new one: with its next due time, or with --once with its last one, whose"
    " run folder keeps what it has"
)


def _read(path: Path) -> RunHistory | None:
    try:
        history = msgspec.json.decode(path.read_bytes(), type=RunHistory)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RunError(f"{path}: can't be read: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RunError(f"{path}: can't be read, since it is damaged ({error}); {_ANEW}") from error
    if history.version != VERSION:
        raise RunError(f"{path}: was written by another version of batchmix; use that one, or {_ANEW}")
    return history
