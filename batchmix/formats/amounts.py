"""Amounts, as a person reads them."""

from __future__ import annotations


def usd(amount: float) -> str:
    """Return an amount as a person reads it."""
    return f"${amount:,.2f}" if amount >= 100 else f"${amount:,.4f}"


def counted(count: int, what: str) -> str:
    """Return `1 row` or `1,234 rows`."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"
