"""The window of a lane: how many of its requests may be in flight at once, like TCP's congestion window.

While it makes requests wait, the window grows by one request for each completion, as in slow start (RFC 5681, 3.1),
until the latency rises as fast as the number in flight: then more would only queue. If the provider throttles by the
number in flight, the window is set to just below the number that was accepted, held there for some seconds, and then
raised in doubling steps until the next throttle. Throttles by the number in flight show themselves: when they come,
hardly any request was accepted with as many in flight.
"""

from __future__ import annotations

import collections
import math

import msgspec

_FIRST_SIZE = 128
"""The first window, in requests."""
_HOLD_S = 10.0
"""Seconds for which the window keeps its size after a throttle."""
_HOLD_COMPLETIONS = 40
"""The hold lasts at least as long as this many completions take."""
_STEP_S = 0.7
"""Seconds between two steps of growth after the hold: longer than a throttled response takes."""
_RECENT = 256
"""So many recent completions show which number in flight the provider accepts."""
_FAR = 0.85
"""A number in flight below this share of the highest accepted one is far from the limit."""
_HITS, _TOP, _AGREE = 4, 0.2, 0.2
"""If at so many hits in succession less than the second share of the requests accepted lately were sent with as many in
flight, and these numbers differ by less than the third share, the provider limits them."""
_REFUTED = 3
"""After so many hits in succession that are early, or far from the limit, it is not what the provider limits."""
_NO_GAIN = 0.9
"""Growth gained nothing if the latency grew by more than this share of the growth of the number in flight."""
_MEASURED, _FEW = 20, 5
"""So many completions give the mean latency of a window, and of a smaller one."""
_SHORT_S, _LONG_S = 5.0, 30.0
"""With a mean latency below the first, the window grows before its size was measured. Above the second, only after
completions of half of its size, since the first to come are the quickest. Seconds, chosen.
"""
_NO_GROWTH_S = 30.0
"""Seconds without growth after growth that gained nothing."""


class _AtHit(msgspec.Struct):
    """How many other requests were in flight, and which share of those accepted lately had at least as many."""

    others: int
    share: float


