"""The idle workers of a pool, which wait for a request, and the timer that hands out requests later."""

from __future__ import annotations

import asyncio
import collections
import math
from collections.abc import Callable

from batchmix.engine.retries import OpenRequest

_AT_ONCE = 16
"""Maximum number of workers that get a request in one turn of the event loop. Opening many connections at once would
block it for too long."""


class IdleWorkers:
    """Hands requests to idle workers. `take` removes and returns the next request that may be sent, or returns None."""

    def __init__(self, take: Callable[[], OpenRequest | None]) -> None:
        self.waiting: collections.deque[asyncio.Future[OpenRequest | None]] = collections.deque()
        """The idle workers. Temporarily empty while requests are handed out."""
        self._take = take
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._is_over = False

    async def request(self) -> OpenRequest | None:
        """Wait for the next request, and return it; None if there are no more."""
        if self._is_over:
            return None
        future: asyncio.Future[OpenRequest | None] = self._loop.create_future()
        self.waiting.append(future)
        return await future

    def hand_out(self) -> None:
        """Give the requests that may be sent to idle workers, a few in each turn of the event loop."""
        waiting, self.waiting = self.waiting, collections.deque()
        given = 0
        while waiting and given < _AT_ONCE and (item := self._take()):
            waiting.popleft().set_result(item)
            given += 1
        self.waiting = waiting
        if waiting and given == _AT_ONCE:
            self._loop.call_soon(self.hand_out)

    def hand_out_in(self, wait_s: float) -> None:
        """Set the timer to hand out requests after `wait_s` seconds, in place of any earlier time; infinity: never."""
        if self._timer:
            self._timer.cancel()
        self._timer = self._loop.call_later(wait_s, self.hand_out) if wait_s < math.inf else None

    def dismiss(self) -> None:
        """End all idle workers, and each worker that asks for a request later."""
        self._is_over = True
        while self.waiting:
            future = self.waiting.popleft()
            if not future.done():
                future.set_result(None)
