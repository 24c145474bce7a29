"""One time-out for many tasks at the cost of one timer."""

from __future__ import annotations

import asyncio
from typing import Any


class Deadlines:
    """Cancels each task that is still at it `after_s` seconds after its start.

    All have the same time, so the first to start is the first to be late, and one timer serves all. aiohttp and
    `asyncio.timeout` set a timer for each request, which is a tenth of what a request costs.
    """

    def __init__(self, after_s: float) -> None:
        self._after_s = after_s
        self._loop = asyncio.get_running_loop()
        self._due: dict[asyncio.Task[Any], float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def start(self, task: asyncio.Task[Any]) -> None:
        """Begin to watch a task."""
        self._due[task] = due = self._loop.time() + self._after_s
        if self._timer is None:
            self._timer = self._loop.call_at(due, self._cancel_late)

    def is_late(self, task: asyncio.Task[Any]) -> bool:
        """Return whether this has cancelled the task, which then has to `uncancel` itself."""
        return task not in self._due

    def stop(self, task: asyncio.Task[Any]) -> None:
        """End watching a task."""
        self._due.pop(task, None)

    def close(self) -> None:
        """Let go of the timer."""
        if self._timer:
            self._timer.cancel()

    def _cancel_late(self) -> None:
        self._timer = None
        now = self._loop.time()
        for task, due in list(self._due.items()):
            if due > now:
                self._timer = self._loop.call_at(due, self._cancel_late)
                return
            del self._due[task]
            task.cancel()
