"""What is left of an account, where the gateway tells it.

AiHubMix answers `GET /v1/dashboard/billing/subscription` with `hard_limit_usd`, all that ever was there, and `…/usage`
with `total_usage`, what is spent, in hundredths of a USD. A limit of 100,000,000 stands for none.
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
_NO_AMOUNT = 1e15
_logger = logging.getLogger(__name__)


def get_balance(base_url: str, secrets: Secrets, timeout_s: float) -> float | None:
    """Return the USD that are left, or None where that has no bound or nobody tells it. Never raises for either.

    To be called in a thread that has no event loop.
    """
    try:
        limit, used = asyncio.run(_ask(f"{base_url}/dashboard/billing/", secrets, timeout_s))
        return None if limit >= _UNLIMITED_USD else limit - used / 100
    except (FetchError, JobError, ValueError) as error:
        _logger.info("no balance: %s", secrets.redacted_text(str(error)))
        return None


async def _ask(url: str, secrets: Secrets, timeout_s: float) -> tuple[float, float]:
    bodies = (fetch(url + what, "", timeout_s, secrets.headers) for what in ("subscription", "usage"))
    subscription, usage = (read_json(found[1]) if found else None for found in await asyncio.gather(*bodies))
    return _number(subscription, "hard_limit_usd"), _number(usage, "total_usage")


def _number(found: Any, name: str) -> float:
    value = found.get(name) if isinstance(found, dict) else None
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) < _NO_AMOUNT:
        raise ValueError(f"there is no {name} in it")
    return float(value)