class Window:
    """Counts the requests in flight. There may be as many as `size`."""

    def __init__(self, ceiling: int, now: float) -> None:
        self.in_flight = 0
        self.size = float(min(ceiling, _FIRST_SIZE))
        self.is_found = False
        """Whether the provider turned out to limit the number in flight."""
        self._ceiling = float(ceiling)
        self._base = math.inf
        self._age_s, self._hold_s = 0.0, _HOLD_S
        self._hits: collections.deque[_AtHit] = collections.deque(maxlen=_HITS)
        self._completions = ceiling  # since the last throttle that was remembered
        self._doubts = 0  # consecutive hits that the number in flight does not explain
        self._accepted: collections.deque[tuple[float, int]] = collections.deque(maxlen=_RECENT)
        self._held_back = False
        self._entered_at = now
        self._room = self.size  # the window grows up to here
        self._latency = _Latency()

    @property
    def is_far(self) -> bool | None:
        """Whether clearly fewer requests are in flight than the provider accepts; None while no such limit is known."""
        return self.in_flight < _FAR * self._base if self.is_found else None

    def hold_back(self) -> None:
        """Record that a request could not leave because the window is full."""
        self._held_back = True

    def enter(self, now: float, *, grow: bool) -> int:
        """Count a request that is sent; return the number now in flight. The window may grow if `grow` allows it."""
        self.in_flight += 1
        if self._held_back:
            self._held_back = False
            if grow and self.is_found:
                self._age_s += min(1.0, now - self._entered_at)
                steps = (self._age_s - self._hold_s) / _STEP_S
                more = 0.0 if steps < 0 else 2.0 ** min(math.floor(steps), 60)
                self.size = min(self._ceiling, max(1.0, self._base + more))
        self._entered_at = now
        return self.in_flight

    def leave(self) -> None:
        """Count a request that is no longer in flight."""
        self.in_flight -= 1

    def completed(self, now: float, sent_at: float, in_flight: int, *, grow: bool) -> None:
        """Record a completion. When its request was sent, `in_flight` requests were in flight."""
        others = self.in_flight = self.in_flight - 1
        self._completions += 1
        self._accepted.append((now, in_flight))
        if self.is_found:
            return
        self._latency.completed(now - sent_at, in_flight)
        if grow and others >= self.size - 2:
            if self.size >= self._room and self._latency.has_room(now, self.size):
                self._room = 2 * self.size
            self.size = min(self._ceiling, self._room, self.size + 1)

    def throttled(self, in_flight: int) -> None:
        """Record a throttled request. When it was sent, `in_flight` requests were."""
        if self._completions < in_flight / 2:
            return  # it tells what the last one told
        self._completions = 0
        recent = [others >= in_flight for _, others in self._accepted]
        self._hits.append(_AtHit(in_flight - 1, sum(recent) / max(1, len(recent))))

    def hit_earlier(self) -> None:
        """Record another throttled request, which was sent before the last hit was known: one less was accepted."""
        if self._hits:
            self._hits[-1].others = max(0, self._hits[-1].others - 1)
        if self.is_found and not self._doubts:
            self._cut()

    def explains_hit(self) -> bool:
        """Record that a limit was hit; return whether it is the number in flight. If so, the window is cut to it."""
        last, others = self._hits[-1], [hit.others for hit in self._hits]
        if self.is_found:
            is_far = last.others < _FAR * self._base
            self._doubts = self._doubts + 1 if is_far or self._age_s < self._hold_s else 0
            if self._doubts >= _REFUTED:
                self._release()
            elif not is_far:
                self._cut()
        else:
            agree = len(others) == _HITS and max(others) - min(others) + 0.5 < _AGREE * sum(others) / _HITS
            if agree and max(hit.share for hit in self._hits) < _TOP:
                self._cut()
        return self.is_found

    def _cut(self) -> None:
        """Set the window to about the number that was accepted at the last hit, and hold it there for a while."""
        self.is_found = True
        self._base = max(1.0, round(0.99 * self._hits[-1].others))
        self._age_s, self._hold_s = 0.0, max(_HOLD_S, _HOLD_COMPLETIONS / self._completions_per_s())
        self.size = min(self._ceiling, self._base)

    def _release(self) -> None:
        """Drop the measured limit, because the provider does not limit the number in flight."""
        self.is_found = False
        self._base, self._doubts = math.inf, 0
        self._hits = collections.deque([self._hits[-1]], maxlen=_HITS)

    def _completions_per_s(self) -> float:
        if len(self._accepted) < 2:
            return math.inf
        return (len(self._accepted) - 1) / max(self._accepted[-1][0] - self._accepted[0][0], 0.01)


class _Latency:
    """Compares the latencies of requests that were sent while few and while many requests were in flight.

    The numbers in flight are compared by octaves: 65 to 128 with 33 to 64, and so on.
    """

    def __init__(self) -> None:
        self.held_until = -math.inf
        """The window does not grow before this time."""
        self._octaves: dict[int, list[float]] = {}  # count, and sums of latencies and of numbers in flight

    def completed(self, latency_s: float, in_flight: int) -> None:
        """Count a completion. When its request was sent, `in_flight` requests were in flight."""
        octave = self._octaves.setdefault((in_flight - 1).bit_length(), [0.0, 0.0, 0.0])
        if octave[0] >= max(2 * _MEASURED, in_flight):  # prefer the recent ones
            octave[:] = (part / 2 for part in octave)
        octave[0] += 1
        octave[1] += latency_s
        octave[2] += in_flight

    def has_room(self, now: float, size: float) -> bool:
        """Return whether a window of this size may grow: it was measured, and brought more than a smaller one."""
        if now < self.held_until:
            return False
        top = (math.ceil(size) - 1).bit_length()
        many = self._octaves.get(top)
        if many is None or many[0] < _MEASURED:
            count, seconds = (sum(octave[part] for octave in self._octaves.values()) for part in (0, 1))
            return seconds < _SHORT_S * count
        if many[1] > _LONG_S * many[0] and many[0] < size / 2:
            return False
        few = next((few for low in range(top - 1, 0, -1) if (few := self._octaves.get(low)) and few[0] >= _FEW), None)
        if few is None:
            return True
        growth = many[2] / many[0] * few[0] / few[2]
        slower = many[1] / many[0] * few[0] / few[1]
        if slower <= 1 + _NO_GAIN * (growth - 1):
            return True
        self.held_until = now + _NO_GROWTH_S
        self._octaves.pop(top)
        return False
