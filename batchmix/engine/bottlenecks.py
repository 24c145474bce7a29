"""Bottlenecks: the limits on a run's speed. They are shown during the run and recorded for each start in `run.json`."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable

from batchmix.engine.run_status import LaneStatus, Phase, RunStatus
from batchmix.errors import BatchmixError
from batchmix.records import Bottleneck
from batchmix.store.run_folder import Start

_RECORDS_PER_S = 4
"""How often per second the bottleneck of each lane is recorded."""
_FIRST_S, _EVERY_S = 2.0, 10.0
"""Seconds until the current bottleneck is first written to `run.json`, and between later writes."""
_MAX_SLOTS = 256
"""Maximum number of time slots in a history. A longer start gets longer slots, to keep `run.json` small."""


def bottleneck_of(run_status: RunStatus, lane: LaneStatus) -> str:
    """Return the bottleneck of a lane in a few words. Empty if only the provider's response time limits its speed."""
    if lane.idle:
        return lane.idle.value
    if run_status.phase is Phase.SEALING:
        return Bottleneck.DISK.value
    if lane.tail is not None:
        return Bottleneck.LAST_ROWS.value
    if lane.limited_by is Bottleneck.NONE and lane.in_flight >= lane.max_in_flight > 0:
        return Bottleneck.CONCURRENCY.value
    return lane.limited_by.value


class BottleneckHistory:
    """Counts the bottlenecks of each lane in time slots of equal length."""

    def __init__(self) -> None:
        self._slot_s = 1.0
        self._slots: list[dict[str, Counter[str]]] = []

    def add(self, at_s: float, model: str, limited_by: str) -> None:
        """Record the bottleneck of a lane `at_s` seconds after the start. Times must not decrease."""
        while at_s >= self._slot_s * _MAX_SLOTS:
            self._widen()
        while len(self._slots) <= at_s / self._slot_s:
            self._slots.append({})
        self._slots[-1].setdefault(model, Counter())[limited_by] += 1

    def spans(self) -> dict[str, list[tuple[float, str]]]:
        """Return each lane's main bottleneck over time: a list of (seconds since the start, bottleneck) by model.

        A bottleneck lasts until the next one in the list.
        """
        by_model: dict[str, list[tuple[float, str]]] = {}
        for number, slot in enumerate(self._slots):
            for model, counts in slot.items():
                limit = counts.most_common(1)[0][0]
                spans = by_model.setdefault(model, [])
                if not spans or spans[-1][1] != limit:
                    spans.append((number * self._slot_s, limit))
        return by_model

    def _widen(self) -> None:
        pairs = [self._slots[at : at + 2] for at in range(0, len(self._slots), 2)]
        self._slots = [
            {model: sum((slot.get(model, Counter()) for slot in pair), Counter()) for model in {*pair[0], *pair[-1]}}
            for pair in pairs
        ]
        self._slot_s *= 2


@contextlib.asynccontextmanager
async def bottlenecks_recorded(
    run_status: RunStatus, start: Start, update: Callable[[], None], write: Callable[[], None]
) -> AsyncIterator[None]:
    """Record the bottleneck of each lane in `start` while the block runs.

    Every few seconds, `update` is called to update other fields of `start`. If anything has changed, `write` is called
    in a thread to write `run.json`: other processes read it, and so does the next start if this one is killed.
    """
    over = asyncio.Event()
    task = asyncio.create_task(_record(run_status, start, update, write, over))
    try:
        yield
    finally:
        over.set()
        await task


async def _record(
    run_status: RunStatus, start: Start, update: Callable[[], None], write: Callable[[], None], over: asyncio.Event
) -> None:
    loop, history, recent = asyncio.get_running_loop(), BottleneckHistory(), BottleneckHistory()
    began, next_s = loop.time(), _FIRST_S
    while not over.is_set():
        at_s = loop.time() - began
        for lane in run_status.lanes:
            history.add(at_s, lane.model, bottleneck_of(run_status, lane))
            recent.add(0.0, lane.model, bottleneck_of(run_status, lane))
        if at_s >= next_s:
            before = start.limited_now, start.surplus_answers, start.unstreamed
            start.limit({model: spans[-1][1] for model, spans in recent.spans().items()})
            update()
            recent, next_s = BottleneckHistory(), at_s + _EVERY_S
            if (start.limited_now, start.surplus_answers, start.unstreamed) != before:
                with contextlib.suppress(BatchmixError, OSError):  # the record only informs people
                    await asyncio.to_thread(write)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), 1 / _RECORDS_PER_S)
    start.limit({}, history.spans())
