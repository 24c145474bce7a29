"""Wait until something is true, with a deadline: a poll without one would hang the suite when it fails."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

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
