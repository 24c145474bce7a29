"""What a completion costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from batchmix.job import Model, Price
from batchmix.records import Completion, Usage

_HOUR = 2 / 1.25
"""The price of a cache write for an hour over one for five minutes (docs.anthropic.com, "Prompt caching": 2 and 1.25
times the input price).
"""


class Prices:
    """A run's prices, by the names of the job's model entries and by model ids.

    The price is that of the model that the gateway reports as billed (the header `X-Aihubmix-Model`), if it has one,
    otherwise that of the requested model. The name in a response's body varies and decides nothing.
    """

    def __init__(self, prices: Mapping[str, Price], models: tuple[Model, ...]) -> None:
        self._prices = prices
        self._ids = {model.name: model.id for model in models}

    def of(self, model: str, billed: str | None = None) -> Price | None:
        """Return the price of the entry named `model`, or of the model billed instead; None where it is unknown."""
        requested = self._ids.get(model, model)
        if billed and billed != requested and billed in self._prices:
            return self._prices[billed]
        return self._prices.get(model) or self._prices.get(requested)

    def __call__(self, model: str, billed: str | None, usage: Usage) -> float | None:
        """Return the cost of a usage in USD, or None where its price is unknown."""
        price = self.of(model, billed) if self._prices else None
        return cost_usd(price, usage) if price else None

    def of_sums(self, model: str) -> Callable[[Usage], float | None] | None:
        """Return a function from the summed usage of many completions to its cost; None where the price is unknown."""
        price = self.of(model)
        if price is None:
            return None
        unbounded = msgspec.structs.replace(price, up_to=None)
        return lambda usage: cost_usd(unbounded, usage)

    def counted(
        self, model: str, billed: str | None, completion: Completion, prompt_tokens: int
    ) -> tuple[float, float]:
        """Return the USD and tokens that a completion counts for in a budget.

        They follow from its usage, as far as that is reported, otherwise from the estimate of its prompt and the
        length of its text: so each start counts the same.
        """
        usd = None if completion.lacks_usage else self(model, billed, completion.usage)
        tokens = completion.tokens(prompt_tokens)
        used = max(completion.usage.total_tokens or 0, tokens.prompt + tokens.completion)
        return self.estimate_usd(model, tokens.prompt, tokens.completion) if usd is None else usd, float(used)

    def estimate_usd(self, model: str, prompt: float, completion: float) -> float:
        """Return what so many tokens of an entry cost, without any cache; 0 where no price is known."""
        price = self.of(model)
        return (prompt * price.input + completion * price.output) / 1e6 if price else 0.0

    def cache_write_extra_usd(self, model: str, tokens: float) -> float:
        """Return what tokens of an entry cost in addition where they are written to a cache."""
        price = self.of(model)
        extra = price.cache_write - price.input if price and price.cache_write is not None else 0.0
        return tokens * max(0.0, extra) / 1e6


def cost_usd(price: Price, usage: Usage) -> float | None:
    """Return the cost of a usage; None where it was not reported, or the prompt is too long for the price.

    ((prompt - cached - written) · input + cached · cache_read + written · cache_write + completion · output) / 1e6,
    as AiHubMix counts; reasoning tokens are among the completion tokens. A cache write for an hour costs more.
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
