"""What an answer costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from batchmix.job import Model, Price
from batchmix.records import Completion, Usage

_HOUR = 2 / 1.25
"""Times what is written to a cache for five minutes (docs.anthropic.com, "Prompt caching": 2 and 1.25 times input)."""


class Prices:
    """A run's prices, by the names of its entries and the ids of models.

    The model that the gateway says it billed (the header `X-Aihubmix-Model`) decides where it is priced, else the one
    that was asked; the name in the body changes from answer to answer and decides nothing.
    """

    def __init__(self, prices: Mapping[str, Price], models: tuple[Model, ...]) -> None:
        self._prices = prices
        self._ids = {model.name: model.id for model in models}

    def of(self, model: str, billed: str | None = None) -> Price | None:
        """Return the price of the entry named `model`, or of what was billed instead; None where none is known."""
        asked = self._ids.get(model, model)
        if billed and billed != asked and billed in self._prices:
            return self._prices[billed]
        return self._prices.get(model) or self._prices.get(asked)

    def __call__(self, model: str, billed: str | None, usage: Usage) -> float | None:
        """Return the cost of an answer in USD, or None where no price is known."""
        price = self.of(model, billed) if self._prices else None
        return cost_usd(price, usage) if price else None

    def of_sums(self, model: str) -> Callable[[Usage], float | None] | None:
        """Return what says the cost of sums over many answers, by the price of what was asked; None without one."""
        price = self.of(model)
        if price is None:
            return None
        unbounded = msgspec.structs.replace(price, up_to=None)
        return lambda usage: cost_usd(unbounded, usage)

    def counted(self, model: str, billed: str | None, answer: Completion, prompt_tokens: int) -> tuple[float, float]:
        """Return the USD and tokens that an answer is taken for where a cap is to be kept.

        By its usage, as far as that is told, else by an estimate of its prompt and by how much it says: so that each
        start comes to the same.
        """
        usd = None if answer.untold else self(model, billed, answer.usage)
        tokens = answer.tokens(prompt_tokens)
        used = max(answer.usage.total_tokens or 0, tokens.prompt + tokens.completion)
        return self.taken_for(model, tokens.prompt, tokens.completion) if usd is None else usd, float(used)

    def taken_for(self, model: str, prompt: float, completion: float) -> float:
        """Return what tokens of an entry are taken to cost in USD; 0 where no price is known."""
        price = self.of(model)
        return (prompt * price.input + completion * price.output) / 1e6 if price else 0.0

    def surcharge(self, model: str, written: float) -> float:
        """Return what tokens of an entry cost more in USD where they are written to a cache."""
        price = self.of(model)
        more = price.cache_write - price.input if price and price.cache_write is not None else 0.0
        return written * max(0.0, more) / 1e6


def cost_usd(price: Price, usage: Usage) -> float | None:
    """Return the cost of some usage; None where the provider did not tell it, or the prompt is too long for the price.

    ((prompt - cached - written) · input + cached · cache_read + written · cache_write + completion · output) / 1e6,
    as AiHubMix counts; reasoning tokens are inside completion tokens. What is written for an hour costs more than that.
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
