"""How many requests may be in flight: more while answers come faster for it, fewer where the provider counts them."""

from __future__ import annotations

import collections
import math

from batchmix.pacing.limit_search import Climb, spread

_START = 128
_LEAST_HOLD_S, _MOST_HOLD_S = 7.0, 20.0
"""How soon more is tried after the provider refused by the number in flight: sooner where a refusal costs little."""
_COST = 20
"""So many times the pause that a refusal costs."""
_SPACED = 40
"""So many requests at least are let in for one that is refused in trying for more."""
_HITS = _REFUTED = 3
"""Refusals that are compared."""
_RECENT_S, _RECENT = 10.0, 256
"""The answers that speak for or against that."""
_FAR = 0.85
_FADING = 0.98
"""How much of the largest window that was refused is remembered at each refusal."""
_UNDER = 0.99
_NOISE = 1.05
"""What is in flight here and what the provider counts differ by what is on the way."""
_FOR_NOTHING = 1.5
"""A window that much larger without a gain was grown for nothing."""
_FASTER = 1.1
"""A goodput that much higher is a gain."""
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
        self._cap = Climb()
        self._hits: collections.deque[int] = collections.deque(maxlen=_HITS)
        self._early = 0
        self._most = 0.0
        self._rest_s = 0.0
        self._accepted: collections.deque[tuple[float, int]] = collections.deque(maxlen=_RECENT)
        self._bound = False
        self._entered_at = now
        self._goodput = Goodput(self.size, now)

    @property
    def is_far(self) -> bool | None:
        """Whether many more were in flight when they were last counted; None where they never were."""
        return self.in_flight < _FAR * self._most if self._cap.found else None

    def hold_back(self) -> None:
        """Record that a request could not leave because as many are in flight as may be."""
        self._bound = True

    def enter(self, now: float, *, grow: bool) -> int:
        """Count one more; return how many there are."""
        self.in_flight += 1
        if self._bound:
            self._bound = False
            if grow and self._cap.base < math.inf:
                self._cap.grow(min(1.0, now - self._entered_at))
                self.size = min(self._ceiling, max(1.0, self._cap.value))
        self._entered_at = now
        return self.in_flight

    def leave(self) -> None:
        """Count one less."""
        self.in_flight -= 1

    def completed(self, now: float, in_flight: int, tokens: int, *, grow: bool) -> None:
        """Count one less, whose completion has come; it left as one of so many. Grow, if this is what limits."""
        others = self.in_flight = self.in_flight - 1
        self._accepted.append((now, in_flight))
        if self._cap.base < math.inf:
            return
        enough = self._goodput.enough(now, tokens, self.size)
        if enough is not None:
            self.size = enough
        elif grow and others >= self.size - 2 and now >= self._goodput.held_until:
            self.size = min(self._ceiling, self.size + 1)

    def hit(self, in_flight: int, rest_s: float) -> None:
        """Note that the provider refused a request that left as one of so many; now is a pause of `rest_s`."""
        if self._let_in_more(in_flight):
            self._hits.clear()
        self._early = self._early + 1 if self._cap.is_held else 0
        self._hits.append(self.in_flight - 1)
        self._rest_s = rest_s

    @property
    def spread(self) -> float:
        """How much what was in flight at the last refusals differed: hardly, where it is what the provider counts."""
        if len(self._hits) < _HITS or not self._hits[-1]:
            return math.inf
        return spread(self._hits, 0.15)

    @property
    def is_refuted(self) -> bool:
        """Whether it was refused again and again although no more were in flight than had been let in."""
        return self._early >= _REFUTED

    def cut(self) -> None:
        """Stay for a while at what was let in at the last refusal."""
        hold_s = max(_LEAST_HOLD_S, min(_COST * self._rest_s, _MOST_HOLD_S), _SPACED / self._answers_per_s())
        self._cap.hit(max(1, round(_UNDER * self._hits[-1])), hold_s)
        self._most = max(self._cap.base, _FADING * self._most)
        self.size = min(self._ceiling, self._cap.value)

    def hit_before(self) -> None:
        """Note a refusal that was on its way when the last one came: one less had been let in."""
        self._hits[-1] = max(0, self._hits[-1] - 1)

    def forget(self) -> None:
        """It is not what the provider counts."""
        if self._cap.found:
            self._cap.forget()
            self._hits = collections.deque([self._hits[-1]], maxlen=_HITS)

    def _let_in_more(self, in_flight: int) -> bool:
        if not self._accepted:
            return False
        since = self._accepted[-1][0] - _RECENT_S  # not from now: in a long pause nothing is learned
        more = [at for at, others in self._accepted if at >= since and others > _NOISE * in_flight + 1]
        return len(more) > 1

    def _answers_per_s(self) -> float:
        if len(self._accepted) < 2:
            return math.inf
        return (len(self._accepted) - 1) / max(self._accepted[-1][0] - self._accepted[0][0], 0.01)


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
