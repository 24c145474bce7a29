"""An event loop whose clock jumps to the next timer: code that reads no other clock waits for hours in no time.

A test module selects it with `pytestmark = pytest.mark.virtual_time`.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable

_STEP_S = 0.001


class _Selector(selectors.SelectSelector):
    """Advances the clock instead of waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(0)
        if not found and timeout is None:
            raise RuntimeError("all tasks wait for something that nothing will bring about")
        if not found:
            self.now += timeout or 0.0
        return found


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Its time starts at 0 and passes only when no task can run."""

    def __init__(self) -> None:
        self._clock = _Selector()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now


async def until(true: Callable[[], object], within_s: float = 600.0) -> None:
    """Return once `true` returns something true. Raises `TimeoutError` after so many virtual seconds."""
    async with asyncio.timeout(within_s):
        while not true():
            await asyncio.sleep(_STEP_S)
