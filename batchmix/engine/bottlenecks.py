"""What limits a run's speed: told to whoever watches, and kept over the time of each start, in `run.json`."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable

from batchmix.engine.status import Bottleneck, LaneStatus, Phase, RunStatus
from batchmix.errors import BatchmixError
from batchmix.store.run_folder import Start

_LOOKS_PER_S = 4
_FIRST_S, _EVERY_S = 2.0, 10.0
"""When what limits it just now is written down, and how often."""
_MOST_SLOTS = 256
"""A long start is told of in longer slots, so that it takes no more room than this."""


def limit(run_status: RunStatus, lane: LaneStatus) -> str:
    """Return what keeps a lane from being faster, in a word or two; empty: nothing but the answers themselves."""
    if lane.idle:
        return lane.idle.value
    if run_status.phase is Phase.SEALING:
        return Bottleneck.DISK.value
    if lane.tail is not None:
        return Bottleneck.LAST_ROWS.value
    if lane.limited_by is Bottleneck.NONE and lane.in_flight >= lane.workers > 0:
        return Bottleneck.CONCURRENCY.value
    return lane.limited_by.value


class Pace:
    """What limited each lane, slot by slot."""

    def __init__(self) -> None:
        self._slot_s = 1.0
        self._slots: list[dict[str, Counter[str]]] = []

    def note(self, at_s: float, model: str, limited_by: str) -> None:
        """Note what limits a lane at a time, in seconds; times only rise."""
        while at_s >= self._slot_s * _MOST_SLOTS:
            self._widen()
        while len(self._slots) <= at_s / self._slot_s:
            self._slots.append({})
        self._slots[-1].setdefault(model, Counter())[limited_by] += 1

    def spans(self) -> dict[str, list[tuple[float, str]]]:
        """Return what limited each lane most in each slot, as pairs of when that began and what it was."""
        found: dict[str, list[tuple[float, str]]] = {}
        for number, slot in enumerate(self._slots):
            for model, counts in slot.items():
                most = counts.most_common(1)[0][0]
                spans = found.setdefault(model, [])
                if not spans or spans[-1][1] != most:
                    spans.append((number * self._slot_s, most))
        return found

    def _widen(self) -> None:
        pairs = [self._slots[at : at + 2] for at in range(0, len(self._slots), 2)]
        self._slots = [
            {model: sum((slot.get(model, Counter()) for slot in pair), Counter()) for model in {*pair[0], *pair[-1]}}
            for pair in pairs
        ]
        self._slot_s *= 2


@contextlib.asynccontextmanager
async def noted(
    run_status: RunStatus, start: Start, learn: Callable[[], None], keep: Callable[[], None]
) -> AsyncIterator[None]:
    """Note what limits each lane while the block runs, and leave it with the start.

    What it is just now is left there too, and `learn` leaves what else is known; `keep`, which is called in a thread,
    writes it down for other processes, and for the next start should this one be killed: not at once, not often, and
    only where it has changed.
    """
    over = asyncio.Event()
    task = asyncio.create_task(_look(run_status, start, learn, keep, over))
    try:
        yield
    finally:
        over.set()
        await task


async def _look(
    run_status: RunStatus, start: Start, learn: Callable[[], None], keep: Callable[[], None], over: asyncio.Event
) -> None:
    loop, pace, lately = asyncio.get_running_loop(), Pace(), Pace()
    began, next_s = loop.time(), _FIRST_S
    while not over.is_set():
        at_s = loop.time() - began
        for lane in run_status.lanes:
            pace.note(at_s, lane.model, limit(run_status, lane))
            lately.note(0.0, lane.model, limit(run_status, lane))
        if at_s >= next_s:
            before = start.limited_now, start.surplus_answers, start.unstreamed
            start.limited_now = {model: spans[-1][1] for model, spans in lately.spans().items()}
            learn()
            lately, next_s = Pace(), at_s + _EVERY_S
            if (start.limited_now, start.surplus_answers, start.unstreamed) != before:
                with contextlib.suppress(BatchmixError, OSError):  # it only informs
                    await asyncio.to_thread(keep)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), 1 / _LOOKS_PER_S)
    start.limited_by, start.limited_now = pace.spans(), {}
