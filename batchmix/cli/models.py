"""`batchmix models`."""

from __future__ import annotations

import os
from typing import Any

import click

from batchmix.cli.options import verbose_option
from batchmix.cli.output import log_to_stderr, say, say_json
from batchmix.errors import Stopped
from batchmix.job import DEFAULT_BASE_URL, checked_url


@click.command("models")
@click.argument("search", required=False, default="")
@click.option("--base-url", help="The gateway's address.")
@click.option("--json", "as_json", is_flag=True, help="Print the models as JSON.")
@verbose_option
def command(search: str, base_url: str | None, *, as_json: bool, verbose: int) -> int:
    """List the gateway's models: context, longest answer, prices in USD per 1M tokens, and what has been retired.

    SEARCH is a part of the id. Needs no key.

    \b
    Example:
      batchmix models mini
    """
    log_to_stderr(verbose)
    from batchmix.prices.catalogue import get_catalogue

    url = checked_url(base_url or os.environ.get("AIHUBMIX_BASE_URL") or DEFAULT_BASE_URL)
    catalogue = get_catalogue(url)
    if catalogue is None:
        raise Stopped(f"{url}: gives no catalogue of models (-v says why)")
    found = [offer for name, offer in sorted(catalogue.models.items()) if search.casefold() in name.casefold()]
    if as_json:
        say_json([_record(offer) for offer in found])
        return 0
    width = max((len(offer.id) for offer in found), default=5)
    say(f"{'model':<{width}}  {'context':>9}  {'output':>9}  {'in $':>8}  {'cached $':>8}  {'out $':>8}")
    for offer in found:
        say(_line(offer, width))
    say(f"{len(found):,} of {len(catalogue.models):,} models; USD per 1M tokens")
    return 0


def _line(offer: Any, width: int) -> str:
    price = offer.price
    usd = (price.input, price.cache_read, price.output) if price else (None, None, None)
    cells = [f"{_count(offer.context_length):>9}", f"{_count(offer.max_output):>9}"]
    cells += [f"{_usd(value):>8}" for value in usd]
    note = f"  {offer.retire_stage}" if offer.retire_stage else ""
    note += f"  → {offer.successor}" if offer.successor else ""
    note += "  and more for long prompts: give its price in the job" if offer.tiered else ""
    return f"{offer.id:<{width}}  {'  '.join(cells)}{note}"


def _count(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _usd(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def _record(offer: Any) -> dict[str, Any]:
    price = offer.price
    return {
        "id": offer.id,
        "context_length": offer.context_length,
        "max_output": offer.max_output,
        "input": price and price.input,
        "output": price and price.output,
        "cache_read": price and price.cache_read,
        "cache_write": price and price.cache_write,
        "tiered": offer.tiered,
        "retire_stage": offer.retire_stage or None,
        "successor": offer.successor or None,
    }
