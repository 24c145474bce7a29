"""Counting the different requests among many, in bounded memory."""

from __future__ import annotations

_KEPT = 1 << 16
"""Hashes kept in memory; up to so many the count is exact."""
_BITS = 64
_MANY = 10
"""So many requests with the same content, on average, are suspicious."""


class DistinctCounter:
    """Counts different hex hashes: exactly up to 65,536, beyond with an error of about one percent.

    When too many hashes are kept, the bound below which they are kept is halved (Wegman's adaptive sampling, in
    Flajolet, On adaptive sampling, 1990). The kept ones are a fair sample, however often each hash comes.
    """

    def __init__(self) -> None:
        self._kept: set[int] = set()
        self._halvings = 0
        self._below = 1 << _BITS

    def add(self, hash_: str) -> None:
        """Count a hash."""
        number = int(hash_[: _BITS // 4], 16)
        if number >= self._below:
            return
        self._kept.add(number)
        if len(self._kept) > _KEPT:
            self._halvings += 1
            self._below >>= 1
            self._kept = {kept for kept in self._kept if kept < self._below}

    def __len__(self) -> int:
        return len(self._kept) << self._halvings


def distinct_warning(different: int, requests: int) -> str:
    """Return a warning where suspiciously few requests are different; empty where that may be intended."""
    if requests < _MANY or different * _MANY > requests:
        return ""
    return (
        f"only {different:,} of {requests:,} requests {'is' if different == 1 else 'are'} different; does the prompt"
        " name the right column? (reuse.dedupe = true sends one request for all rows that have the same)"
    )
