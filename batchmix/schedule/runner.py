"""Keeping the schedule: each job waits for its night, runs it as a process of its own, and tells of it.

A run that is under way holds the read end of a pipe as its standard input; it drains when that ends, so that a
scheduler that is killed leaves nothing behind. The next one finds the night open and goes on with it.
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

from batchmix.engine.signals import handling_signals
from batchmix.errors import Interrupted, JobError
from batchmix.job import read_job
from batchmix.schedule.due import STOPPED, Night, end
from batchmix.schedule.jobs import ScheduledJob
from batchmix.schedule.notify import message, tell
from batchmix.schedule.state import Book, opened_book

_LONGEST_WAIT_S = 60.0
"""A machine that slept, or whose clock was set, is noticed within this."""
_NOT_STARTED = 127


def utc_now() -> datetime.datetime:
    """Return the time."""
    return datetime.datetime.now(datetime.UTC)


class Way(msgspec.Struct, frozen=True):
    """How a schedule is to be kept."""

    state: Path
    """The folder of the state files."""
    once: bool = False
    """End when no night is due any more; a job without a state makes up its latest night."""
    say: Callable[[str], None] = print
    now: Callable[[], datetime.datetime] = utc_now


def keep(jobs: list[ScheduledJob], way: Way) -> int:
    """Run each job's nights until a signal comes, or none is due any more; return the highest exit code of a night.

    Raises `RunLocked` where another scheduler keeps one of the jobs, and `Interrupted` after SIGINT, SIGTERM or
    SIGHUP, when the runs under way have drained; what they leave is gone on with the next time.
    """
    with contextlib.ExitStack() as stack:
        keepers = []
        for job in jobs:
            now = way.now()
            since = job.schedule.latest(now) if way.once else None
            # A second before its due time, a night is still to come.
            since = since.astimezone(datetime.UTC) - datetime.timedelta(seconds=1) if since else now
            keepers.append(_Keeper(job, stack.enter_context(opened_book(way.state, job.job.name, since)), way))
        return asyncio.run(_keep_all(keepers))


async def _keep_all(keepers: list[_Keeper]) -> int:
    with _signals(keepers) as received:
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(keeper.keep()) for keeper in keepers]
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from errors
    if received:
        raise Interrupted(f"interrupted by {received[0].name}; the same command goes on", received[0])
    return max(task.result() for task in tasks)


@contextlib.contextmanager
def _signals(keepers: list[_Keeper]) -> Iterator[list[signal.Signals]]:
    """Pass signals on to the runs; give those that came."""
    received: list[signal.Signals] = []

    def pass_on(number: signal.Signals) -> None:
        received.append(number)
        for keeper in keepers:
            keeper.stop(number)

    with handling_signals(pass_on):
        yield received


@contextlib.contextmanager
def _pipe() -> Iterator[int]:
    """Give the read end of a pipe that ends when the block does, or this process."""
    # asyncio's own pipe would do, but there a process counts as ended only when its pipes do, too.
    read, write = os.pipe()
    try:
        yield read
    finally:
        os.close(read)
        os.close(write)


class _Keeper:
    """Keeps the schedule of one job."""

    def __init__(self, job: ScheduledJob, book: Book, way: Way) -> None:
        self._job = job
        self._book = book
        self._way = way
        self._name = job.job.name
        self._stopping = asyncio.Event()
        self._run: asyncio.subprocess.Process | None = None
        self._awaited: datetime.datetime | None = None

    def stop(self, number: signal.Signals) -> None:
        """Let the run under way drain, or be cut by a second signal, and begin no other."""
        self._stopping.set()
        if self._run:
            with contextlib.suppress(ProcessLookupError):
                self._run.send_signal(number)

    async def keep(self) -> int:
        """Run nights until the schedule is stopped; return the highest exit code."""
        worst = 0
        await self._tell_of_last()
        while not self._stopping.is_set():
            due = self._book.history.due(self._job.schedule, self._way.now())
            if due is not None:
                worst = max(worst, await self._night(due))
                if self._not_begun and self._way.once:
                    break
                if self._not_begun:
                    await self._wait()
            elif self._way.once:
                break
            else:
                await self._wait()
        return worst

    async def _wait(self) -> None:
        now = self._way.now()
        following = None if self._not_begun else self._book.history.following(self._job.schedule, now)
        if following != self._awaited and not self._not_begun:
            self._awaited = following
            self._way.say(f"{self._name}: the next night is due at {following or 'no time'}")
        left_s = (following - now).total_seconds() if following else _LONGEST_WAIT_S
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), max(0.0, min(left_s, _LONGEST_WAIT_S)))

    async def _night(self, due: datetime.datetime) -> int:
        night = self._book.history.begin(due, self._folder(due.date()), self._way.now())
        self._book.save()
        start = f", start {night.starts}" if night.starts > 1 else ""
        self._way.say(f"{self._name}: the night of {night.night} begins{start}: {night.folder}")
        code = await self._run_to_end(night)
        end(night, code, self._way.now(), stopping=self._stopping.is_set(), again=self._may_begin(night))
        self._book.save()
        over = "is over" if night.ended_at else "is not over"
        self._way.say(f"{self._name}: the night of {night.night} {over}: exit code {night.exit_code}")
        await self._tell_of_last()
        return (night.exit_code or 0) if night.ended_at or self._not_begun else 0

    def _may_begin(self, night: Night) -> bool:
        """Return whether a night has no run yet, and no later one is due."""
        latest = self._job.schedule.latest(self._way.now())
        return not Path(night.folder, "run.json").exists() and (latest is None or latest <= night.due)

    @property
    def _not_begun(self) -> bool:
        """Whether the open night's run was stopped before it had begun; it is tried again after a while."""
        night = self._book.history.open
        return night is not None and night.exit_code == STOPPED

    async def _run_to_end(self, night: Night) -> int:
        call = [sys.executable, "-P", "-m", "batchmix", "run", str(self._job.path), "--date", night.night.isoformat()]
        with _pipe() as stdin:
            try:
                # A session of its own: a Ctrl-C at the terminal comes once, from here, since a second one cuts.
                self._run = await asyncio.create_subprocess_exec(
                    *call, "--scheduled", "--progress", "log", stdin=stdin, start_new_session=True
                )
            except OSError as error:
                self._way.say(f"{self._name}: the run can't be started: {error.strerror}")
                return _NOT_STARTED
            try:
                if self._stopping.is_set():  # while it was started
                    self.stop(signal.SIGTERM)
                return await self._run.wait()
            finally:
                if self._run.returncode is None:
                    self.stop(signal.SIGTERM)
                    await self._run.wait()
                self._run = None

    async def _tell_of_last(self) -> None:
        """Tell of the last night if it is over and nobody was told; the scheduler may have been killed just then."""
        nights = self._book.history.nights
        if not nights or nights[-1].ended_at is None or nights[-1].on_finish is not None:
            return
        night, command = nights[-1], self._job.schedule.on_finish
        night.on_finish = await tell(command, message(self._name, night)) if command else ""
        self._book.save()
        if night.on_finish not in {"", "ok"}:
            self._way.say(f"{self._name}: on_finish failed: {night.on_finish}")

    def _folder(self, night: datetime.date) -> str:
        try:
            return read_job(self._job.path, {}, scheduled=night).output.path
        except JobError:  # the run says so itself
            return ""
