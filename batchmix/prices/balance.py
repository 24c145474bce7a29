"""Reads the balance of an account, if the gateway reports it.

AiHubMix replies to `GET /v1/dashboard/billing/subscription` with `hard_limit_usd`, the sum of all payments in USD, and
to `GET /v1/dashboard/billing/usage` with `total_usage`, the amount spent in hundredths of a USD. A `hard_limit_usd` of
100,000,000 means that the account has no limit.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from batchmix.errors import JobError
from batchmix.formats.lenient_json import read_json
from batchmix.http.get import FetchError, fetch
from batchmix.redact import Secrets

_UNLIMITED_USD = 100_000_000
"""The gateway's value for an account without a limit."""
_MAX_AMOUNT = 1e15
"""Amounts of this size or more are treated as malformed."""
_logger = logging.getLogger(__name__)


def get_balance(base_url: str, secrets: Secrets, timeout_s: float) -> float | None:
    """Return an account's balance in USD. None if the account has no limit, or if its balance can't be read.

    A failed request raises no error. The function starts an event loop, so its thread must not have a running one.
    """
    try:
        limit, used = asyncio.run(_fetch_amounts(f"{base_url}/dashboard/billing/", secrets, timeout_s))
        return None if limit >= _UNLIMITED_USD else limit - used / 100
    except (FetchError, JobError, ValueError) as error:
        _logger.info("no balance: %s", secrets.redacted_text(str(error)))
        return None


async def _fetch_amounts(url: str, secrets: Secrets, timeout_s: float) -> tuple[float, float]:
    bodies = (fetch(url + name, "", timeout_s, secrets.headers) for name in ("subscription", "usage"))
    subscription, usage = (read_json(response[1]) if response else None for response in await asyncio.gather(*bodies))
    return _number(subscription, "hard_limit_usd"), _number(usage, "total_usage")


def _number(body: Any, name: str) -> float:
    value = body.get(name) if isinstance(body, dict) else None
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) < _MAX_AMOUNT:
        raise ValueError(f"it has no {name}")
    return float(value)
