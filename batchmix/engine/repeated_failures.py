"""The rule that stops a broken job early: all requests end with the same rejection, or the same unknown error."""

from __future__ import annotations

import re

from batchmix.records import Failure, Request

_OF_THE_ROW = frozenset({"content_filter", "context_length"})
"""Types of rejections that stand together in a sorted input; they say nothing about the job."""
_VARYING = re.compile(r"[0-9a-f]{8,}|\d+", re.IGNORECASE)


class RepeatedFailures:
    """Holds failures back as long as nothing but the same failure has come.

    What is held has no outcome yet: if the job is stopped because too many are held, the next start sends these rows
    again, when the cause may be fixed. Once anything else has come it takes many more, since refused rows may stand
    together in a sorted input.
    """

    FIRST, LATER = 20, 500
    """Failures that stop the job while nothing else has come in this start, and later."""

    def __init__(self) -> None:
        self.length = self.FIRST
        """So many stop the job."""
        self._held: list[tuple[Request, Failure]] = []

    @property
    def held(self) -> int:
        """How many are held."""
        return len(self._held)

    @property
    def is_full(self) -> bool:
        """Whether the job should be stopped."""
        return len(self._held) >= self.length

    def holds(self, request: Request, failure: Failure) -> bool:
        """Hold a failure if it is the same as those that are held; return whether it is."""
        if failure.type in _OF_THE_ROW:
            return False
        if self._held and _signature(self._held[0][1]) != _signature(failure):
            return False
        self._held.append((request, failure))
        return True

    def last(self) -> tuple[Request, Failure]:
        """Return the one that was held last, and hold it no more."""
        return self._held.pop()

    def broken(self) -> list[tuple[Request, Failure]]:
        """Return what was held, since something else has come, and hold it no more."""
        self.length = self.LATER
        held, self._held = self._held, []
        return held


def _signature(failure: Failure) -> tuple[str, str | None, str]:
    """What makes rejections the same: all but trace ids and numbers."""
    return failure.type, failure.code, _VARYING.sub("#", failure.message)
