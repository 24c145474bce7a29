"""Formats amounts of money and counts for people."""

from __future__ import annotations


def usd(amount: float) -> str:
    """Return an amount in USD as text: with two decimals from $100 up, with four below."""
    return f"${amount:,.2f}" if amount >= 100 else f"${amount:,.4f}"


def counted(count: int, noun: str) -> str:
    """Return a count with its noun, such as `1 row` or `1,234 rows`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
