"""Repeated failures: stops a wrong job early, if all its requests end with the same rejection or unknown error."""

from __future__ import annotations

import re

from batchmix.records import Failure, Request

_OF_THE_ROW = frozenset({"content_filter", "context_length"})
"""Types of rejections that are caused by the content of a row, not by the job. They never count as repeated."""
_VARYING = re.compile(r"[0-9a-f]{8,}|\d+", re.IGNORECASE)


class RepeatedFailures:
    """Holds failures back as long as all outcomes are the same failure.

    Held requests have no outcome yet. If the job is stopped because too many are held, the next start sends them again,
    when the cause may be fixed. After any other outcome, many more are needed to stop the job, since refused rows may
    follow each other in a sorted input.
    """

    FIRST, LATER = 20, 500
    """Number of held failures that stops the job: before any other outcome in this start, and after one."""

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

    def holds(self, request: Request, failure: Failure) -> bool:
        """Hold a failure back if it is the same as the held failures; return whether it was held back."""
        if failure.type in _OF_THE_ROW:
            return False
        if self._held and _signature(self._held[0][1]) != _signature(failure):
            return False
        self._held.append((request, failure))
        return True

    def last(self) -> tuple[Request, Failure]:
        """Remove the failure that was held last, and return it."""
        return self._held.pop()

    def broken(self) -> list[tuple[Request, Failure]]:
        """Remove all held failures and return them, because there was another outcome."""
        self.length = self.LATER
        held, self._held = self._held, []
        return held


def _signature(failure: Failure) -> tuple[str, str | None, str]:
    """Return a key that is equal for the same failures: it ignores trace ids and numbers in the message."""
    return failure.type, failure.code, _VARYING.sub("#", failure.message)
