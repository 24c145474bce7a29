"""The requests of one lane that are read before they can be sent, so that sending never waits for the input.

Some of them are held back until another one is answered (`warm_up.py`).
"""

from __future__ import annotations

import asyncio
import collections
from collections.abc import AsyncIterator, Callable

import msgspec

from batchmix.engine.cache_marks import with_cache_marks
from batchmix.engine.outcomes import SendingRules
from batchmix.engine.retries import OpenRequest
from batchmix.engine.warm_up import WarmUp
from batchmix.records import Bottleneck, Outcome, Request

_MOST = 512
"""No more requests are read while this many are in the queue."""
_BYTES, _FEWEST = 8 << 20, 64
"""Nor while their bodies have this many bytes, if there are more than a few of them."""
_MOST_IN_FLIGHT = 4096
"""While requests are held back, twice as many more are read as may be in flight, but not more than twice this: as many
for the places of those in flight, and as many that are held back meanwhile."""
_MOST_BYTES = 64 << 20
"""The bytes of bodies beyond which no more than `_MOST` requests are read all the same."""


class ReadAhead:
    """The queue of requests that were read and not sent yet, in the order of the feed.

    Requests may wait for the answer to another one with the same long prefix, as `rules.cache` says. `on_released` is
    called after they have waited for the longest time.
    """

    def __init__(self, rules: SendingRules, on_released: Callable[[], None]) -> None:
        self.queue: collections.deque[OpenRequest] = collections.deque()
        self.is_over = False
        """Whether the whole feed has been read."""
        self.room = asyncio.Event()
        """Set when more requests may be read."""
        self._prefixes = prefixes = rules.prefixes
        self._warm_up = WarmUp(rules.cache.wait_s if prefixes else 0.0, self._release)
        self._mark = rules.cache.mark if prefixes and prefixes.needs_marks else None
        self._most_with_held = _MOST + 2 * min(rules.limits.concurrency, _MOST_IN_FLIGHT)
        self._most = _MOST  # how many requests may be in the queue
        self._body_bytes = 0  # the size of the last request that was read
        self._on_released = on_released

    async def read(
        self, feed: AsyncIterator[list[Request]], begin: Callable[[list[Request]], list[Request]]
    ) -> AsyncIterator[None]:
        """Read a feed into the queue, and yield after each batch and at the end.

        `begin` is given each batch, and returns the requests to send.
        """
        async for batch in feed:
            self.queue.extend(map(self._opened, begin(batch)))
            self._most = max(_FEWEST, min(_MOST, _BYTES // max(1, self._body_bytes)))
            yield
            while self._space() <= 0:
                self.room.clear()
                await self.room.wait()
        self.is_over = True
        yield

    def _opened(self, request: Request) -> OpenRequest:
        item = OpenRequest(request)
        self._body_bytes = len(request.body)
        if self._prefixes and not request.inputs and (self._mark or not self._warm_up.is_off):
            item.prefix = self._prefixes.add(request.body)
        return item

    def as_sent(self, item: OpenRequest) -> Request:
        """Return a request as it must be sent: with the marks for the prompt cache that the job asks for."""
        request = item.request
        if self._mark is None or item.prefix is None:
            return request
        return msgspec.structs.replace(request, body=with_cache_marks(request.body, item.prefix, self._mark))

    @property
    def lacks(self) -> Bottleneck:
        """What an empty queue waits for."""
        if self._warm_up.held:
            return Bottleneck.CACHE
        return Bottleneck.NONE if self.is_over else Bottleneck.INPUT

    def ready(self, now: float) -> collections.deque[OpenRequest]:
        """Return the queue, after holding back requests at its front that must wait for another one."""
        queue = self.queue
        while queue and queue[0].prefix is not None and self._warm_up.holds(now, queue[0]):
            queue.popleft()
            self._make_room()
        if self._warm_up.held:
            if not queue:
                queue.extend(self._warm_up.has_stalled(now))
            if queue:
                self._warm_up.goes_on(now)
        return queue

    def sent(self, now: float, item: OpenRequest) -> None:
        """Note that a request, from this queue or not, is sent now."""
        if item.prefix is not None:
            self._warm_up.sent(now, item)
        self._make_room()

    def returned(self, now: float, item: OpenRequest, outcome: Outcome | None) -> None:
        """Release the requests that waited for another one, whose outcome is None if it was cut off."""
        if item.prefix is not None:
            self.queue.extendleft(reversed(self._warm_up.returned(now, item, outcome)))

    def _release(self, items: list[OpenRequest]) -> None:
        self.queue.extendleft(reversed(items))
        self._on_released()

    def _space(self) -> int:
        """Return how many more requests may be read. While some are held back, others must take their places."""
        held = self._warm_up.held
        if not held:
            return self._most - len(self.queue)
        most = min(self._most_with_held, _MOST_BYTES // max(1, self._body_bytes))
        return max(_MOST, most) - len(self.queue) - held

    def _make_room(self) -> None:
        if self._space() > self._most // 2:
            self.room.set()

    def drop(self, path: str) -> list[Request]:
        """Remove the requests to a path from the queue, and return them."""
        self.queue.extendleft(reversed(self._warm_up.all()))
        dropped = [item.request for item in self.queue if item.request.path == path]
        self.queue = collections.deque(item for item in self.queue if item.request.path != path)
        return dropped
