"""Runs scheduled jobs: waits until a run is due, starts it as a separate process, and calls `on_finish`.

The standard input of that process is the read end of a pipe. When the write end is closed, the run drains and exits.
So no run outlives a scheduler that was killed. The next scheduler finds that the run is not over, and resumes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from batchmix.engine.signals import handling_signals
from batchmix.errors import Interrupted, JobError
from batchmix.job import read_job
from batchmix.schedule.jobs import ScheduledJob
from batchmix.schedule.state import STOPPED, ScheduledRun, StateFile, open_state
from batchmix.store.run_folder import Layout

_MAX_WAIT_S = 60.0
"""The longest wait before the clock is read again. It may have been set, or the machine may have been asleep."""
ON_FINISH_S = 60.0
"""The most seconds that `on_finish` may take. Then the command is killed with all processes that it started."""
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


def run_schedule(jobs: list[ScheduledJob], options: SchedulerOptions) -> int:
    """Run each job whenever it is due, and return the highest exit code. With `once`, stop as soon as none is due.

    Raises `RunLocked` if another scheduler runs one of the jobs. After SIGINT, SIGTERM or SIGHUP, lets the active runs
    drain and raises `Interrupted`. The next scheduler resumes these runs.
    """
    with contextlib.ExitStack() as stack:
        schedulers = []
        for job in jobs:
            now = options.now()
            since = job.schedule.latest(now) if options.once else None
            # One second before its due time, so that the latest run counts as missed.
            since = since.astimezone(datetime.UTC) - datetime.timedelta(seconds=1) if since else now
            state = stack.enter_context(open_state(options.state, job.job.name, since))
            schedulers.append(_JobScheduler(job, state, options))
        return asyncio.run(_run_all(schedulers))


async def _run_all(schedulers: list[_JobScheduler]) -> int:
    with _signals(schedulers) as received:
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(scheduler.run()) for scheduler in schedulers]
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from errors
    if received:
        raise Interrupted(f"interrupted by {received[0].name}; the same command resumes", received[0])
    return max(task.result() for task in tasks)


@contextlib.contextmanager
def _signals(schedulers: list[_JobScheduler]) -> Iterator[list[signal.Signals]]:
    """Pass signals on to the runs. Yields a list to which each received signal is added."""
    received: list[signal.Signals] = []

    def pass_on(number: signal.Signals) -> None:
        received.append(number)
        for scheduler in schedulers:
            scheduler.stop(number)

    with handling_signals(pass_on):
        yield received


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


class _JobScheduler:
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
            due = self._state.history.due(self._job.schedule, self._options.now())
            if due is not None:
                highest = max(highest, await self._run_due(due))
            if self._options.once and (due is None or self._must_retry):
                break
            if due is None or self._must_retry:
                await self._wait()
        return highest

    async def _wait(self) -> None:
        now = self._options.now()
        following = None if self._must_retry else self._state.history.following(self._job.schedule, now)
        if following != self._reported and not self._must_retry:
            self._reported = following
            self._options.report(f"{self._name}: the next run is due at {following or 'no time'}")
        left_s = (following - now).total_seconds() if following else _MAX_WAIT_S
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), max(0.0, min(left_s, _MAX_WAIT_S)))

    async def _run_due(self, due: datetime.datetime) -> int:
        """Start the run that is due, or resume it. Returns its exit code, or 0 if it was interrupted."""
        run = self._state.history.begin(due, self._folder(due.date()), self._options.now())
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
        return not Path(run.folder, "run.json").exists() and (latest is None or latest <= run.due)

    @property
    def _must_retry(self) -> bool:
        """Whether the current run stopped before it had created its run folder. It is then tried again after a wait."""
        run = self._state.history.open
        return run is not None and run.exit_code == STOPPED

    async def _run_process(self, run: ScheduledRun) -> int:
        call = [sys.executable, "-P", "-m", "batchmix", "run", str(self._job.path), "--date", run.date.isoformat()]
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
        """Call `on_finish` for the last run if that run is over and the command has not been called yet."""
        runs = self._state.history.runs
        if not runs or runs[-1].ended_at is None or runs[-1].on_finish is not None:
            return
        run, command = runs[-1], self._job.schedule.on_finish
        run.on_finish = await run_on_finish(command, _finish_message(self._name, run)) if command else ""
        self._state.save()
        if run.on_finish not in {"", "ok"}:
            self._options.report(f"{self._name}: on_finish failed: {run.on_finish}")

    def _folder(self, date: datetime.date) -> str:
        try:
            return read_job(self._job.path, {}, scheduled=date).output.path
        except JobError:  # the run itself will report it
            return ""


def _finish_message(name: str, run: ScheduledRun) -> bytes:
    """Return the JSON object that `on_finish` reads: the keys of `summary.json`, and the state of the scheduled run.

    The object always has `job`, `night` (the scheduled date), `due`, `exit_code` and `folder`. The keys of
    `summary.json` are missing if there is no run folder.
    """
    state: dict[str, Any] = {
        "job": name,
        "night": run.date.isoformat(),
        "due": run.due.isoformat(),
        "exit_code": run.exit_code,
        "folder": run.folder,
    }
    return json.dumps({**_summary(run.folder), **state}).encode() + b"\n"


def _summary(folder: str) -> dict[str, Any]:
    try:
        summary = json.loads(Layout(Path(folder)).summary_json.read_bytes()) if folder else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return summary if isinstance(summary, dict) else {}


async def run_on_finish(command: tuple[str, ...], message: bytes, timeout_s: float = ON_FINISH_S) -> str:
    """Run a command with a message on its standard input. Returns `ok` or an error text, and raises nothing."""
    try:
        process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.PIPE, start_new_session=True)
    except (OSError, ValueError) as error:
        return f"{command[0]} can't be started: {getattr(error, 'strerror', None) or error}"
    try:
        await asyncio.wait_for(process.communicate(message), timeout_s)
    except TimeoutError:
        return f"{command[0]} took more than {timeout_s:g} s and was killed"
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # with all that it started
            await process.wait()
    return "ok" if process.returncode == 0 else f"{command[0]} ended with exit code {process.returncode}"
