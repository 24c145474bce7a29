"""What an answer costs."""

from __future__ import annotations

from collections.abc import Mapping

from batchmix.job import Model, Price
from batchmix.records import Completion, Usage


class Prices:
    """The job's prices; calling it returns the cost of an answer in USD, or None where no price is known.

    The model that answered decides (AiHubMix bills by its header `X-Aihubmix-Model`), else the one that was asked.
    """

    def __init__(self, prices: Mapping[str, Price], models: tuple[Model, ...]) -> None:
        self._prices = prices
        self._ids = {model.name: model.id for model in models}

    def __call__(self, model: str, answer: Completion) -> float | None:
        """Return the cost of an answer of the entry named `model`."""
        if not self._prices:
            return None
        for name in (answer.served_model, self._ids.get(model), model):
            price = self._prices.get(name) if name else None
            if price is not None:
                return cost_usd(price, answer.usage)
        return None


def cost_usd(price: Price, usage: Usage) -> float | None:
    """Return the cost of some usage; None where the provider did not tell it.

    ((prompt - cached) · input + cached · cache_read + completion · output) / 1e6, as AiHubMix counts; reasoning
    tokens are inside completion tokens.
    """
    if usage.prompt_tokens is None or usage.completion_tokens is None:
        return None
    cached = min(usage.cached_tokens or 0, usage.prompt_tokens)
    cache_read = price.input if price.cache_read is None else price.cache_read
    fresh = usage.prompt_tokens - cached
    return (fresh * price.input + cached * cache_read + usage.completion_tokens * price.output) / 1e6
