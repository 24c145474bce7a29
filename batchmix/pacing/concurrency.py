"""How many requests may be in flight: more while throughput rises with it, fewer where the provider limits it."""

from __future__ import annotations

import collections
import math

from batchmix.pacing.limit_search import COMPARED, FAR, StepSearch, relative_spread

_START = 128
"""The first window. Halved: "3000 requests, configured" with random throttles."""
_MIN_HOLD_S, _MAX_HOLD_S = 7.0, 20.0
"""How soon more is tried after a throttle by the number in flight: sooner where a throttle costs little.

Any of 3.5–14 s passes for the first, and up to 40 s for the second.
"""
_COST = 20
"""The hold, in multiples of the pause that a throttle costs. Any of 10–40 passes."""
_SPACED = 40
"""At least so many completions for one throttle in the search for more. Any of 20–80 passes."""
_RECENT_S, _RECENT = 10.0, 256
"""The completions that show how many in flight the provider accepts: of the last seconds, and at most so many.

Any of 5–20 s and of 128–512 passes.
"""
_FADING = 0.98
"""The share of the largest throttled window that is still remembered at the next throttle. Half passes."""
_UNDER = 0.99
_NOISE = 1.05
"""Requests on the network are in flight here but not at the provider: the counts differ by about as much.

Halved, or the first doubled: "50 at once".
"""
_USELESS_GROWTH = 1.5
"""A window that grew by this factor without a gain grew for nothing. Halved or doubled: "no limit, slow"."""
_GAIN = 1.1
"""Goodput higher by this factor is a gain. Doubled: "no limit, slow"."""
_HELD_S = 30.0
"""After that long without growth it is tried again. Any of 15–60 s passes."""


class Window:
    """The number of requests in flight, and the most that may be.

    It starts like TCP's slow start (RFC 5681, 3.1): it doubles each round trip while it is what holds requests back,
    until goodput (completions and tokens a second) no longer rises. Where the provider throttles by the number in
    flight, the window is set to what was accepted, and more is tried from there.
    """

    def __init__(self, ceiling: int, now: float) -> None:
        self.in_flight = 0
        self.size = float(min(ceiling, _START))
        self._ceiling = float(ceiling)
        self._search = StepSearch()
        self._at_throttles: collections.deque[int] = collections.deque(maxlen=COMPARED)  # in flight, without that one
        self._early = 0
        self._largest = 0.0
        self._rest_s = 0.0
        self._accepted: collections.deque[tuple[float, int]] = collections.deque(maxlen=_RECENT)
        self._held_back = False
        self._entered_at = now
        self._goodput = Goodput(self.size, now)

    @property
    def is_far(self) -> bool | None:
        """Whether clearly fewer are in flight than the provider accepts; None while no such limit is found."""
        return self.in_flight < FAR * self._largest if self._search.is_found else None

    def hold_back(self) -> None:
        """Record that a request could not leave because the window is full."""
        self._held_back = True

    def enter(self, now: float, *, grow: bool) -> int:
        """Count one more in flight; return how many there are."""
        self.in_flight += 1
        if self._held_back:
            self._held_back = False
            if grow and self._search.is_found:
                self._search.grow(min(1.0, now - self._entered_at))
                self.size = min(self._ceiling, max(1.0, self._search.value))
        self._entered_at = now
        return self.in_flight

    def leave(self) -> None:
        """Count one less in flight."""
        self.in_flight -= 1

    def completed(self, now: float, in_flight: int, tokens: int, *, grow: bool) -> None:
        """Count one less in flight: its completion has come. `in_flight` were so when it left.

        Grow by one, if the window is what holds requests back.
        """
        others = self.in_flight = self.in_flight - 1
        self._accepted.append((now, in_flight))
        if self._search.is_found:
            return
        better = self._goodput.completed(now, tokens, self.size)
        if better is not None:
            self.size = better
        elif grow and others >= self.size - 2 and now >= self._goodput.held_until:
            self.size = min(self._ceiling, self.size + 1)

    def throttled(self, in_flight: int, rest_s: float) -> None:
        """Record a throttled request that left as one of `in_flight`; a pause of `rest_s` begins."""
        if self._accepted_more(in_flight):
            self._at_throttles.clear()
        self._early = self._early + 1 if self._search.is_held else 0
        self._at_throttles.append(self.in_flight - 1)
        self._rest_s = rest_s

    def throttled_earlier(self) -> None:
        """Record a throttled request that left before the last throttle was known: one less had been accepted."""
        self._at_throttles[-1] = max(0, self._at_throttles[-1] - 1)

    @property
    def spread(self) -> float:
        """The relative spread of the numbers in flight at the last throttles: small, where the provider limits them."""
        if len(self._at_throttles) < COMPARED or not self._at_throttles[-1]:
            return math.inf
        return relative_spread(self._at_throttles, 0.15)

    @property
    def is_refuted(self) -> bool:
        """Whether requests were throttled repeatedly although no more were in flight than was accepted before."""
        return self._early >= COMPARED

    def cut(self) -> None:
        """Stay for a while at what was accepted at the last throttle."""
        hold_s = max(_MIN_HOLD_S, min(_COST * self._rest_s, _MAX_HOLD_S), _SPACED / self._completions_per_s())
        self._search.hit(max(1, round(_UNDER * self._at_throttles[-1])), hold_s)
        self._largest = max(self._search.base, _FADING * self._largest)
        self.size = min(self._ceiling, self._search.value)

    def release(self) -> None:
        """Drop the limit that was found: the provider does not count what is in flight."""
        if self._search.is_found:
            self._search.forget()
            self._at_throttles = collections.deque([self._at_throttles[-1]], maxlen=COMPARED)

    def _accepted_more(self, in_flight: int) -> bool:
        if not self._accepted:
            return False
        since = self._accepted[-1][0] - _RECENT_S  # not from now: in a long pause nothing is learnt
        more = [at for at, others in self._accepted if at >= since and others > _NOISE * in_flight + 1]
        return len(more) > 1

    def _completions_per_s(self) -> float:
        if len(self._accepted) < 2:
            return math.inf
        return (len(self._accepted) - 1) / max(self._accepted[-1][0] - self._accepted[0][0], 0.01)


class Goodput:
    """Compares the throughput of smaller and larger windows, each over a window's worth of completions."""

    def __init__(self, size: float, now: float) -> None:
        self.held_until = -math.inf
        """The window does not grow before."""
        self._best = (0.0, 0.0)
        self._best_size = size
        self._restart(now, size)

    def completed(self, now: float, tokens: int, size: float) -> float | None:
        """Count a completion; return the window to go back to, if growth since then has gained nothing."""
        self._completions += 1
        self._tokens += tokens
        if self._completions < self._size or now <= self._since:
            return None
        passed = now - self._since
        rates = (self._completions / passed, self._tokens / passed)
        began_with = self._size
        self._restart(now, size)
        if rates[0] > _GAIN * self._best[0] or rates[1] > _GAIN * self._best[1]:
            self._best, self._best_size = rates, began_with
        elif began_with >= _USELESS_GROWTH * self._best_size:
            self.held_until = now + _HELD_S
            self._best = rates
            self._restart(now, self._best_size)
            return self._best_size
        return None

    def _restart(self, now: float, size: float) -> None:
        self._since = now
        self._completions = 0
        self._tokens = 0
        self._size = size
