"""Amounts of money, as a person reads them."""

from __future__ import annotations


def usd(amount: float) -> str:
    """Return an amount as a person reads it."""
    return f"${amount:,.2f}" if amount >= 100 else f"${amount:,.4f}"
