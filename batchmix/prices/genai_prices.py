"""Prices from the package genai-prices, where it is installed (the extra `prices`)."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from batchmix.http.proxies import is_loopback
from batchmix.job import Price
from batchmix.prices.catalogue import has_catalogue


def listed_price(model: str, base_url: str) -> Price | None:
    """Return a model's price at an API, or None where the package is not installed or has no price.

    For a gateway, which resells models, the model's name is enough. Elsewhere the package has to have prices for the
    address: a model of the same name on a local server does not cost the same.
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
    # A model without a price for completions has none, such as a model for embeddings.
    return None if prompt is None else Price(prompt, completion or 0.0, cached, min(tiers, default=None), written)


def _usd(value: Any) -> float | None:
    """Return USD per 1M tokens; the lowest tier of a price that changes with the prompt's length."""
    value = getattr(value, "base", value)
    return None if value is None else float(value)
