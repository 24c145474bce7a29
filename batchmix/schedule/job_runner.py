"""Runs one job by its schedule: waits until a run is due, starts it as a separate process, and tells how it ended.

The standard input of that process is the read end of a pipe. When the write end is closed, the run drains and exits.
So no run outlives a scheduler that was killed. The next scheduler finds that the run is not over, and resumes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from batchmix.errors import JobError
from batchmix.job.cron import Schedule
from batchmix.remote.objects import is_remote
from batchmix.schedule.jobs import ScheduledJob
from batchmix.schedule.on_finish import tell
from batchmix.schedule.state import STOPPED, ScheduledRun, StateFile

_NOT_STARTED = 127
"""The exit code recorded for a run that could not be started. Shells use the same code."""


def utc_now() -> datetime.datetime:
    """Return the current time in UTC."""
    return datetime.datetime.now(datetime.UTC)


class SchedulerOptions(msgspec.Struct, frozen=True):
    """The options of a scheduler."""

    state: Path
    """The folder of the state files."""
    once: bool = False
    """Exit once no run is due. A job without a state file runs once, for its latest scheduled time."""
    report: Callable[[str], None] = print
    """Called with a line for each event."""
    now: Callable[[], datetime.datetime] = utc_now
    max_wait_s: float = 60.0
    """The longest wait before the clock and bad job files are read again. The clock may have been set, or the machine
    may have been asleep."""


def first_since(schedule: Schedule, now: datetime.datetime, *, once: bool) -> datetime.datetime:
    """Return the time after which a job that has not run yet is due: now, or with `once` just before the last time."""
    latest = schedule.latest(now) if once else None
    return latest.astimezone(datetime.UTC) - datetime.timedelta(seconds=1) if latest else now


@contextlib.contextmanager
def _pipe() -> Iterator[int]:
    """Yield the read end of a pipe. Its write end is closed when the `with` block or this process ends."""
    # Not a pipe of asyncio's, because asyncio waits for a process until its pipes are closed, too.
    read, write = os.pipe()
    try:
        yield read
    finally:
        os.close(read)
        os.close(write)


class JobScheduler:
    """Runs one job by its schedule."""

    def __init__(self, job: ScheduledJob, state: StateFile, options: SchedulerOptions) -> None:
        self._job = job
        self._state = state
        self._options = options
        self._name = job.job.name
        self._stopping = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._reported: datetime.datetime | None = None
        """The due time that was last reported as the next one."""
        self._ahead: datetime.datetime | None = None
        """The recorded time in the future that was last reported."""

    def stop(self, number: signal.Signals) -> None:
        """Start no more runs, and pass a signal on to the active run, which drains. A second signal cuts it off."""
        self._stopping.set()
        if self._process:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def run(self) -> int:
        """Run the job whenever it is due, until the scheduler is stopped, and return the highest exit code.

        With `once`, return when no run is due.
        """
        highest = 0
        await self._finish_last()
        while not self._stopping.is_set():
            self._set_clock_right()
            due = self._state.history.due(self._job.schedule, self._options.now())
            if due is not None:
                highest = max(highest, await self._run_due(due))
            if self._options.once and (due is None or self._must_retry):
                break
            if due is None or self._must_retry:
                await self._wait()
        return highest

    def _set_clock_right(self) -> None:
        """Count from now on where the state has times in the future, because the clock was ahead."""
        now = self._options.now()
        ahead = self._state.history.ahead(now)
        if ahead is None or ahead == self._ahead:
            return
        self._ahead = ahead
        if self._state.history.set_right(first_since(self._job.schedule, now, once=self._options.once), now):
            self._state.save()
        self._options.report(
            f"{self._name}: its state has a time in the future, {ahead}, so the clock was ahead; the job goes on by the"
            " present time"
        )

    async def _wait(self) -> None:
        now = self._options.now()
        following = None if self._must_retry else self._state.history.following(self._job.schedule, now)
        if following != self._reported and not self._must_retry:
            self._reported = following
            self._options.report(f"{self._name}: the next run is due at {following or 'no time'}")
        left_s = (following - now).total_seconds() if following else self._options.max_wait_s
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), max(0.0, min(left_s, self._options.max_wait_s)))

    async def _run_due(self, due: datetime.datetime) -> int:
        """Start the run that is due, or resume it. Returns its exit code, or 0 if it was interrupted."""
        run = self._state.history.begin(due, self._folder(due), self._options.now())
        self._state.save()
        start = f", start {run.starts}" if run.starts > 1 else ""
        self._options.report(f"{self._name}: the run of {run.date} starts{start}: {run.folder}")
        code = await self._run_process(run)
        run.record_exit(code, self._options.now(), stopping=self._stopping.is_set(), can_retry=self._can_retry(run))
        self._state.save()
        over = "is over" if run.ended_at else "is not over"
        self._options.report(f"{self._name}: the run of {run.date} {over}: exit code {run.exit_code}")
        await self._finish_last()
        return (run.exit_code or 0) if run.ended_at or self._must_retry else 0

    def _can_retry(self, run: ScheduledRun) -> bool:
        """Return whether a run may be tried again: it has not created its run folder, and no later run is due."""
        latest = self._job.schedule.latest(self._options.now())
        began = is_remote(run.folder) or Path(run.folder, "run.json").exists()
        return not began and (latest is None or latest <= run.due)

    @property
    def _must_retry(self) -> bool:
        """Whether the current run stopped before it had created its run folder. It is then tried again after a wait."""
        run = self._state.history.open
        return run is not None and run.exit_code == STOPPED

    async def _run_process(self, run: ScheduledRun) -> int:
        call = [sys.executable, "-P", "-m", "batchmix", "run", str(self._job.path), "--date", run.due.isoformat()]
        with _pipe() as stdin:
            try:
                # In its own session, so that Ctrl-C at the terminal reaches the run only once, through the scheduler.
                # A second signal would cut the run off.
                self._process = await asyncio.create_subprocess_exec(
                    *call, "--scheduled", "--progress", "log", stdin=stdin, start_new_session=True
                )
            except OSError as error:
                self._options.report(f"{self._name}: the run can't be started: {error.strerror}")
                return _NOT_STARTED
            try:
                if self._stopping.is_set():  # a signal arrived while the run was being started
                    self.stop(signal.SIGTERM)
                return await self._process.wait()
            finally:
                if self._process.returncode is None:
                    self.stop(signal.SIGTERM)
                    await self._process.wait()
                self._process = None

    async def _finish_last(self) -> None:
        """Call `on_finish` for the last run if that run is over and it has not been called yet."""
        runs = self._state.history.runs
        if not runs or runs[-1].ended_at is None or runs[-1].on_finish is not None:
            return
        run = runs[-1]
        run.on_finish = await tell(self._job.schedule, self._name, run)
        self._state.save()
        if run.on_finish not in {"", "ok"}:
            self._options.report(f"{self._name}: on_finish failed: {run.on_finish}")

    def _folder(self, due: datetime.datetime) -> str:
        try:
            return self._job.folder(due)
        except JobError:  # the run itself will report it
            return ""
