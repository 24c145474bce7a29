"""What ends a run early: a person's signal, and the job's deadline."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Iterator

from batchmix.errors import Interrupted, Stopped
from batchmix.job import Timeouts
from batchmix.records import Board
from batchmix.send.halt import Halt

_DRAIN_SHARE = 0.1
"""Of the time to a deadline, at the most, is for what is in flight to end."""


@contextlib.contextmanager
def interrupts(halt: Halt, board: Board) -> Iterator[None]:
    """Let the first SIGINT, SIGTERM or SIGHUP drain, and the second cut."""
    loop = asyncio.get_running_loop()

    def interrupted(number: int) -> None:
        if halt.stopping.is_set():
            halt.cutting.set()
        board.phase = "draining"
        halt.stop(Interrupted(f"interrupted by {signal.Signals(number).name}", number))

    signals = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # else nohup wants it to live on
        signals.append(signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in signals}
    for number in signals:
        loop.add_signal_handler(number, interrupted, number)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
            signal.signal(number, before[number])


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
        halt.stop(Stopped(f"the deadline of {job_s:g} s (timeouts.job_s) has come"), drain_s)

    loop = asyncio.get_running_loop()
    left_s = began + job_s - time.monotonic()
    drain_s = min(timeouts.drain_s, _DRAIN_SHARE * job_s)
    timer = loop.call_later(max(0.0, left_s - drain_s), stop)
    try:
        yield
    finally:
        timer.cancel()
