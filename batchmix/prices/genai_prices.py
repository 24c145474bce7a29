"""Prices from the package genai-prices, if it is installed (with the extra `prices`)."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from batchmix.http.proxies import is_loopback
from batchmix.job import Price
from batchmix.prices.catalogue import has_catalogue


def listed_price(model: str, base_url: str) -> Price | None:
    """Return a model's price at an API. None if it is unknown, or if the package is not installed.

    At a gateway with a catalogue, which resells models, the price is looked up by the model's name alone. At any other
    API the package must have prices for that address, because a model of the same name may have another price there. A
    server on this machine has no price.
    """
    if is_loopback(urlsplit(base_url).hostname or ""):
        return None
    try:
        from genai_prices import Usage, calc_price
    except ImportError:
        return None
    address = None if has_catalogue(base_url) else base_url
    try:
        price = calc_price(Usage(input_tokens=1), model, provider_api_url=address).model_price
    except LookupError:
        return None
    parts = (price.input_mtok, price.output_mtok, price.cache_read_mtok, price.cache_write_mtok)
    prompt, completion, cached, written = map(_usd, parts)
    tiers = [tier.start for part in parts for tier in getattr(part, "tiers", ())]
    # A model without a price for completions generates none, for example an embedding model.
    return None if prompt is None else Price(prompt, completion or 0.0, cached, min(tiers, default=None), written)


def _usd(value: Any) -> float | None:
    """Return a price in USD per 1M tokens. If it depends on the prompt's length, return the lowest tier."""
    value = getattr(value, "base", value)
    return None if value is None else float(value)
