"""The workers of a pool that wait for a request, and the timer that looks for one again."""

from __future__ import annotations

import asyncio
import collections
import math
from collections.abc import Callable

from batchmix.engine.retries import OpenRequest

_AT_ONCE = 16
"""Workers that begin in one turn of the event loop: opening many connections at once would stop it for too long."""


class IdleWorkers:
    """Hands requests to waiting workers; `take` returns the next request that may leave, and takes it, or None."""

    def __init__(self, take: Callable[[], OpenRequest | None]) -> None:
        self.waiting: collections.deque[asyncio.Future[OpenRequest | None]] = collections.deque()
        """Empty while requests are handed out."""
        self._take = take
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._is_over = False

    async def request(self) -> OpenRequest | None:
        """Return the next request once there is one; None: there will be no more."""
        if self._is_over:
            return None
        future: asyncio.Future[OpenRequest | None] = self._loop.create_future()
        self.waiting.append(future)
        return await future

    def hand_out(self) -> None:
        """Give waiting workers the requests that may leave, a few at a time."""
        waiting, self.waiting = self.waiting, collections.deque()
        given = 0
        while waiting and given < _AT_ONCE and (item := self._take()):
            waiting.popleft().set_result(item)
            given += 1
        self.waiting = waiting
        if waiting and given == _AT_ONCE:
            self._loop.call_soon(self.hand_out)

    def hand_out_in(self, wait_s: float) -> None:
        """Hand out after so many seconds, instead of when this was called before; infinity: not by time."""
        if self._timer:
            self._timer.cancel()
        self._timer = self._loop.call_later(wait_s, self.hand_out) if wait_s < math.inf else None

    def dismiss(self) -> None:
        """Let all workers end that wait, or will."""
        self._is_over = True
        while self.waiting:
            future = self.waiting.popleft()
            if not future.done():
                future.set_result(None)
