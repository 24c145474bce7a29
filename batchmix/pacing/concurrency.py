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

_FIRST_SIZE = 128
"""The first window, in requests. Halved, simulation "3000 requests, configured" fails with random throttles."""
_MIN_HOLD_S, _MAX_HOLD_S = 7.0, 20.0
"""The shortest and the longest hold: the seconds for which the window keeps its size after a throttle.

Simulations pass with 3.5–14 s for the shortest, and with up to 40 s for the longest.
"""
_HOLD_TO_PAUSE = 20
"""The hold is this many times the pause after the throttle, within the bounds above. Simulations pass with 10–40."""
_HOLD_COMPLETIONS = 40
"""The hold lasts at least as long as this many completions take. Simulations pass with 20–80."""
_RECENT_COMPLETIONS_S, _RECENT_COMPLETIONS = 10.0, 256
"""The recent completions show which number in flight the provider accepts: those of this many seconds, and at most so
many. Simulations pass with 5–20 s and 128–512 completions.
"""
_FADING = 0.98
"""At each throttle, the remembered largest window is multiplied by this. Half passes."""
_UNDER = 0.99
"""The window after a throttle, as a share of the number that was accepted.

Halved or doubled, simulation "50 at once" fails.
"""
_NOISE = 1.05
"""Our count of requests in flight may exceed the provider's by this factor, because some are on the network.

Halved, simulation "50 at once" fails.
"""
_UNCERTAIN = 0.15
"""The uncertainty of the numbers in flight at the throttles, in requests. Simulations pass with 0.075–0.3."""
_USELESS_GROWTH = 1.5
"""A window that grew by this factor without a gain shrinks back. Halved or doubled, "no limit, slow" fails."""
_GAIN = 1.1
"""Goodput counts as higher only if it grew by this factor. Doubled, simulation "no limit, slow" fails."""
_NEARLY_FULL = 2
"""The window grows only if at most this many places in it are free. Simulations pass with 1–4."""
_MAX_STEP_S = 1.0
"""The search for a larger window advances by at most this many seconds per request. Simulations pass with 0.5–2 s."""
_NO_GROWTH_S = 30.0
"""Seconds without growth after growth that gained nothing. Simulations pass with 15–60 s."""


class Window:
    """Counts the requests in flight. There may be as many as `size`.

    While the window makes requests wait, its size doubles about once per round trip, until goodput no longer rises or
    the provider turns out to limit the number in flight.
    """

    def __init__(self, ceiling: int, now: float) -> None:
        self.in_flight = 0
        self.size = float(min(ceiling, _FIRST_SIZE))
        self._ceiling = float(ceiling)
        self._search = StepSearch()
        # The numbers in flight at the last throttles, not counting the throttled request.
        self._at_throttles: collections.deque[int] = collections.deque(maxlen=COMPARED)
        self._early = 0  # consecutive throttles at a size that had been accepted before
        self._largest = 0.0  # the highest number accepted at a throttle, fading
        self._pause_s = 0.0
        self._accepted: collections.deque[tuple[float, int]] = collections.deque(maxlen=_RECENT_COMPLETIONS)
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
        """Count a request that is sent; return the number now in flight. The window may grow if `grow` allows it."""
        self.in_flight += 1
        if self._held_back:
            self._held_back = False
            if grow and self._search.is_found:
                self._search.grow(min(_MAX_STEP_S, now - self._entered_at))
                self.size = min(self._ceiling, max(1.0, self._search.value))
        self._entered_at = now
        return self.in_flight

    def leave(self) -> None:
        """Count a request that is no longer in flight."""
        self.in_flight -= 1

    def completed(self, now: float, in_flight: int, tokens: int, *, grow: bool) -> None:
        """Record a completion of `tokens`. When its request was sent, `in_flight` requests were in flight.

        The window grows by one if `grow` allows it and the window is nearly full.
        """
        others = self.in_flight = self.in_flight - 1
        self._accepted.append((now, in_flight))
        if self._search.is_found:
            return
        better = self._goodput.completed(now, tokens, self.size)
        if better is not None:
            self.size = better
        elif grow and others >= self.size - _NEARLY_FULL and now >= self._goodput.held_until:
            self.size = min(self._ceiling, self.size + 1)

    def throttled(self, in_flight: int, pause_s: float) -> None:
        """Record a throttled request. When it was sent, `in_flight` requests were; a pause of `pause_s` begins."""
        if self._accepted_more(in_flight):
            self._at_throttles.clear()
        self._early = self._early + 1 if self._search.is_held else 0
        self._at_throttles.append(self.in_flight - 1)
        self._pause_s = pause_s

    def throttled_earlier(self) -> None:
        """Record another throttled request, which was sent before the last throttle was known.

        So the provider had accepted one request less at that throttle.
        """
        self._at_throttles[-1] = max(0, self._at_throttles[-1] - 1)

    @property
    def spread(self) -> float:
        """The relative spread of the numbers in flight at the last throttles; small if the provider limits them."""
        if len(self._at_throttles) < COMPARED or not self._at_throttles[-1]:
            return math.inf
        return relative_spread(self._at_throttles, _UNCERTAIN)

    @property
    def is_refuted(self) -> bool:
        """Whether the number in flight does not explain the last three throttles: it had been accepted before."""
        return self._early >= COMPARED

    def cut(self) -> None:
        """Set the window to about the number that was accepted at the last throttle, and hold it there for a while."""
        after_pause_s = min(_HOLD_TO_PAUSE * self._pause_s, _MAX_HOLD_S)
        hold_s = max(_MIN_HOLD_S, after_pause_s, _HOLD_COMPLETIONS / self._completions_per_s())
        self._search.hit(max(1, round(_UNDER * self._at_throttles[-1])), hold_s)
        self._largest = max(self._search.base, _FADING * self._largest)
        self.size = min(self._ceiling, self._search.value)

    def release(self) -> None:
        """Drop the measured limit, because the provider does not limit the number in flight."""
        if self._search.is_found:
            self._search.forget()
            self._at_throttles = collections.deque([self._at_throttles[-1]], maxlen=COMPARED)

    def _accepted_more(self, in_flight: int) -> bool:
        if not self._accepted:
            return False
        # From the last completion: in a long pause, there are none.
        since = self._accepted[-1][0] - _RECENT_COMPLETIONS_S
        more = [at for at, others in self._accepted if at >= since and others > _NOISE * in_flight + 1]
        return len(more) > 1

    def _completions_per_s(self) -> float:
        if len(self._accepted) < 2:
            return math.inf
        passed_s = max(self._accepted[-1][0] - self._accepted[0][0], 0.01)  # 0.01: no division by zero
        return (len(self._accepted) - 1) / passed_s


class Goodput:
    """Compares the goodput of smaller and larger windows. A window of n requests is measured over n completions."""

    def __init__(self, size: float, now: float) -> None:
        self.held_until = -math.inf
        """The window does not grow before this time."""
        self._best = (0.0, 0.0)  # completions and tokens per second
        self._best_size = size
        self._restart(now, size)

    def completed(self, now: float, tokens: int, size: float) -> float | None:
        """Count a completion. If growth of the window gained nothing, return the size to shrink to; otherwise None."""
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
            self.held_until = now + _NO_GROWTH_S
            self._best = rates
            self._restart(now, self._best_size)
            return self._best_size
        return None

    def _restart(self, now: float, size: float) -> None:
        self._since = now
        self._completions = 0
        self._tokens = 0
        self._size = size
