"""How many different things there were among many, in bounded memory."""

from __future__ import annotations

_KEPT = 1 << 16
_BITS = 64
_MANY = 10
"""So many rows that ask the same are suspicious."""


class Distinct:
    """Counts different hex hashes: exactly up to some 65 thousand, beyond within a percent or so.

    Where too many would be kept, only those below half of the bound so far are (Wegman's adaptive sampling, in
    Flajolet, On adaptive sampling, 1990): what is kept is a fair sample, whatever came how often.
    """

    def __init__(self) -> None:
        self._kept: set[int] = set()
        self._halvings = 0
        self._below = 1 << _BITS

    def add(self, hash_: str) -> None:
        """Take note of a hash."""
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


def few(different: int, asked: int) -> str:
    """Return what to say where only so many of the requests are different; nothing where that may well be meant."""
    if asked < _MANY or different * _MANY > asked:
        return ""
    return (
        f"only {different:,} of {asked:,} requests {'is' if different == 1 else 'are'} different; does the prompt name"
        " the right column? (reuse.dedupe = true asks once for all rows with the same request)"
    )
