"""The window of a lane: how many of its requests may be in flight at once, like TCP's congestion window.

At first the window grows by one request for each completion, as in slow start (RFC 5681, 3.1), until goodput
(completions or tokens per second) no longer rises. If the provider throttles by the number in flight, the window is set
to just below the number that was accepted, held there for some seconds, and then raised in doubling steps
(`StepSearch`) until the next throttle.

The constants were tuned with the simulated providers of tests/pacing/test_simulation.py.
"""

from __future__ import annotations

import collections
import math

from batchmix.pacing.limit_search import COMPARED, FAR, StepSearch, relative_spread

_START = 128
"""The first window, in requests. Halved, simulation "3000 requests, configured" fails with random throttles."""
_MIN_HOLD_S, _MAX_HOLD_S = 7.0, 20.0
"""Seconds to hold the window after a throttle by the number in flight; shorter where a throttle costs little time.

Simulations pass with 3.5–14 s for the minimum, and with up to 40 s for the maximum.
"""
_COST = 20
"""The hold as a multiple of the pause that the throttle cost, within those bounds. Simulations pass with 10–40."""
_SPACED = 40
"""The hold lasts at least as long as this many completions take. Simulations pass with 20–80."""
_RECENT_S, _RECENT = 10.0, 256
"""How many seconds, and how many completions at most, are looked back at to see how many in flight are accepted.

Simulations pass with 5–20 s and 128–512 completions.
"""
_FADING = 0.98
"""At each throttle, the largest window found before counts for this share of itself. Half passes."""
_UNDER = 0.99
"""The window after a throttle, as a share of what was accepted. Halved or doubled, simulation "50 at once" fails."""
_NOISE = 1.05
"""The count of requests in flight here may exceed the provider's by this factor, since some are on the network.

Halved, simulation "50 at once" fails.
"""
_USELESS_GROWTH = 1.5
"""A window that grew by this factor without a gain shrinks back. Halved or doubled, "no limit, slow" fails."""
_GAIN = 1.1
"""Goodput higher by this factor is a gain. Doubled, simulation "no limit, slow" fails."""
_HELD_S = 30.0
"""Seconds without growth after it gained nothing; then growth is tried again. Simulations pass with 15–60 s."""


class Window:
    """Counts the requests in flight; `size` is how many there may be.

    The size doubles about once per round trip while it makes requests wait, until goodput no longer rises or the
    provider is found to limit the number in flight.
    """

    def __init__(self, ceiling: int, now: float) -> None:
        self.in_flight = 0
        self.size = float(min(ceiling, _START))
        self._ceiling = float(ceiling)
        self._search = StepSearch()
        self._at_throttles: collections.deque[int] = collections.deque(maxlen=COMPARED)  # less the throttled one
        self._early = 0  # consecutive throttles while no more was tried than had been accepted
        self._largest = 0.0  # the highest number accepted at a throttle, fading
        self._pause_s = 0.0
        self._accepted: collections.deque[tuple[float, int]] = collections.deque(maxlen=_RECENT)
        self._held_back = False
        self._entered_at = now
        self._goodput = Goodput(self.size, now)

    @property
    def is_far(self) -> bool | None:
        """Whether clearly fewer requests are in flight than the provider accepts; None while no such limit is known."""
        return self.in_flight < FAR * self._largest if self._search.is_found else None

    def hold_back(self) -> None:
        """Record that a request could not leave because the window is full."""
        self._held_back = True

    def enter(self, now: float, *, grow: bool) -> int:
        """Count one more request in flight and return their number. `grow`: the window may try more now."""
        self.in_flight += 1
        if self._held_back:
            self._held_back = False
            if grow and self._search.is_found:
                self._search.grow(min(1.0, now - self._entered_at))
                self.size = min(self._ceiling, max(1.0, self._search.value))
        self._entered_at = now
        return self.in_flight

    def leave(self) -> None:
        """Count one request less in flight."""
        self.in_flight -= 1

    def completed(self, now: float, in_flight: int, tokens: int, *, grow: bool) -> None:
        """Record a completion. `in_flight` is the number when its request left, `tokens` is its usage.

        The window grows by one, if `grow` allows it and the window is nearly full.
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

    def throttled(self, in_flight: int, pause_s: float) -> None:
        """Record a throttled request; `in_flight` is the number when it left. A pause of `pause_s` seconds begins."""
        if self._accepted_more(in_flight):
            self._at_throttles.clear()
        self._early = self._early + 1 if self._search.is_held else 0
        self._at_throttles.append(self.in_flight - 1)
        self._pause_s = pause_s

    def throttled_earlier(self) -> None:
        """Record another throttled request that had left before the last throttle: one less had been accepted then."""
        self._at_throttles[-1] = max(0, self._at_throttles[-1] - 1)

    @property
    def spread(self) -> float:
        """The relative spread of the numbers in flight at the last throttles; small where the provider limits them."""
        if len(self._at_throttles) < COMPARED or not self._at_throttles[-1]:
            return math.inf
        return relative_spread(self._at_throttles, 0.15)

    @property
    def is_refuted(self) -> bool:
        """Whether three throttles in a row came although no more requests were in flight than had been accepted."""
        return self._early >= COMPARED

    def cut(self) -> None:
        """Set the window to about what was in flight and accepted at the last throttle, and hold it for a while."""
        hold_s = max(_MIN_HOLD_S, min(_COST * self._pause_s, _MAX_HOLD_S), _SPACED / self._completions_per_s())
        self._search.hit(max(1, round(_UNDER * self._at_throttles[-1])), hold_s)
        self._largest = max(self._search.base, _FADING * self._largest)
        self.size = min(self._ceiling, self._search.value)

    def release(self) -> None:
        """Drop the limit that was found, because the provider does not limit the number in flight."""
        if self._search.is_found:
            self._search.forget()
            self._at_throttles = collections.deque([self._at_throttles[-1]], maxlen=COMPARED)

    def _accepted_more(self, in_flight: int) -> bool:
        if not self._accepted:
            return False
        since = self._accepted[-1][0] - _RECENT_S  # counted from the last completion, since none come in a long pause
        more = [at for at, others in self._accepted if at >= since and others > _NOISE * in_flight + 1]
        return len(more) > 1

    def _completions_per_s(self) -> float:
        if len(self._accepted) < 2:
            return math.inf
        return (len(self._accepted) - 1) / max(self._accepted[-1][0] - self._accepted[0][0], 0.01)


class Goodput:
    """Compares the goodput of smaller and larger windows. Each is measured over as many completions as its size."""

    def __init__(self, size: float, now: float) -> None:
        self.held_until = -math.inf
        """The window does not grow before this time."""
        self._best = (0.0, 0.0)  # completions and tokens per second
        self._best_size = size
        self._restart(now, size)

    def completed(self, now: float, tokens: int, size: float) -> float | None:
        """Count a completion. Return the window to shrink back to if growth beyond it gained nothing, else None."""
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
