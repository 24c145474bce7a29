"""A circuit breaker for a lane (Nygard, Release It!): it keeps an outage from causing a storm of requests.

After 20 temporary failures in a row, the breaker opens; after 5 if they give no reason and nothing else is in flight.
From then on, a single trial request leaves after each pause, and the pause doubles from 1 s to 30 s. A trial that
succeeds closes the breaker. If trials have failed for `outage_s` seconds, the breaker gives up, and the caller stops
the lane.

All times are seconds of a monotonic clock. The caller passes the current time as `now`.
"""

from __future__ import annotations

import math

from batchmix.records import Failure

_IN_A_ROW = 20
"""How many failures in a row open the breaker. Chosen; tests/pacing/test_breaker.py fails with half and double."""
_ALONE = 5
"""How many refusals without a reason open the breaker if nothing else is in flight.

Until then they slow the lane down, so twenty could take long. Chosen; tests/pacing/test_breaker.py fails with half and
double.
"""
_FIRST_TRIAL_PAUSE_S, _MAX_TRIAL_PAUSE_S = 1.0, 30.0
"""The first and the longest pause before a trial request, in seconds. The pause doubles in between.

Chosen: an outage of an hour costs about 120 trial requests. tests/pacing/test_breaker.py fails with half and double of
each.
"""
_FIRST_OUTAGE_S = 60.0
"""Replaces a longer `outage_s`, in seconds, until a request has succeeded, because the address may be wrong.

Not while other requests are in flight: answers may take longer where most requests are refused at once.

Chosen; tests/pacing/test_breaker.py fails with half and double.
"""


class Breaker:
    """A circuit breaker: after 20 temporary failures in a row, only a trial request leaves after each pause.

    A refusal counts as a success, because it shows that the provider works. Once the breaker has been open for
    `outage_s` seconds, `given_up` is set to the last failure.
    """

    def __init__(self, outage_s: float) -> None:
        self.given_up: Failure | None = None
        self.is_open = False
        """Whether only trial requests may leave."""
        self.is_clear = False
        """Whether the last outcome was a success. Another call of `succeeded` then changes nothing."""
        self._outage_s = outage_s
        self._ever_succeeded = False
        self._failures = 0  # temporary failures in a row
        self._open_since = 0.0
        self._next_at = 0.0  # when the next trial request may leave
        self._pause_s = _FIRST_TRIAL_PAUSE_S
        self._in_trial = False

    def wait_s(self, now: float) -> float:
        """Return the seconds that the next request has to wait; infinity while a trial request is in flight."""
        if not self.is_open:
            return 0.0
        return math.inf if self._in_trial else max(0.0, self._next_at - now)

    def sent(self) -> None:
        """Record that a request leaves. While the breaker is open, that request is the trial."""
        self._in_trial = self.is_open

    def succeeded(self) -> None:
        """Record a completion, or a refusal that is not the provider's fault. This closes the breaker."""
        self._ever_succeeded = self.is_clear = True
        self._failures = 0
        self.is_open = False
        self._in_trial = False
        self._pause_s = _FIRST_TRIAL_PAUSE_S

    def inconclusive(self) -> None:
        """Record that a trial request was throttled, which proves nothing. Another trial may leave."""
        self._in_trial = False

    def failed(self, now: float, sent_at: float, failure: Failure, *, awaited: bool = False) -> None:
        """Record a temporary failure of a request that left at `sent_at`.

        `awaited` says whether others are in flight.
        """
        self._failures += 1
        self.is_clear = False
        if not self.is_open:
            if self._failures >= (_IN_A_ROW if awaited or not failure.may_be_throttling else _ALONE):
                self.is_open = True
                self._open_since = now
                self._next_at = now + self._pause_s
        elif sent_at >= self._next_at:  # a trial request: all others left before the pause was over
            self._in_trial = False
            self._pause_s = min(2 * self._pause_s, _MAX_TRIAL_PAUSE_S)
            self._next_at = now + self._pause_s
            patient = self._ever_succeeded or awaited
            outage_s = self._outage_s if patient else min(self._outage_s, _FIRST_OUTAGE_S)
            if self._next_at - self._open_since > outage_s:
                self.given_up = failure
