"""Passes on the sealed parts of a step to the next step of a chain, which runs in another thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable

from batchmix.errors import Stopped


class SealedParts:
    """Which parts of a step are final, as far as this start is concerned. Any thread may call the methods."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._pending: set[int] | None = None
        self._count = 0
        self._is_over = False
        self._wakers: list[Callable[[], None]] = []

    def begin(self, count: int, pending: Iterable[int]) -> None:
        """Say how many parts there will be, and which this start will seal. The others are final."""
        with self._changed:
            self._count, self._pending = count, set(pending)
            self._tell()

    def seal(self, part: int) -> None:
        """Say that a part is sealed."""
        with self._changed:
            if self._pending is not None:
                self._pending.discard(part)
            self._tell()

    def end(self) -> None:
        """Say that this start seals no more parts."""
        with self._changed:
            self._is_over = True
            self._tell()

    def _tell(self) -> None:
        self._changed.notify_all()
        wakers, self._wakers = self._wakers, []
        for wake in wakers:
            wake()

    @property
    def pending(self) -> frozenset[int]:
        """The parts that are not final yet."""
        with self._changed:
            return frozenset(self._pending or ())

    def wait_for_first(self) -> bool:
        """Wait until there is a final part. False if the step ended without any."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_over or self._has_any)
            return self._has_any

    @property
    def _has_any(self) -> bool:
        return self._pending is not None and len(self._pending) < self._count

    async def wait_for(self, parts: Iterable[int]) -> bool:
        """Wait until some parts are final. False if the step ended before."""
        wanted, loop = set(parts), asyncio.get_running_loop()
        while True:
            arrived = asyncio.Event()
            with self._changed:
                if self._pending is not None and not wanted & self._pending:
                    return True
                if self._is_over:
                    return False
                self._wakers.append(_waker(loop, arrived))
            await arrived.wait()


def _waker(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> Callable[[], None]:
    def wake() -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(event.set)

    return wake


def unfinished_step() -> Stopped:
    """Return the error of a step whose rows have not all come."""
    return Stopped("the step before has not finished; its other rows are sent once it has")
