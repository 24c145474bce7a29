"""The requests of one lane that are asked again: each waits in a task of its own, holding no worker, till it is due."""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Callable

from batchmix.engine.attempts import Outcome, RowAttempts, retried
from batchmix.engine.shutdown import Shutdown
from batchmix.engine.status import LaneStatus
from batchmix.errors import FailureAction
from batchmix.pacing.breaker import RetryBudget
from batchmix.pacing.governor import Ticket
from batchmix.records import Failure, Request


class OpenRequest:
    """A request on its way."""

    __slots__ = ("outcome", "request", "ticket", "tries")

    def __init__(self, request: Request) -> None:
        self.request = request
        self.ticket: Ticket | None = None
        self.tries: RowAttempts | None = None
        self.outcome: asyncio.Future[Outcome] | None = None
        """Set while tenacity waits for the outcome of the next attempt."""


class RetryQueue:
    """Waits with each item until it is due, calls `on_due`, and hands its last outcome to `on_end`."""

    def __init__(
        self,
        shutdown: Shutdown,
        status: LaneStatus,
        on_due: Callable[[], None],
        on_end: Callable[[Request, Outcome], None],
    ) -> None:
        self.due: collections.deque[OpenRequest] = collections.deque()
        """What may leave now; whoever sends it tells its outcome to the item."""
        self._shutdown = shutdown
        self._status = status
        self._on_due = on_due
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self.budget = RetryBudget(self._loop.time())
        self._tasks: dict[asyncio.Task[None], OpenRequest] = {}

    def waiting(self) -> list[RowAttempts]:
        """Return the tries of those that are not due yet."""
        return [item.tries for item in self._tasks.values() if item.outcome is None and item.tries]

    def later(self, item: OpenRequest, first: Failure) -> None:
        """Let an item wait that has failed for the first time."""
        task = self._loop.create_task(self._guarded(item, first))
        self._tasks[task] = item
        self._status.count_retrying(len(self._tasks))
        task.add_done_callback(self._forget)

    def dropped(self, path: str) -> list[Request]:
        """Let go of what waits to be asked again at a path; return these requests, which have no end then."""
        due = set(self.due)
        gone = {
            task: item
            for task, item in self._tasks.items()
            if item.request.path == path and (item.outcome is None or item in due)
        }
        for task in gone:
            task.cancel()
        self.due = collections.deque(item for item in self.due if item.request.path != path)
        return [item.request for item in gone.values()]

    def cancel(self) -> None:
        """Leave all items without an end."""
        for task in self._tasks:
            task.cancel()

    async def ended(self) -> None:
        """Return when no task is left."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        self._status.count_retrying(len(self._tasks))

    async def _guarded(self, item: OpenRequest, first: Failure) -> None:
        # Made only once the task runs: one that is cancelled before would leave it behind, with a warning.
        await self._shutdown.guarded(self._retry(item, first))

    async def _retry(self, item: OpenRequest, first: Failure) -> None:
        tries = item.tries
        assert tries is not None

        async def again() -> Outcome:
            item.outcome = self._loop.create_future()
            self.due.append(item)
            self._on_due()
            return await item.outcome

        async def sleep(seconds: float) -> None:
            troubled = tries.last is not None and tries.last.action is FailureAction.RETRY
            await asyncio.sleep(max(seconds, self.budget.wait_s(self._loop.time())) if troubled else seconds)

        outcome = await retried(first, again, tries, sleep)
        if task := asyncio.current_task():
            self._forget(task)  # before its end, so that it does not count as waiting
        self._on_end(item.request, outcome)
        self._on_due()  # or what may leave now that one less waits
