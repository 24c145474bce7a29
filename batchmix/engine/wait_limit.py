"""The limit on waits that a provider asks for: no longer than an outage may last (`retry.outage_s`)."""

from __future__ import annotations

import time

from batchmix.errors import FailureAction
from batchmix.records import Exchange, Failure

_AGAIN_S = 5.0
"""If the provider asks for too long a wait, the request is sent again after this time, since one header may be
wrong."""


def requested_wait_s(failure: Failure, exchange: Exchange) -> float | None:
    """Return the seconds that a provider asks to wait before the request is sent again; None if it asks for none."""
    if failure.action not in (FailureAction.PAUSE, FailureAction.RETRY):  # it is not sent again
        return None
    return failure.wait_s if exchange.retry_after_s is None else exchange.retry_after_s


def limited_wait_s(wait_s: float | None, longest_s: float) -> float | None:
    """Return how long to wait if the provider asked for `wait_s`: exactly that, or a short time if it is too long."""
    return wait_s if wait_s is None or wait_s <= longest_s else min(_AGAIN_S, longest_s)


class WaitLimit:
    """Stops a lane whose provider asks for too long a wait.

    A daily quota, for example, may take fourteen hours to return, too long for a silent wait. After a response that
    asks for too long a wait, requests are sent once more. The lane is stopped if the responses then ask for too long
    again, unless they all concern one row of many. A lane that only gets short throttles is stopped too, once they have
    lasted for `longest_s`.
    """

    def __init__(self, longest_s: float) -> None:
        self.is_clear = True
        """Whether there is nothing that the next answer would have to clear."""
        self._longest_s = longest_s
        self._again_s = 0.9 * min(_AGAIN_S, longest_s)
        self._asked_at: float | None = None
        self._rows: set[int] = set()
        self._last: Failure | None = None
        self._throttled: tuple[float, set[int]] | None = None  # since when all responses were throttles, and their rows

    def failed(self, now: float, sent_at: float, row: int, failure: Failure, wait_s: float | None) -> None:
        """Record a row's failure, with monotonic times. `wait_s` is the wait that the provider asked for with it."""
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
        """Record an answer to a request sent at `sent_at`: it refutes earlier demands for long waits."""
        self._throttled = None
        if self._asked_at is None or sent_at >= self._asked_at:
            self._asked_at = self._last = None
            self._rows.clear()
        self.is_clear = self._asked_at is None

    def given_up(self, in_flight: int, open_rows: int) -> Failure | None:
        """Return the failure that stops the lane, once no answer in flight can prevent it; None if it may continue."""
        return self._last if not in_flight and (len(self._rows) > 1 or open_rows == 1) else None


def _span(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
