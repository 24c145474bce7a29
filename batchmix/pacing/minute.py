"""A limit that is used up at once and back after a minute, although the provider says nothing of it.

Most providers count by the minute: by the clock, from the first request on, or over the last sixty seconds. If nothing
at all is accepted for a while, and then again at the turn of the clock's minute, or a minute after the first request,
it is such a limit. Then no more is sent in any sixty seconds than was accepted before it was used up. That keeps the
limit however its minutes are counted, and needs no throttle to find it again.

    accepted │▂▅█          ▂▅█          ▂▅█           the same as a minute ago, and now and then
             └────────────────────────────────        one more, to see whether there is more
              0            60           120 s

Amounts are requests or tokens; `now` is seconds of a monotonic clock.
"""

from __future__ import annotations

import bisect
import math

from batchmix.pacing.rate_search import Accepted

_SPAN_S = 60.0
"""The length of a minute."""
_GRAIN_S, _JITTER_S = 0.1, 0.1
"""What was accepted is kept in steps of so many seconds. Requests arrive earlier or later than usual by so many."""
_KEPT_S = 240.0
"""For half as many seconds it is kept what was accepted when."""
_PROBED = 64
"""After so many requests, one more is sent than the limit allows. This keeps the throttled share below 2 %."""
_PROBE_S = 2.0
"""A probe was accepted unless it is throttled within so many seconds."""
_NEARLY = 0.93
"""If at least this share of the limit is used, a throttle shows that it is a little lower."""


class Minute:
    """What may be sent within a minute. `accepted` is kept up to date by the caller."""

    def __init__(self, accepted: Accepted, most: float) -> None:
        """`most` is the amount that the job tells for a minute; infinite if it tells none."""
        self.limit = math.inf
        """The amount that is accepted within a minute; infinite while no such limit is known."""
        self._accepted, self._most = accepted, most
        self._log: list[tuple[float, float]] = []  # times, and what was accepted before
        self._since = -math.inf  # when a minute of the clock began: earlier requests do not count
        self._probed = 0  # accepted requests at the last probe
        self._probe_at = -math.inf
        self._more = 1  # requests that the next probe adds

    def take(self, now: float) -> None:
        """Record that a request leaves now. Call this before it is counted as accepted."""
        if not self._log or now >= self._log[-1][0] + _GRAIN_S:
            self._log.append((now, self._accepted.amount))
            if self._log[0][0] < now - _KEPT_S:
                del self._log[: self._after(now - _KEPT_S / 2)]

    def used(self, now: float) -> float:
        """Return the amount that was accepted within the last minute."""
        return self._accepted.amount - self._before(self._start(now))

    def back_at(self, used_up_at: float) -> float:
        """Return when the first request of the minute before `used_up_at` will be a minute old."""
        index = self._after(used_up_at - _SPAN_S)
        first = self._log[index][0] if index < len(self._log) else math.inf
        return first + _SPAN_S + _JITTER_S + _GRAIN_S

    def wait_s(self, now: float, amount: float) -> float:
        """Return the seconds until the minute has room for `amount`."""
        if self.limit == math.inf:
            return 0.0
        start, most = self._start(now), max(self.limit - amount, 0.0)
        if self._accepted.amount - self._before(start) <= most or self._may_probe(now, amount):
            return 0.0
        least, first = self._accepted.amount - most, self._after(start)
        index = bisect.bisect_left(self._log, least, first, key=lambda entry: entry[1])
        back_s = self._log[max(index - 1, first)][0] - start
        return max(back_s if self._more == 1 else min(back_s, self._probe_at + _PROBE_S - now), 1e-3)

    def _start(self, now: float) -> float:
        """Return since when requests count: what began by then was over a minute ago."""
        return max(now - _SPAN_S - _JITTER_S - _GRAIN_S, self._since)

    def _after(self, at: float) -> int:
        return bisect.bisect_right(self._log, (at, math.inf))

    def _before(self, at: float) -> float:
        """Return what had been accepted before the first request after `at`."""
        index = self._after(at)
        return self._log[index][1] if index < len(self._log) else self._accepted.amount

    def _may_probe(self, now: float, amount: float) -> bool:
        """Raise the limit by a request, to see whether that is accepted; by twice as many if it was."""
        requests = self._accepted.requests
        is_due = requests >= self._probed + _PROBED if self._more == 1 else now >= self._probe_at + _PROBE_S
        if not is_due or self.limit >= self._most:
            return False
        self._probed, self._probe_at = requests, now
        self.limit = min(self.limit + self._more * max(amount, self._accepted.mean), self._most)
        self._more *= 2
        return True

    def found(self, used_up_at: float, back_at: float, *, by_clock: bool) -> None:
        """Adopt the amount that was accepted within a minute until it was used up, and was back at `back_at`."""
        limit = self._before(back_at - _GRAIN_S) - self._before(max(used_up_at - _SPAN_S, self._since))
        self.limit = min(max(limit, self._accepted.mean), self._most)
        self._since = back_at - _GRAIN_S if by_clock else -math.inf
        self._probed, self._more = self._accepted.requests, 1

    def explains(self, now: float) -> bool:
        """Return whether the limit explains a throttle, for it is used up or nearly; then it is lowered."""
        used = self.used(now)
        if used < _NEARLY * self.limit:
            return False
        less = max(self.limit - used, 0.0)
        if now >= self._probe_at + _PROBE_S:  # not the probe: it may be a stray
            less /= 2
        self.limit = max(self.limit - less, self._accepted.mean)
        self._more = 1
        return True

    def forget(self) -> None:
        """Drop the limit: there is none of this kind."""
        self.limit = math.inf
