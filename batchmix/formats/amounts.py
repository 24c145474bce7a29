"""Formats amounts of money and counts for people."""

from __future__ import annotations

import math


def usd(amount: float) -> str:
    """Return an amount in USD as text: with two decimals from $100 up, with four below, or as many as it takes."""
    if 0 < amount < 0.00005:
        return f"${amount:.{1 - math.floor(math.log10(amount))}f}"
    return f"${amount:,.2f}" if amount >= 100 else f"${amount:,.4f}"


def counted(count: int, noun: str) -> str:
    """Return a count with its noun, such as `1 row` or `1,234 rows`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
