"""How long a provider may ask to wait: as long as one that is down is waited for, and no longer (`retry.outage_s`)."""

from __future__ import annotations

import time

from batchmix.errors import FailureAction
from batchmix.records import Exchange, Failure

_AGAIN_S = 5.0
"""Who asks for more is asked once more after so long: a single header may be wrong."""


def requested_wait_s(failure: Failure, exchange: Exchange) -> float | None:
    """Return how long a provider asks to wait before it is asked the same again; None where it does not say."""
    if failure.action not in (FailureAction.PAUSE, FailureAction.RETRY):  # it will not be
        return None
    return failure.wait_s if exchange.retry_after_s is None else exchange.retry_after_s


def limited_wait_s(wait_s: float | None, longest_s: float) -> float | None:
    """Return how long to wait where so much was asked for."""
    return wait_s if wait_s is None or wait_s <= longest_s else min(_AGAIN_S, longest_s)


class WaitLimit:
    """Bounds the waits that one lane is asked for.

    A quota of a day may come back in fourteen hours, and nobody waits for that in silence. Where an answer has asked
    for too long, it is asked once more, and given up if all that comes then says the same; not for the sake of one row,
    or of one header that is wrong. Who asks for little, but again and again, is given up after as long.
    """

    def __init__(self, longest_s: float) -> None:
        self.is_clear = True
        """Whether nothing was asked for that an answer could call wrong."""
        self._longest_s = longest_s
        self._again_s = 0.9 * min(_AGAIN_S, longest_s)
        self._asked_at: float | None = None
        self._rows: set[int] = set()
        self._last: Failure | None = None
        self._throttled: tuple[float, set[int]] | None = None  # since when nothing else came, and which rows

    def heard(self, now: float, sent_at: float, row: int, failure: Failure, wait_s: float | None) -> None:
        """Take note of what was asked for with a row's failure, at a time on the monotonic clock."""
        if failure.action is FailureAction.PAUSE:
            self._hear_throttled(now, row, failure)
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

    def _hear_throttled(self, now: float, row: int, failure: Failure) -> None:
        if self._throttled is None:
            self._throttled = now, set()
        since, rows = self._throttled
        if len(rows) < 2:
            rows.add(row)
        elif now - since > self._longest_s and self._last is None:
            self._rows |= rows
            message = f"nothing else came for {_span(now - since)} (retry.outage_s): {failure.message}"
            self._last = Failure(FailureAction.STOP_MODEL, failure.type, message, failure.code)

    def good(self, sent_at: float) -> None:
        """Take note of an answer: whoever asked for more was wrong."""
        self._throttled = None
        if self._asked_at is None or sent_at >= self._asked_at:
            self._asked_at = self._last = None
            self._rows.clear()
        self.is_clear = self._asked_at is None

    def given_up(self, in_flight: int, open_rows: int) -> Failure | None:
        """Return why the lane is given up, once nothing is in flight that could say otherwise."""
        return self._last if not in_flight and (len(self._rows) > 1 or open_rows == 1) else None


def _span(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
