"""Limits the waits that a provider may ask for to the length of an outage (`retry.outage_s`)."""

from __future__ import annotations

import time

from batchmix.errors import FailureAction
from batchmix.records import Exchange, Failure

_AGAIN_S = 5.0
"""If the provider asks for too long a wait, the request is sent again after this many seconds: a single header may be
wrong."""


def requested_wait_s(failure: Failure, exchange: Exchange) -> float | None:
    """Return the wait, in seconds, that the provider asks for before a retry. None if it asks for no wait."""
    if failure.action not in (FailureAction.PAUSE, FailureAction.RETRY):  # there is no retry
        return None
    return failure.wait_s if exchange.retry_after_s is None else exchange.retry_after_s


def limited_wait_s(wait_s: float | None, longest_s: float) -> float | None:
    """Return the wait that the provider asked for, or a short wait instead if it is longer than `longest_s`."""
    return wait_s if wait_s is None or wait_s <= longest_s else min(_AGAIN_S, longest_s)


class WaitLimit:
    """Stops a lane if the provider asks for too long a wait.

    For example, it may take fourteen hours until a daily quota is available again, which is too long for a silent wait.
    After a response that asks for too long a wait, requests are sent once more. If the responses ask for too long a
    wait again, the lane is stopped, unless all of them concern a single row out of many. A lane is also stopped if
    every response was a throttle, even with a short wait, for `longest_s`.
    """

    def __init__(self, longest_s: float) -> None:
        self.is_clear = True
        """Whether no long wait and no throttling is recorded that an answer would clear."""
        self._longest_s = longest_s
        self._again_s = 0.9 * min(_AGAIN_S, longest_s)
        self._asked_at: float | None = None
        self._rows: set[int] = set()
        self._last: Failure | None = None
        self._throttled: tuple[float, set[int]] | None = None  # since when there were only throttles, and their rows

    def failed(self, now: float, sent_at: float, row: int, failure: Failure, wait_s: float | None) -> None:
        """Record a failure of a row; `wait_s` is the wait that the provider asked for. Times are monotonic."""
        if failure.action is FailureAction.PAUSE:
            self._count_throttled(now, row, failure)
        elif failure.action is not FailureAction.RETRY:
            self._throttled = None
        self.is_clear = self._throttled is None and self._asked_at is None
        if wait_s is None or wait_s <= self._longest_s:
            return
        self.is_clear = False
        self._rows.add(row)
        if self._asked_at is None:
            self._asked_at = now
        elif sent_at >= self._asked_at + self._again_s:
            until = time.strftime("%Y-%m-%d %H:%M", time.localtime(time.time() + wait_s))
            message = f"the provider asks to wait {_span(wait_s)}, until {until}; start again then: {failure.message}"
            self._last = Failure(FailureAction.STOP_MODEL, failure.type, message, failure.code)

    def _count_throttled(self, now: float, row: int, failure: Failure) -> None:
        if self._throttled is None:
            self._throttled = now, set()
        since, rows = self._throttled
        if len(rows) < 2:
            rows.add(row)
        elif now - since > self._longest_s and self._last is None:
            self._rows |= rows
            message = f"nothing else came for {_span(now - since)} (retry.outage_s): {failure.message}"
            self._last = Failure(FailureAction.STOP_MODEL, failure.type, message, failure.code)

    def answered(self, sent_at: float) -> None:
        """Record an answer to a request sent at `sent_at`. Long waits that were asked for before no longer count."""
        self._throttled = None
        if self._asked_at is None or sent_at >= self._asked_at:
            self._asked_at = self._last = None
            self._rows.clear()
        self.is_clear = self._asked_at is None

    def given_up(self, in_flight: int, open_rows: int) -> Failure | None:
        """Return the failure that stops the lane, or None if the lane may continue.

        The lane continues as long as requests are in flight: an answer to one of them would clear the failure.
        """
        return self._last if not in_flight and (len(self._rows) > 1 or open_rows == 1) else None


def _span(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
