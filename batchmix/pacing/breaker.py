"""What keeps an outage from becoming a storm of requests: a circuit breaker for a lane.

Pure logic: each method is given the time as `now` (seconds, monotonic).
"""

from __future__ import annotations

import math

from batchmix.records import Failure

_IN_A_ROW = 20
"""Failures in a row that open the breaker."""
_FIRST_PAUSE_S, _MAX_PAUSE_S = 1.0, 30.0
"""The pause before a trial request; it doubles from the first to the longest."""
_FIRST_OUTAGE_S = 60.0
"""The longest outage that is waited out before the first success: the address may be wrong."""


class Breaker:
    """A circuit breaker (Nygard, Release It!): after 20 failures in a row, only a trial request leaves now and then.

    Only temporary failures count; a refusal shows that the provider is there. The pause before each trial doubles up
    to half a minute. When nothing else has come for `outage_s`, `given_up` is the last failure.
    """

    def __init__(self, outage_s: float) -> None:
        self.given_up: Failure | None = None
        self.is_open = False
        """Whether only a trial request may leave now and then."""
        self.is_clear = False
        """Whether the last outcome was a success, so that another one changes nothing."""
        self._outage_s = outage_s
        self._ever_succeeded = False
        self._failures = 0  # in a row
        self._open_since = 0.0
        self._next_at = 0.0
        self._pause_s = _FIRST_PAUSE_S
        self._in_trial = False

    def wait_s(self, now: float) -> float:
        """Return how long the next request has to wait: infinity until the trial request has an outcome."""
        if not self.is_open:
            return 0.0
        return math.inf if self._in_trial else max(0.0, self._next_at - now)

    def sent(self) -> None:
        """Record that a request leaves; it matters only while the breaker is open."""
        self._in_trial = self.is_open

    def succeeded(self) -> None:
        """Record a completion, or a refusal that is no trouble of the provider's."""
        self._ever_succeeded = self.is_clear = True
        self._failures = 0
        self.is_open = False
        self._in_trial = False
        self._pause_s = _FIRST_PAUSE_S

    def inconclusive(self) -> None:
        """Record a trial request that was throttled: another one may leave."""
        self._in_trial = False

    def failed(self, now: float, sent_at: float, failure: Failure) -> None:
        """Record a temporary failure of a request that left at `sent_at`."""
        self._failures += 1
        self.is_clear = False
        if not self.is_open:
            if self._failures >= _IN_A_ROW:
                self.is_open = True
                self._open_since = now
                self._next_at = now + self._pause_s
        elif sent_at >= self._next_at:  # else it had left before
            self._in_trial = False
            self._pause_s = min(2 * self._pause_s, _MAX_PAUSE_S)
            self._next_at = now + self._pause_s
            outage_s = self._outage_s if self._ever_succeeded else min(self._outage_s, _FIRST_OUTAGE_S)
            if self._next_at - self._open_since > outage_s:
                self.given_up = failure
