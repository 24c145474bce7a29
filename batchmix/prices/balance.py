"""The balance of an account, where the gateway reports it.

AiHubMix answers `GET /v1/dashboard/billing/subscription` with `hard_limit_usd`, all that was ever paid in, and
`…/usage` with `total_usage`, what was spent, in hundredths of a USD. A limit of 100,000,000 means that there is none.
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
"""Larger numbers are no amounts of money."""
_logger = logging.getLogger(__name__)


def get_balance(base_url: str, secrets: Secrets, timeout_s: float) -> float | None:
    """Return the USD that are left, or None where the account has no limit or its balance is not reported.

    Raises for neither. To be called in a thread that has no event loop.
    """
    try:
        limit, used = asyncio.run(_fetch_amounts(f"{base_url}/dashboard/billing/", secrets, timeout_s))
        return None if limit >= _UNLIMITED_USD else limit - used / 100
    except (FetchError, JobError, ValueError) as error:
        _logger.info("no balance: %s", secrets.redacted_text(str(error)))
        return None


async def _fetch_amounts(url: str, secrets: Secrets, timeout_s: float) -> tuple[float, float]:
    bodies = (fetch(url + name, "", timeout_s, secrets.headers) for name in ("subscription", "usage"))
    subscription, usage = (read_json(found[1]) if found else None for found in await asyncio.gather(*bodies))
    return _number(subscription, "hard_limit_usd"), _number(usage, "total_usage")


def _number(found: Any, name: str) -> float:
    value = found.get(name) if isinstance(found, dict) else None
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) < _MAX_AMOUNT:
        raise ValueError(f"it has no {name}")
    return float(value)
