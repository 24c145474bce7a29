"""The slow start of a lane: how many requests may be on their way before it is known that they were not throttled.

A provider refuses within milliseconds what it answers only after seconds. So a request counts as accepted once it is
answered, or once it is older than throttled responses take. At first, 12 requests may be unconfirmed; each confirmed
one lets four more leave. After a throttle the ramp starts again, and each confirmed request lets one more leave, as
in TCP's slow start (RFC 5681, 3.1). This bounds how many requests run into a limit before the first 429 is heard. If
answers report what remains of a limit, no more requests are unconfirmed than that is enough for.
"""

from __future__ import annotations

import collections
import math

_FIRST = 12
"""Requests that may be unconfirmed at first. Of more, a queue for eight would refuse more than half. Chosen."""
_FIRST_GAIN = 4
"""How many more may leave for each confirmed request, until the first throttle. Chosen."""
_FIRST_DELAY_S, _MIN_DELAY_S, _MAX_DELAY_S = 1.2, 0.05, 2.0
"""Seconds after which a request counts as accepted: until the first throttle, and at least and at most after it. A
proxy's queue often refuses after just a second. A server nearby refuses one request in a millisecond, but not many.
"""
_SLOWER = 2.0
"""A request counts as accepted after this multiple of the time that throttled responses took lately. Chosen."""
_FORGET = 0.9
"""The weight of the earlier throttled responses in the longest time that they took. Chosen."""
_REPORT_S = 0.5
"""For so many seconds, no more is unconfirmed than what the last report leaves. Chosen."""
_ENOUGH = 4096
"""Once so many requests may be unconfirmed, the ramp is over. Chosen."""


class Ramp:
    """Bounds the unconfirmed requests. All times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self.is_over = False
        self.confirmed = 0
        """How many requests were confirmed since the last restart."""
        self.total = 0
        """How many were ever confirmed."""
        self._size = _FIRST
        self._gain = _FIRST_GAIN
        self._delay_s = _FIRST_DELAY_S
        self._longest_s = 0.0
        self._sent: collections.deque[float] = collections.deque()
        self._reports: dict[str, tuple[float, int]] = {}  # what remained of a limit at first, and the reports of it
        self._left: dict[str, tuple[float, float]] = {}  # for how many requests that is enough, and when it was known

    def wait_s(self, now: float) -> float:
        """Return the seconds until the next request may leave."""
        sent = self._sent
        while sent and sent[0] <= now - self._delay_s:
            sent.popleft()
            self._confirm()
        size = min([self._size, *(left for left, at in self._left.values() if now < at + _REPORT_S)])
        if len(sent) < size:
            return 0.0
        return max(sent[0] + self._delay_s - now, 1e-6)

    def reported(self, now: float, limit: str, remaining: float) -> None:
        """Bound the unconfirmed requests by what a report leaves of a limit, at the mean charge so far.

        A report does not know of the requests that still wait for the provider.
        """
        if not 0 <= remaining < math.inf:
            return
        first, count = self._reports.get(limit, (remaining, 0))
        if remaining > first:  # some of it is back
            first, count = remaining, 0
        self._reports[limit] = first, count + 1
        if remaining < first:
            self._left[limit] = max(1.0, remaining * count / (first - remaining)), now

    def add(self, now: float) -> None:
        """Count a request that leaves."""
        self._sent.append(now)

    def answered(self, sent_at: float) -> None:
        """Confirm a request that was sent at `sent_at` and was not throttled."""
        if self._sent and sent_at >= self._sent[0]:
            self._sent.popleft()
            self._confirm()

    def throttled(self, now: float, sent_at: float) -> None:
        """Count a throttled request, and learn how long throttled responses take."""
        if self._sent and sent_at >= self._sent[0]:
            self._sent.popleft()
        self._longest_s = max(now - sent_at, _FORGET * self._longest_s)
        self._delay_s = min(_MAX_DELAY_S, max(_MIN_DELAY_S, _SLOWER * self._longest_s))

    def restart(self, size: int) -> None:
        """Begin again with `size` unconfirmed requests."""
        self.is_over = False
        self.confirmed = 0
        self._gain = 1
        self._sent.clear()  # requests from before the throttle confirm nothing
        self._size = max(1, size)

    @property
    def unconfirmed(self) -> int:
        """The number of unconfirmed requests."""
        return len(self._sent)

    def _confirm(self) -> None:
        self.confirmed += 1
        self.total += 1
        self._size += self._gain
        if self._size >= _ENOUGH:
            self.is_over = True
            self._sent.clear()
