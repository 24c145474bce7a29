"""How long a provider may ask to wait: as long as an outage may last, and no longer (`retry.outage_s`)."""

from __future__ import annotations

import time

from batchmix.errors import FailureAction
from batchmix.records import Exchange, Failure

_AGAIN_S = 5.0
"""Seconds after which a request is sent once more whose provider asked for a longer wait: one header may be wrong."""


def requested_wait_s(failure: Failure, exchange: Exchange) -> float | None:
    """Return how long a provider asks to wait before the same request is sent again; None where it does not say."""
    if failure.action not in (FailureAction.PAUSE, FailureAction.RETRY):  # it will not be
        return None
    return failure.wait_s if exchange.retry_after_s is None else exchange.retry_after_s


def limited_wait_s(wait_s: float | None, longest_s: float) -> float | None:
    """Return how long to wait where the provider asked for `wait_s`."""
    return wait_s if wait_s is None or wait_s <= longest_s else min(_AGAIN_S, longest_s)


class WaitLimit:
    """Stops a lane whose provider asks for too long a wait.

    A daily quota may come back in fourteen hours, and a silent wait of that length helps nobody. After a response that
    asks for too long a wait, requests are sent once more, and the lane is stopped if all that comes then says the same.
    One row, or one wrong header, is not enough. A lane that is throttled again and again, each time for a short while,
    is stopped after the same time.
    """

    def __init__(self, longest_s: float) -> None:
        self.is_clear = True
        """Whether the next answer changes nothing."""
        self._longest_s = longest_s
        self._again_s = 0.9 * min(_AGAIN_S, longest_s)
        self._asked_at: float | None = None
        self._rows: set[int] = set()
        self._last: Failure | None = None
        self._throttled: tuple[float, set[int]] | None = None  # since when nothing else came, and which rows

    def failed(self, now: float, sent_at: float, row: int, failure: Failure, wait_s: float | None) -> None:
        """Record a row's failure, by the monotonic clock, and how long the provider asked to wait with it."""
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
        """Record an answer: a longer wait that was asked for before was not needed."""
        self._throttled = None
        if self._asked_at is None or sent_at >= self._asked_at:
            self._asked_at = self._last = None
            self._rows.clear()
        self.is_clear = self._asked_at is None

    def given_up(self, in_flight: int, open_rows: int) -> Failure | None:
        """Return why the lane is stopped, once nothing is in flight that could change that."""
        return self._last if not in_flight and (len(self._rows) > 1 or open_rows == 1) else None


def _span(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
