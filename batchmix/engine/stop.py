"""What ends a run early: a person's signal, and the job's deadline."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Iterator

from batchmix.engine.halt import Halt
from batchmix.engine.signals import taken
from batchmix.errors import Interrupted, Stopped
from batchmix.job import Timeouts
from batchmix.records import Board

_DRAIN_SHARE = 0.1
"""Of the time to a deadline, at the most, is for what is in flight to end."""


@contextlib.contextmanager
def interrupts(halt: Halt, board: Board) -> Iterator[None]:
    """Let the first SIGINT, SIGTERM or SIGHUP drain, and the second cut."""

    def interrupted(number: signal.Signals) -> None:
        if halt.stopping.is_set():
            halt.cutting.set()
        board.phase = "draining"
        halt.stop(Interrupted(f"interrupted by {number.name}", number))

    with taken(interrupted):
        yield


@contextlib.contextmanager
def deadline(timeouts: Timeouts, began: float, halt: Halt, board: Board) -> Iterator[None]:
    """Stop in time for the job's deadline: first nothing more leaves, then what is in flight is cut.

    `began` is on the monotonic clock.
    """
    job_s = timeouts.job_s
    if job_s is None:
        yield
        return

    def stop() -> None:
        board.phase = "draining"
        halt.stop(_has_come(job_s), drain_s)

    loop = asyncio.get_running_loop()
    left_s = began + job_s - time.monotonic()
    drain_s = min(timeouts.drain_s, _DRAIN_SHARE * job_s)
    timer = loop.call_later(max(0.0, left_s - drain_s), stop)
    try:
        yield
    finally:
        timer.cancel()


def check_deadline(timeouts: Timeouts, began: float) -> None:
    """Raise `Stopped` where the job's deadline has come before anything could be sent."""
    if timeouts.job_s is not None and time.monotonic() - began > timeouts.job_s:
        raise _has_come(timeouts.job_s)


def _has_come(job_s: float) -> Stopped:
    return Stopped(f"the deadline of {job_s:g} s (timeouts.job_s) has come")
