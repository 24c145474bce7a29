"""A run whose deadline comes after an event, however long its start took on a busy machine."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from batchmix.engine import send
from tests.polling import wait_until


def deadline_counts_from(monkeypatch: pytest.MonkeyPatch, true: Callable[[], object]) -> None:
    """Let `timeouts.job_s` of the next run in this process count from when `true` returns something true.

    It also begins to count when that takes too long; then the test's own checks fail.
    """
    real = send.deadline

    @contextlib.contextmanager
    def deadline(timeouts: Any, began: float, *stopped: Any) -> Iterator[None]:
        assert began <= time.monotonic()

        async def count() -> None:
            with contextlib.suppress(AssertionError):
                await asyncio.to_thread(wait_until, true)
            stack.enter_context(real(timeouts, time.monotonic(), *stopped))

        with contextlib.ExitStack() as stack:
            counting = asyncio.create_task(count())
            yield
            assert counting.done(), "the run ended before its deadline began"

    monkeypatch.setattr(send, "deadline", deadline)
