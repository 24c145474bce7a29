"""Sums of usage that totals hold apart: what was estimated, and what a prompt cache made cheaper or dearer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from batchmix.records import Completion, Tokens, Usage


class EstimatedUsage(msgspec.Struct, frozen=True, gc=False):
    """The estimated usage of answers whose cost is not known exactly. Estimates can be added."""

    answers: int = 0
    tokens: Tokens = Tokens()
    beside: int = 0
    """How many of the tokens are not included in a reported `total_tokens`."""

    @staticmethod
    def of(answer: Completion, prompt_tokens: int) -> EstimatedUsage:
        """Return the estimate for an answer without a complete usage."""
        tokens = answer.tokens(prompt_tokens)
        return EstimatedUsage(1, tokens, tokens.prompt + tokens.completion - (answer.usage.total_tokens or 0))

    def __add__(self, other: EstimatedUsage) -> EstimatedUsage:
        """Return the sum of two estimates."""
        return EstimatedUsage(self.answers + other.answers, self.tokens + other.tokens, self.beside + other.beside)


class CacheTotals(msgspec.Struct, frozen=True, gc=False):
    """The answers with a price that read from a prompt cache, or wrote to it. Totals can be added."""

    answers: int = 0
    tokens: Tokens = Tokens()
    """All their tokens, cached or not."""
    usd: float = 0.0
    """Their cost."""

    def __add__(self, other: CacheTotals) -> CacheTotals:
        """Return the sum of two totals."""
        return CacheTotals(self.answers + other.answers, self.tokens + other.tokens, self.usd + other.usd)

    def saved_usd(self, price: Callable[[Usage], float | None]) -> float | None:
        """Return how much more the answers would have cost without a cache. None if there are none, or no price.

        `price` returns the cost of one answer. A negative amount was paid for writing what nobody read.
        """
        if not self.answers:
            return None
        mean = Usage(round(self.tokens.prompt / self.answers), round(self.tokens.completion / self.answers))
        usd = price(mean)
        return None if usd is None else usd * self.answers - self.usd


def cache_totals(columns: Mapping[str, tuple[Any, ...]]) -> dict[str, CacheTotals]:
    """Return by model what the answers in some result rows say of the prompt cache."""
    totals: dict[str, CacheTotals] = {}
    if not any(columns["cached_tokens"]) and not any(columns["cache_write_tokens"]):
        return totals
    for model, read, written, prompt, completion, usd in zip(*(columns[name] for name in _CACHE), strict=True):
        if (read or written) and usd is not None and prompt is not None and completion is not None:
            totals[model] = totals.get(model, CacheTotals()) + CacheTotals(1, Tokens(prompt, completion), usd)
    return totals


_CACHE = ("model", "cached_tokens", "cache_write_tokens", "prompt_tokens", "completion_tokens", "cost_usd")
