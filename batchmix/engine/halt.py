"""One place to stop everything."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine


class Halt:
    """What stops a run. The first reason counts; what is in flight then has `drain_s` to end."""

    def __init__(self, drain_s: float) -> None:
        self.reason: BaseException | None = None
        self.stopping = asyncio.Event()
        """Nothing more leaves."""
        self.cutting = asyncio.Event()
        """What is in flight is given up."""
        self.drain_s = drain_s
        """How long what is in flight may take to end."""

    def stop(self, reason: BaseException, drain_s: float | None = None) -> None:
        """Let nothing more leave; what is in flight may have its own time to end."""
        if self.reason is None:
            self.reason = reason
            self.stopping.set()
            wait_s = self.drain_s if drain_s is None else drain_s
            asyncio.get_running_loop().call_later(wait_s, self.cutting.set)

    async def guarded(self, work: Coroutine[None, None, None]) -> None:
        """Let an error stop the run as any other reason would: what is in flight may end, and nothing is lost."""
        try:
            await work
        except Exception as error:  # noqa: BLE001 - it is raised again by whoever reads the reason
            self.stop(error)
