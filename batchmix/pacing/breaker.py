"""What keeps an outage from becoming a storm: a breaker for all requests of a lane, and a budget for its retries.

Pure logic on a clock that is handed in as `now` (seconds, monotonic).
"""

from __future__ import annotations

import math

from batchmix.records import Failure

_IN_A_ROW = 20
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 30.0
_AT_FIRST_S = 60.0
"""While no good answer has ever come, an outage is not waited for longer than this."""
_RETRIES_AT_ONCE = 100.0
_RETRY_SHARE, _RETRIES_PER_S = 0.25, 10.0


class Breaker:
    """A circuit breaker (Nygard, Release It!): after twenty requests in a row that failed, one is tried now and then.

    Only trouble that may pass counts; a refusal shows that somebody is there. The pause before each try doubles up to
    half a minute. When nothing else has come for `patience_s`, `given_up` is the last failure.
    """

    def __init__(self, patience_s: float) -> None:
        self.given_up: Failure | None = None
        self.is_open = False
        """Whether only a try may leave now and then."""
        self.is_clear = False
        """Whether the last outcome was a good one, so that another changes nothing."""
        self._patience_s = patience_s
        self._ever_good = False
        self._failed = 0
        self._open_since = 0.0
        self._next_at = 0.0
        self._pause_s = _FIRST_PAUSE_S
        self._trying = False

    def wait_s(self, now: float) -> float:
        """Return how long the next request has to wait: infinity until the one that is tried has ended."""
        if not self.is_open:
            return 0.0
        return math.inf if self._trying else max(0.0, self._next_at - now)

    def leaves(self) -> None:
        """Record that a request leaves; of interest only while it is open."""
        self._trying = self.is_open

    def good(self) -> None:
        """Take note of an answer, or of a refusal that is none of the provider's trouble."""
        self._ever_good = self.is_clear = True
        self._failed = 0
        self.is_open = False
        self._trying = False
        self._pause_s = _FIRST_PAUSE_S

    def unknown(self) -> None:
        """Take note that what was tried has said nothing: another one may leave."""
        self._trying = False

    def bad(self, now: float, sent_at: float, failure: Failure) -> None:
        """Take note of passing trouble with a request that was sent at `sent_at`."""
        self._failed += 1
        self.is_clear = False
        if not self.is_open:
            if self._failed >= _IN_A_ROW:
                self.is_open = True
                self._open_since = now
                self._next_at = now + self._pause_s
        elif sent_at >= self._next_at:  # else it had left before
            self._trying = False
            self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
            self._next_at = now + self._pause_s
            patience_s = self._patience_s if self._ever_good else min(self._patience_s, _AT_FIRST_S)
            if self._next_at - self._open_since > patience_s:
                self.given_up = failure


class RetryBudget:
    """A token bucket for retries after trouble: a quarter of the requests, and always ten a second."""

    def __init__(self, now: float) -> None:
        self.is_full = True
        """Whether a first attempt adds nothing."""
        self._left = _RETRIES_AT_ONCE
        self._at = now

    def sent(self) -> None:
        """Take note of a request's first attempt."""
        self._left = min(self._left + _RETRY_SHARE, _RETRIES_AT_ONCE)
        self.is_full = self._left == _RETRIES_AT_ONCE

    def wait_s(self, now: float) -> float:
        """Take a retry, and return how long it has to wait."""
        self._left = min(self._left + (now - self._at) * _RETRIES_PER_S, _RETRIES_AT_ONCE) - 1
        self._at = now
        self.is_full = False
        return max(0.0, -self._left / _RETRIES_PER_S)
