"""One lane's way into the open shards."""

from __future__ import annotations

import msgspec

from batchmix.errors import FailureAction
from batchmix.records import Completion, Exchange, Failure, Key, RejectedRow, Request
from batchmix.store.open_shards import OpenShards
from batchmix.store.reuse import Found
from batchmix.store.shard import Shard


class RowCounts(msgspec.Struct):
    """How the rows of one lane have finished, those of earlier starts too as far as the folder has been read."""

    model: str
    ok: int = 0
    failed: int = 0
    rejected: int = 0
    earlier_usd: float | None = None
    """What answers of earlier starts cost; None: none has a price."""

    @property
    def finished(self) -> int:
        """Results of any status."""
        return self.ok + self.failed + self.rejected

    def count(self, status: str) -> None:
        """Count a row that has finished."""
        if status == "ok":
            self.ok += 1
        elif status == "failed":
            self.failed += 1
        else:
            self.rejected += 1

    def count_earlier(self, ok: int, rejected: int) -> None:
        """Count what a sealed part holds."""
        self.ok += ok
        self.rejected += rejected

    def count_earlier_usd(self, usd: float) -> None:
        """Add what answers of earlier starts cost."""
        self.earlier_usd = (self.earlier_usd or 0.0) + usd


class LaneLog:
    """Records what becomes of a lane's requests, and tells the open shards when it is through with each."""

    def __init__(
        self, shards: OpenShards, lane: int, shard_rows: int, counts: RowCounts, *, retry_rejected: bool
    ) -> None:
        self._shards = shards
        self._lane = lane
        self._shard_rows = shard_rows
        self._counts = counts
        self._retry_rejected = retry_rejected
        self._mine: dict[int, Shard] = {}
        self._left: dict[int, int] = {}
        self._done: set[int] = set()
        self._unfinished: set[int] = set()
        self._failed: dict[int, set[Key]] = {}  # in this start

    async def open(self, index: int) -> None:
        """Begin with a shard."""
        shard = self._mine[index] = await self._shards.open(index)
        self._left[index] = 1  # until `fed`
        if (usd := self._shards.paid_before(shard, self._counts.model)) is not None:
            self._counts.count_earlier_usd(usd)

    async def reopen(self, index: int) -> bool:
        """Begin again with a shard that was left in the middle; return False where the lane was through with it."""
        if index in self._done:
            return False
        self._mine[index] = await self._shards.open(index)
        self._left[index] = 1
        return True

    def fail(self, index: int, asked: list[Request | RejectedRow], failure: Failure) -> None:
        """End those of a shard's requests that have work left and have not failed by themselves in this start.

        Rows that can't be asked keep their own reason.
        """
        shard, failed = self._mine[index], self._failed.get(index, ())
        for request in asked:
            if request.key in failed or not shard.needs(request, retry_rejected=False):
                continue
            if isinstance(request, RejectedRow):
                self._reject(shard, request)
            else:
                shard.ended(self._lane, request, "failed", failure)
                self._counts.count("failed")

    def needed(self, index: int, asked: list[Request | RejectedRow]) -> list[Request]:
        """Return the requests that have work left; rows that can't be asked are ended here."""
        shard = self._mine[index]
        needed = []
        for request in asked:
            if not shard.needs(request, retry_rejected=self._retry_rejected):
                self._counts.count(shard.entries[request.key].status)
            elif isinstance(request, Request):
                needed.append(request)
            else:
                self._reject(shard, request)
        self._left[index] += len(needed)
        return needed

    def has_answer(self, request: Request) -> bool:
        """Return whether a request of a shard that is begun has its answer; to be called after `needed`."""
        entry = self._mine[request.row // self._shard_rows].entries[request.key]
        return entry.status == "ok" and entry.hash == request.hash

    def reuse(self, request: Request, found: Found | None) -> bool:
        """End a request with another run's answer; return whether there is one."""
        index = request.row // self._shard_rows
        if found is None or not self._mine[index].reused(self._lane, request, found.exchange, found.run):
            return False
        self._counts.count("ok")
        self._one_less(index)
        return True

    def pass_by(self, index: int, asked: list[Request | RejectedRow]) -> bool:
        """Return whether any of a shard's requests has work left, which is left to another start."""
        shard = self._mine[index]
        left = False
        for request in asked:
            if shard.needs(request, retry_rejected=False):
                left = True
            else:
                self._counts.count(shard.entries[request.key].status)
        return left

    def fed(self, index: int, *, unfinished: bool = False) -> None:
        """Take note that all requests of a shard have been handed out, or that the others are for another start."""
        if unfinished:
            self._unfinished.add(index)
        self._one_less(index)

    def sent(self, request: Request, at_ms: int) -> None:
        """Record that a request is about to leave."""
        self._mine[request.row // self._shard_rows].sent(self._lane, request, at_ms)

    def heard(self, request: Request, exchange: Exchange) -> Completion | Failure:
        """Record what came back, then return what it is."""
        return self._mine[request.row // self._shard_rows].heard(self._lane, request, exchange)

    def ended(self, request: Request, failure: Failure | None) -> None:
        """Record the end of a row."""
        index = request.row // self._shard_rows
        if failure is None:
            self._counts.ok += 1
        else:
            status = "rejected" if failure.action is FailureAction.REJECT else "failed"
            self._mine[index].ended(self._lane, request, status, failure)
            self._counts.count(status)
            self._failed.setdefault(index, set()).add(request.key)
        self._one_less(index)

    def _reject(self, shard: Shard, row: RejectedRow) -> None:
        shard.ended(self._lane, row, "rejected", row.failure)
        self._counts.count("rejected")

    def _one_less(self, index: int) -> None:
        self._left[index] -= 1
        if self._left[index] == 0:
            del self._left[index]
            self._done.add(index)
            self._failed.pop(index, None)
            self._mine.pop(index).close(self._lane)
            self._shards.lane_is_through(index, unfinished=index in self._unfinished)
