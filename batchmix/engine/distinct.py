"""Counts the different requests among many, in bounded memory."""

from __future__ import annotations

_KEPT = 1 << 16
"""Maximum number of hashes in memory. Up to this many different hashes, the count is exact."""
_BITS = 64
"""How many leading bits of a hash are compared."""
_MANY = 10
"""A run is suspicious if each different request is sent at least this many times on average."""


class DistinctCounter:
    """Counts different hex hashes: exactly up to 65,536, and with an error of about one percent beyond.

    Only hashes below a bound are kept. Whenever too many are kept, the bound is halved (Wegman's adaptive sampling, in
    Flajolet, On adaptive sampling, 1990). The kept hashes are a fair choice, however often each is added.
    """

    def __init__(self) -> None:
        self._kept: set[int] = set()
        self._halvings = 0
        self._below = 1 << _BITS

    def add(self, hash_: str) -> None:
        """Count a hash, unless it was counted before."""
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
    """Return a warning if suspiciously many of the requests are identical; otherwise an empty text."""
    if requests < _MANY or different * _MANY > requests:
        return ""
    return (
        f"only {different:,} of {requests:,} requests {'is' if different == 1 else 'are'} different; does the prompt"
        " name the right column? (reuse.dedupe = true sends one request for all rows that have the same)"
    )
