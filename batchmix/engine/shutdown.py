"""Stopping a run early: on a signal, at the job's deadline, or after an error."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Coroutine, Iterator

from batchmix.engine.run_status import Phase, RunStatus
from batchmix.engine.signals import handling_signals, signals_as_errors
from batchmix.errors import Interrupted, Stopped, disk_errors
from batchmix.job import Timeouts

_DRAIN_SHARE = 0.1
"""At most this share of `timeouts.job_s` is reserved at its end for requests in flight to return."""


class Shutdown:
    """Stops a run, for the first reason given. Requests in flight then have `drain_s` seconds to return."""

    def __init__(self, drain_s: float) -> None:
        self.reason: BaseException | None = None
        self.stopping = asyncio.Event()
        """Set when no more requests are sent."""
        self.cutting = asyncio.Event()
        """Set when requests in flight are cut off."""
        self.drain_s = drain_s
        """Seconds that requests in flight may take to return after a stop."""

    def stop(self, reason: BaseException, drain_s: float | None = None) -> None:
        """Send no more requests; cut off those in flight after `drain_s` seconds, by default the run's own value."""
        if self.reason is None:
            self.reason = reason
            self.stopping.set()
            wait_s = self.drain_s if drain_s is None else drain_s
            asyncio.get_running_loop().call_later(wait_s, self.cutting.set)

    async def guarded(self, work: Coroutine[None, None, None]) -> None:
        """Await some work. An error in it stops the run in order: requests in flight may return; nothing is lost."""
        try:
            await work
        except Exception as error:  # noqa: BLE001 - it is raised again from the reason
            self.stop(error)


@contextlib.contextmanager
def stops_as_errors() -> Iterator[None]:
    """Turn a signal or an error of the disk that ends the block into a `BatchmixError` that tells the user about it."""
    with signals_as_errors(), disk_errors():
        yield


@contextlib.contextmanager
def interrupts(shutdown: Shutdown, run_status: RunStatus) -> Iterator[None]:
    """Handle SIGINT, SIGTERM and SIGHUP: the first signal stops sending, the second cuts off requests in flight."""

    def interrupted(number: signal.Signals) -> None:
        if shutdown.stopping.is_set():
            shutdown.cutting.set()
        run_status.enter(Phase.DRAINING)
        shutdown.stop(Interrupted(f"interrupted by {number.name}", number))

    with handling_signals(interrupted):
        yield


@contextlib.contextmanager
def deadline(timeouts: Timeouts, began: float, shutdown: Shutdown, run_status: RunStatus) -> Iterator[None]:
    """Stop the run at the job's deadline: sending ends shortly before it, and requests in flight are cut off at it.

    `began` is the monotonic time at which the start began.
    """
    job_s = timeouts.job_s
    if job_s is None:
        yield
        return

    def stop() -> None:
        run_status.enter(Phase.DRAINING)
        shutdown.stop(_has_come(job_s), drain_s)

    loop = asyncio.get_running_loop()
    left_s = began + job_s - time.monotonic()
    drain_s = min(timeouts.drain_s, _DRAIN_SHARE * job_s)
    timer = loop.call_later(max(0.0, left_s - drain_s), stop)
    try:
        yield
    finally:
        timer.cancel()


def check_deadline(timeouts: Timeouts, began: float) -> None:
    """Raise `Stopped` if the job's deadline has passed; called before anything is sent."""
    if timeouts.job_s is not None and time.monotonic() - began > timeouts.job_s:
        raise _has_come(timeouts.job_s)


def _has_come(job_s: float) -> Stopped:
    return Stopped(f"the deadline of {job_s:g} s (timeouts.job_s) has come")
