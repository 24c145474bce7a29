"""An event loop whose clock jumps to the next timer: code that reads no other clock waits for hours in no time.

A test module selects it with `pytestmark = pytest.mark.virtual_time`. `pytest.mark.virtual_time(sockets=True)` is for a
server and a client on one loop: the clock jumps only once no socket has had anything to read for a while, so a time limit
never comes before data that was sent earlier, however busy the machine is.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable

_STEP_S = 0.001
_SILENCE_S = 0.02
"""Seconds of the machine's clock. Within this time the kernel delivers what was sent on this machine."""


class _Selector(selectors.SelectSelector):
    """Advances the clock instead of waiting."""

    def __init__(self, silence_s: float) -> None:
        super().__init__()
        self.now = 0.0
        self._silence_s = silence_s

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(self._silence_s if timeout != 0 else 0)
        if not found and timeout is None:
            raise RuntimeError("all tasks wait for something that nothing will bring about")
        if not found:
            self.now += timeout or 0.0
        return found


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Its time starts at 0 and passes only when no task can run."""

    def __init__(self, *, sockets: bool = False) -> None:
        self._clock = _Selector(_SILENCE_S if sockets else 0.0)
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now


async def until(true: Callable[[], object], within_s: float = 600.0) -> None:
    """Return once `true` returns something true. Raises `TimeoutError` after so many virtual seconds."""
    async with asyncio.timeout(within_s):
        while not true():
            await asyncio.sleep(_STEP_S)
