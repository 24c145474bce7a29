"""Stops a run early: on a signal, at the job's deadline, or after an error."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Coroutine, Iterator

from batchmix.engine.run_status import Phase, RunStatus
from batchmix.engine.signals import handling_signals, signal_error, signals_as_errors
from batchmix.errors import Interrupted, Stopped, disk_errors
from batchmix.job import Timeouts

_DRAIN_SHARE = 0.1
"""At most this share of `timeouts.job_s` is reserved, at the end, for requests in flight to return."""


class Shutdown:
    """Stops a run. Only the first reason counts. Requests in flight get `drain_s` seconds to return."""

    def __init__(self, drain_s: float) -> None:
        self.reason: BaseException | None = None
        self.stopping = asyncio.Event()
        """Set when sending stops."""
        self.cutting = asyncio.Event()
        """Set when requests in flight are to be cut off."""
        self.drain_s = drain_s
        """Seconds for which requests in flight may take to return after a stop."""

    def stop(self, reason: BaseException, drain_s: float | None = None) -> None:
        """Stop sending, and cut off the requests in flight after `drain_s` seconds (by default `self.drain_s`)."""
        if self.reason is None:
            self.reason = reason
            self.stopping.set()
            wait_s = self.drain_s if drain_s is None else drain_s
            asyncio.get_running_loop().call_later(wait_s, self.cutting.set)

    async def guarded(self, work: Coroutine[None, None, None]) -> None:
        """Await a coroutine. If it fails, stop the run: requests in flight may still return, and no answer is lost."""
        try:
            await work
        except Exception as error:  # noqa: BLE001 - it is raised again from the reason
            self.stop(error)


class StopRequest:
    """Stops a run from another thread. It may be used before the run begins, and after it has ended."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a signal handler may call `stop` while the same thread is in it
        self._reasons: list[Interrupted] = []
        self._act: Callable[[Interrupted], None] | None = None

    def stop(self, reason: Interrupted) -> None:
        """Stop sending. A second call cuts off the requests in flight. Callable from any thread."""
        with self._lock:
            self._reasons.append(reason)
            if self._act:
                self._act(reason)

    @property
    def is_set(self) -> bool:
        """Whether `stop` was called."""
        return bool(self._reasons)

    def check(self) -> None:
        """Raise the reason of the first call of `stop`, if there was one. This is for the time before sending."""
        if self._reasons:
            raise self._reasons[0]

    @contextlib.contextmanager
    def acting(self, act: Callable[[Interrupted], None]) -> Iterator[None]:
        """Call `act` on the running event loop for each call of `stop` so far, and for those during the block."""
        loop = asyncio.get_running_loop()

        def on_loop(reason: Interrupted) -> None:
            loop.call_soon_threadsafe(act, reason)

        with self._lock:
            self._act = on_loop
            for reason in self._reasons:
                on_loop(reason)
        try:
            yield
        finally:
            with self._lock:
                self._act = None


@contextlib.contextmanager
def stops_as_errors() -> Iterator[None]:
    """Turn a signal or a disk error in the block into a `BatchmixError` with a message for the user."""
    with signals_as_errors(), disk_errors():
        yield


@contextlib.contextmanager
def interrupts(shutdown: Shutdown, stop_request: StopRequest, run_status: RunStatus) -> Iterator[None]:
    """Handle SIGINT, SIGTERM and SIGHUP, and stop requests: the first stops sending, the second cuts off requests."""

    def interrupted(reason: Interrupted) -> None:
        if shutdown.stopping.is_set():
            shutdown.cutting.set()
        run_status.enter(Phase.DRAINING)
        shutdown.stop(reason)

    with handling_signals(lambda number: interrupted(signal_error(number))), stop_request.acting(interrupted):
        yield


@contextlib.contextmanager
def deadline(timeouts: Timeouts, began: float, shutdown: Shutdown, run_status: RunStatus) -> Iterator[None]:
    """Stop the run at the job's deadline. Sending stops a little earlier, to give requests in flight time to return.

    `began` is the monotonic time at which the start began.
    """
    job_s = timeouts.job_s
    if job_s is None:
        yield
        return

    def stop() -> None:
        run_status.enter(Phase.DRAINING)
        shutdown.stop(_deadline_error(job_s), drain_s)

    loop = asyncio.get_running_loop()
    left_s = began + job_s - time.monotonic()
    drain_s = min(timeouts.drain_s, _DRAIN_SHARE * job_s)
    timer = loop.call_later(max(0.0, left_s - drain_s), stop)
    try:
        yield
    finally:
        timer.cancel()


def check_deadline(timeouts: Timeouts, began: float) -> None:
    """Raise `Stopped` if the job's deadline has passed. This is for the time before anything is sent."""
    if timeouts.job_s is not None and time.monotonic() - began > timeouts.job_s:
        raise _deadline_error(timeouts.job_s)


def _deadline_error(job_s: float) -> Stopped:
    return Stopped(f"the deadline of {job_s:g} s (timeouts.job_s) has come")
