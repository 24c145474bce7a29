"""Repeated failures: stops a wrong job early, if all its requests fail with the same rejection or unknown error."""

from __future__ import annotations

import re

from batchmix.answers.typed import INVALID
from batchmix.records import Failure, Request

_OF_THE_ROW = frozenset({"content_filter", "context_length"})
"""Types of rejections that are caused by the content of a row, not by the job. They never count as repeated."""
_VARYING = re.compile(r"[0-9a-f]{8,}|\d+", re.IGNORECASE)


class RepeatedFailures:
    """Holds failures back while every outcome is the same failure.

    The requests of held failures have no outcome yet. If too many failures are held, the job is stopped; the next start
    sends these requests again, when the cause may be fixed. After any other outcome, many more failures are needed to
    stop the job, because refused rows may follow each other in a sorted input.
    """

    FIRST, LATER = 20, 500
    """Number of held failures that stops the job: before the first other outcome in this start, and after it."""

    def __init__(self) -> None:
        self.length = self.FIRST
        """Number of held failures that stops the job."""
        self._held: list[tuple[Request, Failure]] = []

    @property
    def held(self) -> int:
        """Number of failures that are held back."""
        return len(self._held)

    @property
    def is_full(self) -> bool:
        """Whether the job should be stopped."""
        return len(self._held) >= self.length

    def hold(self, request: Request, failure: Failure) -> bool:
        """Hold a failure back if it is the same as those held already; return whether it was held back."""
        if failure.type in _OF_THE_ROW:
            return False
        if self._held and _signature(self._held[0][1]) != _signature(failure):
            return False
        self._held.append((request, failure))
        return True

    def last(self) -> tuple[Request, Failure]:
        """Remove and return the failure that was held last."""
        return self._held.pop()

    def release(self) -> list[tuple[Request, Failure]]:
        """Remove and return all held failures, because there was another outcome."""
        self.length = self.LATER
        held, self._held = self._held, []
        return held


def _signature(failure: Failure) -> tuple[str, str | None, str]:
    """Return a key by which failures count as the same. It ignores trace ids and numbers in the message.

    Invalid answers are the same if they are wrong at the same path, whatever value stands there.
    """
    if failure.type == INVALID:
        return failure.type, failure.code, ""
    return failure.type, failure.code, _VARYING.sub("#", failure.message)
