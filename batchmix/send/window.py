"""How many requests may be in flight: more while answers come faster for it, fewer where the provider counts them."""

from __future__ import annotations

import collections
import math

from batchmix.send.probe import Probe

_START = 128
_PERIOD_S = 7.0
"""How soon more is tried after the provider refused by the number in flight."""
_RECENT_S, _RECENT = 10.0, 256
"""The answers that speak for or against that."""
_FASTER = 1.1
"""A goodput that much higher is a gain."""
_FOR_NOTHING = 1.5
"""A window that much larger without a gain was grown for nothing."""
_SUSTAINED = 0.9
"""A window that much smaller than what is let in is none that is refused."""
_HELD_S = 30.0
"""Then it is tried again whether more would be a gain."""


class Window:
    """The requests in flight, and how many they may be.

    It starts like TCP's slow start (RFC 5681, 3.1), doubling each round trip while it is what limits, until goodput
    (answers and tokens a second) no longer rises with it. Where the provider refuses by the number in flight, it is
    set to what was let in, and tried again from there.
    """

    def __init__(self, ceiling: int, now: float) -> None:
        self.in_flight = 0
        self.size = float(min(ceiling, _START))
        self._ceiling = float(ceiling)
        self._probe = Probe()
        self._let_in = math.inf
        self._accepted: collections.deque[tuple[float, int]] = collections.deque(maxlen=_RECENT)
        self._bound = False
        self._entered_at = now
        self._goodput = Goodput(self.size, now)

    def holds_back(self) -> bool:
        """Return whether no more may leave before one has ended; if so, this is what limits."""
        if self.in_flight < int(self.size):
            return False
        self._bound = True
        return True

    def enter(self, now: float, *, grow: bool) -> int:
        """Count one more; return how many there are."""
        self.in_flight += 1
        if self._bound:
            self._bound = False
            if grow and self._probe.found:
                self._probe.grow(min(1.0, now - self._entered_at))
                self.size = min(self._ceiling, max(1.0, self._probe.value))
        self._entered_at = now
        return self.in_flight

    def leave(self) -> None:
        """Count one less."""
        self.in_flight -= 1

    def answered(self, now: float, in_flight: int, tokens: int, *, grow: bool) -> None:
        """Note an answer to a request that left as one of so many; grow, if this is what limits."""
        self._accepted.append((now, in_flight))
        if self._probe.found:
            return
        enough = self._goodput.enough(now, tokens, self.size)
        if enough is not None:
            self.size = enough
        elif grow and self.in_flight >= self.size - 1 and now >= self._goodput.held_until:
            self.size = min(self._ceiling, self.size + 1)

    def hit(self, now: float, in_flight: int, *, certain: bool) -> bool:
        """Return whether the provider, which has just refused a request, seems to count those in flight.

        It does not where it has let others in that left when there were as many. Where it is not `certain` that it
        refuses for a reason of ours, only what is known already is held to be it.
        """
        if not certain and (not self._probe.found or in_flight < _SUSTAINED * self.size):
            return False
        recent = [others for at, others in self._accepted if at >= now - _RECENT_S]
        against = sum(others >= in_flight for others in recent)
        if against > 0.3 * len(recent) and against >= 3:
            self._probe.forget()
            return False
        self._let_in = self.in_flight - 1
        self._cut()
        return True

    def hit_before(self) -> None:
        """Note a refusal that was on its way when the last one came: one less had been let in."""
        if self._probe.found:
            self._let_in -= 1
            self._cut()

    def _cut(self) -> None:
        self._probe.hit(max(1.0, self._let_in) + 0.9, _PERIOD_S, under=False)
        self.size = min(self._ceiling, self._probe.value)


class Goodput:
    """Compares how fast answers came with smaller and larger windows, a window's worth of answers at a time."""

    def __init__(self, size: float, now: float) -> None:
        self.held_until = -math.inf
        self._best = (0.0, 0.0)
        self._best_size = size
        self._restart(now, size)

    def enough(self, now: float, tokens: int, size: float) -> float | None:
        """Return the window to go back to, if the growth since then has gained nothing."""
        self._answers += 1
        self._tokens += tokens
        if self._answers < self._size or now <= self._since:
            return None
        passed = now - self._since
        rates = (self._answers / passed, self._tokens / passed)
        began_with = self._size
        self._restart(now, size)
        if rates[0] > _FASTER * self._best[0] or rates[1] > _FASTER * self._best[1]:
            self._best, self._best_size = rates, began_with
        elif began_with >= _FOR_NOTHING * self._best_size:
            self.held_until = now + _HELD_S
            self._best = rates
            self._restart(now, self._best_size)
            return self._best_size
        return None

    def _restart(self, now: float, size: float) -> None:
        self._since = now
        self._answers = 0
        self._tokens = 0
        self._size = size
