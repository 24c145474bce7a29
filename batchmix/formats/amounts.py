"""Formats amounts of money and counts for people."""

from __future__ import annotations


def usd(amount: float) -> str:
    """Return USD as text: with cents from $100, with four decimals below."""
    return f"${amount:,.2f}" if amount >= 100 else f"${amount:,.4f}"


def counted(count: int, what: str) -> str:
    """Return `1 row` or `1,234 rows`."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"
