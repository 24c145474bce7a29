"""Computes the cost of completions from their token counts and the prices of their models."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from batchmix.job import Model, Price
from batchmix.records import Completion, Usage

_HOUR = 2 / 1.25
"""How many times as much a cache write for an hour costs as one for five minutes. The prices are 2 and 1.25 times the
input price (docs.anthropic.com, "Prompt caching").
"""


class Prices:
    """A run's prices, by the name of the job's model entry or by model id.

    If the gateway reports that it billed another model (header `X-Aihubmix-Model`) and that model has a price, then
    that price applies. Otherwise the requested model's price applies. The model name in a response's body is ignored,
    because it varies.
    """

    def __init__(self, prices: Mapping[str, Price], models: tuple[Model, ...]) -> None:
        self._prices = prices
        self._ids = {model.name: model.id for model in models}

    def price_of(self, model: str, billed: str | None = None) -> Price | None:
        """Return the price of `model`, or of the model that was billed instead. None if the price is unknown.

        `model` is the name of a model entry or a model id.
        """
        requested = self._ids.get(model, model)
        if billed and billed != requested and billed in self._prices:
            return self._prices[billed]
        return self._prices.get(model) or self._prices.get(requested)

    def __call__(self, model: str, billed: str | None, usage: Usage) -> float | None:
        """Return the cost of a usage in USD. None if the price or the usage is unknown."""
        price = self.price_of(model, billed) if self._prices else None
        return cost_usd(price, usage) if price else None

    def usd_of_sums(self, model: str) -> Callable[[Usage], float | None] | None:
        """Return a function that computes the cost of the summed usage of many completions.

        None if the price is unknown. The function ignores `up_to`, which applies to the prompt of a single completion.
        """
        price = self.price_of(model)
        if price is None:
            return None
        unbounded = msgspec.structs.replace(price, up_to=None)
        return lambda usage: cost_usd(unbounded, usage)

    def counted(
        self, model: str, billed: str | None, completion: Completion, prompt_tokens: int
    ) -> tuple[float, float]:
        """Return how much of a budget a completion uses up, in USD and in tokens.

        Token counts that are not reported are estimated from the prompt and the length of the answer. Every start of
        the run therefore computes the same amount.
        """
        usd = None if completion.lacks_usage else self(model, billed, completion.usage)
        tokens = completion.tokens(prompt_tokens)
        used = max(completion.usage.total_tokens or 0, tokens.prompt + tokens.completion)
        return self.estimate_usd(model, tokens.prompt, tokens.completion) if usd is None else usd, float(used)

    def estimate_usd(self, model: str, prompt: float, completion: float) -> float:
        """Return the cost of prompt and completion tokens in USD, without caching. 0 if the price is unknown."""
        price = self.price_of(model)
        return (prompt * price.input + completion * price.output) / 1e6 if price else 0.0

    def cache_write_extra_usd(self, model: str, tokens: float) -> float:
        """Return the additional cost in USD of writing prompt tokens to a cache."""
        price = self.price_of(model)
        extra = price.cache_write - price.input if price and price.cache_write is not None else 0.0
        return tokens * max(0.0, extra) / 1e6


def cost_usd(price: Price, usage: Usage) -> float | None:
    """Return the cost of a completion in USD.

    None if token counts are missing, or if the prompt exceeds the price's `up_to`. The formula is AiHubMix's, per
    million tokens: uncached prompt · input + cached · cache_read + written to a cache · cache_write + completion ·
    output. Completion tokens include reasoning tokens. Tokens that are cached for an hour cost more to write.
    """
    if usage.prompt_tokens is None or usage.completion_tokens is None:
        return None
    if price.up_to is not None and usage.prompt_tokens > price.up_to:
        return None
    cached = min(usage.cached_tokens or 0, usage.prompt_tokens)
    written = min(usage.cache_write_tokens or 0, usage.prompt_tokens - cached)
    cache_read = price.input if price.cache_read is None else price.cache_read
    cache_write = price.input if price.cache_write is None else price.cache_write
    hour = min(usage.hour_tokens or 0, written) * (_HOUR - 1) if price.cache_write is not None else 0.0
    prompt = (
        (usage.prompt_tokens - cached - written) * price.input + cached * cache_read + (written + hour) * cache_write
    )
    return (prompt + usage.completion_tokens * price.output) / 1e6
