"""Prices from the package genai-prices, if it is installed (with the extra `prices`)."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from batchmix.http.proxies import is_loopback
from batchmix.job import Price
from batchmix.prices.catalogue import has_catalogue


def listed_price(model: str, base_url: str) -> Price | None:
    """Return a model's price at an API; None if the package is not installed or has no price.

    At a gateway with a catalogue, which resells models, the price is looked up by the model's name alone. At any other
    API the package must have prices for that address, because a model of the same name may cost something else there.
    """
    if is_loopback(urlsplit(base_url).hostname or ""):
        return None
    try:
        from genai_prices import Usage, calc_price
    except ImportError:
        return None
    address = None if has_catalogue(base_url) else base_url
    try:
        found = calc_price(Usage(input_tokens=1), model, provider_api_url=address).model_price
    except LookupError:
        return None
    parts = (found.input_mtok, found.output_mtok, found.cache_read_mtok, found.cache_write_mtok)
    prompt, completion, cached, written = map(_usd, parts)
    tiers = [tier.start for part in parts for tier in getattr(part, "tiers", ())]
    # Without a price for completions, the model makes none, such as a model for embeddings.
    return None if prompt is None else Price(prompt, completion or 0.0, cached, min(tiers, default=None), written)


def _usd(value: Any) -> float | None:
    """Return USD per 1M tokens; for a price with tiers by the prompt's length, the lowest tier."""
    value = getattr(value, "base", value)
    return None if value is None else float(value)
