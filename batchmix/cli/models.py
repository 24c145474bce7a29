"""The command `batchmix models`."""

from __future__ import annotations

import os
from typing import Any

import click

from batchmix.cli.options import verbose_option
from batchmix.cli.output import echo, echo_json, log_to_stderr
from batchmix.errors import Stopped
from batchmix.job import DEFAULT_BASE_URL, checked_url


@click.command("models")
@click.argument("search", required=False, default="")
@click.option("--base-url", help="The gateway's address.")
@click.option("--json", "as_json", is_flag=True, help="Print the models as JSON.")
@verbose_option
def command(search: str, base_url: str | None, *, as_json: bool, verbose: int) -> int:
    """List the gateway's models: context, most completion tokens, prices in USD per 1M tokens, and which are retired.

    SEARCH is a part of the model's id. Needs no key.

    \b
    Example:
      batchmix models mini
    """
    log_to_stderr(verbose)
    from batchmix.prices.catalogue import get_catalogue

    url = checked_url(base_url or os.environ.get("AIHUBMIX_BASE_URL") or DEFAULT_BASE_URL)
    catalogue = get_catalogue(url)
    if catalogue is None:
        raise Stopped(f"{url}: no catalogue of models could be fetched (-v shows why)")
    models = [model for name, model in sorted(catalogue.models.items()) if search.casefold() in name.casefold()]
    if as_json:
        echo_json([_record(model) for model in models])
        return 0
    width = max((len(model.id) for model in models), default=5)
    echo(f"{'model':<{width}}  {'context':>9}  {'output':>9}  {'in $':>8}  {'cached $':>8}  {'out $':>8}")
    for model in models:
        echo(_line(model, width))
    echo(f"{len(models):,} of {len(catalogue.models):,} models; USD per 1M tokens")
    return 0


def _line(model: Any, width: int) -> str:
    price = model.price
    usd = (price.input, price.cache_read, price.output) if price else (None, None, None)
    cells = [f"{_count(model.context_length):>9}", f"{_count(model.max_output):>9}"]
    cells += [f"{_usd(value):>8}" for value in usd]
    note = f"  {model.retire_stage}" if model.retire_stage else ""
    note += f"  → {model.successor}" if model.successor else ""
    note += "  more for long prompts: give its price in the job" if model.tiered else ""
    return f"{model.id:<{width}}  {'  '.join(cells)}{note}"


def _count(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _usd(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def _record(model: Any) -> dict[str, Any]:
    price = model.price
    return {
        "id": model.id,
        "context_length": model.context_length,
        "max_output": model.max_output,
        "input": price and price.input,
        "output": price and price.output,
        "cache_read": price and price.cache_read,
        "cache_write": price and price.cache_write,
        "tiered": model.tiered,
        "retire_stage": model.retire_stage or None,
        "successor": model.successor or None,
    }
