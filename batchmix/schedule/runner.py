"""Runs scheduled jobs side by side. A job that can't be scheduled, now or later, stops only itself."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

from batchmix.engine.signals import handling_signals
from batchmix.errors import BatchmixError, Interrupted
from batchmix.schedule.job_runner import JobScheduler, SchedulerOptions, first_since
from batchmix.schedule.jobs import ScheduledJob, schedulable
from batchmix.schedule.state import open_state


def run_schedule(paths: Sequence[Path], options: SchedulerOptions) -> int:
    """Run the jobs in these files whenever they are due, and return the highest exit code.

    With `once`, stop as soon as none is due. A job that can't be scheduled is reported, and tried again after a while;
    with `once` its exit code is that of its error. After SIGINT, SIGTERM or SIGHUP, lets the active runs drain and
    raises `Interrupted`. The next scheduler resumes these runs.

    Raises `UsageError` if none of the jobs can be scheduled.
    """
    with contextlib.ExitStack() as stack:
        slots = [stack.enter_context(_JobSlot(list(paths), number, options)) for number in range(len(paths))]
        for slot in slots:
            slot.open()
        errors = [slot.error for slot in slots if slot.error is not None]
        if len(errors) == len(slots):
            raise errors[0]
        return asyncio.run(_run_all(slots))


async def _run_all(slots: list[_JobSlot]) -> int:
    with _signals(slots) as received:
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(slot.run()) for slot in slots]
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from errors
    if received:
        raise Interrupted(f"interrupted by {received[0].name}; the same command resumes", received[0])
    return max(task.result() for task in tasks)


@contextlib.contextmanager
def _signals(slots: list[_JobSlot]) -> Iterator[list[signal.Signals]]:
    """Pass signals on to the runs. Yields a list to which each received signal is added."""
    received: list[signal.Signals] = []

    def pass_on(number: signal.Signals) -> None:
        received.append(number)
        for slot in slots:
            slot.stop(number)

    with handling_signals(pass_on):
        yield received


class _JobSlot:
    """The place of one job file in a scheduler. It has a scheduler of its own while the job can be scheduled."""

    def __init__(self, paths: list[Path], number: int, options: SchedulerOptions) -> None:
        self._paths = paths
        self._number = number
        self._options = options
        self._stack = contextlib.ExitStack()
        self._scheduler: JobScheduler | None = None
        self._stopping = asyncio.Event()
        self._reported = ""
        """The error that was reported last."""
        self.error: BatchmixError | None = None
        """Why the job is not scheduled now. None if it is."""

    def __enter__(self) -> _JobSlot:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def open(self) -> None:
        """Read the job, and open its state file, which is then locked. If that fails, `error` says why."""
        self.error = None
        found = schedulable(self._paths)[self._number]
        if not isinstance(found, ScheduledJob):
            self.error = found
            return
        since = first_since(found.schedule, self._options.now(), once=self._options.once)
        try:
            state = self._stack.enter_context(open_state(self._options.state, found.job.name, since))
        except BatchmixError as error:
            self.error = error
            return
        self._scheduler = JobScheduler(found, state, self._options)

    def stop(self, number: signal.Signals) -> None:
        """Start no more runs, and pass a signal on to the active run."""
        self._stopping.set()
        if self._scheduler:
            self._scheduler.stop(number)

    async def run(self) -> int:
        """Run the job by its schedule, and return the highest exit code. While it can't be scheduled, try again."""
        while not self._stopping.is_set():
            if self._scheduler:
                try:
                    return await self._scheduler.run()
                except BatchmixError as error:  # its state can't be written
                    self._close()
                    self.error = error
            self._report()
            if self._options.once:
                return self.error.exit_code if self.error else 0
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), self._options.max_wait_s)
                return 0
            await asyncio.to_thread(self.open)
        return 0

    def _report(self) -> None:
        """Report why the job is not scheduled, once."""
        if str(self.error) != self._reported:
            self._reported = str(self.error)
            path = self._paths[self._number]
            self._options.report(f"{path}: is not scheduled until this is mended: {self._reported}")

    def _close(self) -> None:
        self._scheduler = None
        self._stack.close()
