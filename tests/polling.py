"""Wait until something is true or a program has written something, with a deadline.

A wait without one would hang the suite when the condition never comes true.
"""

from __future__ import annotations

import asyncio
import os
import select
import time
from collections.abc import Callable
from typing import IO

WITHIN_S = 60.0
"""Seconds. Long enough for a busy machine; no test depends on how fast the condition came true."""


def wait_until(true: Callable[[], object], within_s: float = WITHIN_S) -> None:
    """Return once `true` returns something true. Raises `AssertionError` when that takes too long."""
    until = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < until, f"nothing came within {within_s:g} s"
        time.sleep(0.01)


async def until(true: Callable[[], object], within_s: float = WITHIN_S) -> None:
    """Return once `true` returns something true, and let other tasks run meanwhile. Raises `TimeoutError`."""
    async with asyncio.timeout(within_s):
        while not true():
            await asyncio.sleep(0)


def wait_readable(file: int, within_s: float = WITHIN_S) -> None:
    """Return once a file descriptor can be read without blocking. Raises `AssertionError` when that takes too long."""
    assert select.select([file], [], [], within_s)[0], f"nothing was written within {within_s:g} s"


def first_line(stream: IO[str]) -> str:
    """Return the first line that a program writes to a pipe. Raises `AssertionError` when none comes in time."""
    wait_readable(stream.fileno())
    return stream.readline()


def read_pipe(path: os.PathLike[str]) -> bytes:
    """Return what another process writes to a named pipe. Raises `AssertionError` when nothing comes in time."""
    pipe, data = os.open(path, os.O_RDONLY | os.O_NONBLOCK), b""
    try:
        wait_written = select.poll()  # `select` would not wait for the first writer
        wait_written.register(pipe, select.POLLIN)
        while True:
            assert wait_written.poll(WITHIN_S * 1000), f"nothing was written within {WITHIN_S:g} s"
            if not (piece := os.read(pipe, 65536)):
                return data
            data += piece
    finally:
        os.close(pipe)
