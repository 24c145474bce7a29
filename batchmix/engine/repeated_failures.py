"""The rule that stops a broken job early: requests that all end with the same rejection, or unknown error."""

from __future__ import annotations

import re

from batchmix.records import Failure, Request

_OF_THE_ROW = frozenset({"content_filter", "context_length"})
"""Rejections that sorted inputs have in rows; they say nothing about the job."""
_VARYING = re.compile(r"[0-9a-f]{8,}|\d+", re.IGNORECASE)


class RepeatedFailures:
    """Holds failures back for as long as all that ended was the same failure.

    What is held has no end yet: if the job is stopped because the streak is full, the rows are asked again by the
    next start, when the cause may be mended. Once anything else has come it takes many more, since in a sorted input
    rows that are refused may stand together.
    """

    FIRST, LATER = 20, 500

    def __init__(self) -> None:
        self.length = self.FIRST
        """So many make it full."""
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
        """Take a failure if it continues the streak; return whether it did."""
        if failure.type in _OF_THE_ROW:
            return False
        if self._held and _signature(self._held[0][1]) != _signature(failure):
            return False
        self._held.append((request, failure))
        return True

    def last(self) -> tuple[Request, Failure]:
        """Give up the one that was held last."""
        return self._held.pop()

    def broken(self) -> list[tuple[Request, Failure]]:
        """End the streak; return what was held."""
        self.length = self.LATER
        held, self._held = self._held, []
        return held


def _signature(failure: Failure) -> tuple[str, str | None, str]:
    """What makes rejections the same: all but trace ids and numbers."""
    return failure.type, failure.code, _VARYING.sub("#", failure.message)
