"""The requests of one lane that are read before they can be sent, so that sending never waits for the input."""

from __future__ import annotations

import asyncio
import collections
from collections.abc import AsyncIterator, Callable

from batchmix.engine.retries import OpenRequest
from batchmix.records import Request


class ReadAhead:
    """The queue of requests that were read and not sent yet, in the order of the feed."""

    MOST = 512
    """No more requests are read while this many are in the queue."""
    FEW = MOST // 2

    def __init__(self) -> None:
        self.queue: collections.deque[OpenRequest] = collections.deque()
        self.is_over = False
        """Whether the whole feed has been read."""
        self.room = asyncio.Event()
        """To be set when fewer than `FEW` requests are in the queue."""

    async def read(
        self, feed: AsyncIterator[list[Request]], begin: Callable[[list[Request]], list[Request]]
    ) -> AsyncIterator[None]:
        """Read a feed into the queue, and yield after each batch and at the end.

        `begin` is given each batch, and returns the requests to send.
        """
        async for batch in feed:
            self.queue.extend(map(OpenRequest, begin(batch)))
            yield
            while len(self.queue) >= self.MOST:
                self.room.clear()
                await self.room.wait()
        self.is_over = True
        yield

    def drop(self, path: str) -> list[Request]:
        """Remove the requests to a path from the queue, and return them."""
        dropped = [item.request for item in self.queue if item.request.path == path]
        self.queue = collections.deque(item for item in self.queue if item.request.path != path)
        return dropped
