"""What a provider says of its limits: how long to wait, and what is left of its budgets."""

from __future__ import annotations

import datetime
import email.utils
import re
from collections.abc import Mapping

from multidict import istr

from batchmix.records import Quota

_DURATION = re.compile(r"(\d{1,15}(?:\.\d+)?)(ms|µs|us|ns|h|m|s)", re.ASCII)
_NUMBER = re.compile(r"\d{1,15}(?:\.\d*)?|\.\d+", re.ASCII)
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_LONGEST_S = 7 * 86_400.0
"""Nothing waits longer; a timer set centuries ahead would overflow."""
_REQUESTS = tuple(istr(f"x-ratelimit-{what}-requests") for what in ("remaining", "limit", "reset"))
_TOKENS = tuple(istr(f"x-ratelimit-{what}-tokens") for what in ("remaining", "limit", "reset"))
_BUDGETS = (("x-ratelimit", "-requests"), ("x-ratelimit", "-tokens"), ("ratelimit", ""))


def retry_after_s(status: int, headers: Mapping[str, str], now: float) -> float | None:
    """Return how long the provider asks to wait, or None where it does not say; `now` is Unix time.

    `retry-after-ms`, `Retry-After` as seconds or date (RFC 9110, 10.2.3), LiteLLM's `llm_provider-retry-after`. On a
    429 or 503 also the reset of a budget with nothing remaining: `x-ratelimit-reset-*` as Go durations or Azure's
    whole seconds, and the IETF's `RateLimit-Reset`.
    """
    found = _seconds(headers.get("retry-after-ms"), 0.001)
    if found is None:
        found = _seconds_or_date(headers.get("Retry-After"), now)
    if found is None:
        found = _seconds_or_date(headers.get("llm_provider-retry-after"), now)
    if found is None and status in {429, 503}:
        resets = [
            _go_duration(headers.get(f"{family}-reset{budget}"))
            for family, budget in _BUDGETS
            if (headers.get(f"{family}-remaining{budget}") or "").strip() == "0"
        ]
        found = max((reset for reset in resets if reset is not None), default=None)
    return found if found is None else min(found, _LONGEST_S)


def quotas(headers: Mapping[str, str]) -> tuple[Quota | None, Quota | None]:
    """Return what the answer says of the budgets of requests and of tokens (OpenAI's `x-ratelimit-*`)."""
    if _REQUESTS[0] not in headers and _TOKENS[0] not in headers:
        return None, None
    return _quota(headers, *_REQUESTS), _quota(headers, *_TOKENS)


def _quota(headers: Mapping[str, str], remaining_name: str, limit_name: str, reset_name: str) -> Quota | None:
    found = headers.get(remaining_name)
    remaining = None if found is None else _seconds(found)
    if remaining is None:
        return None
    limit = _seconds(headers.get(limit_name))
    reset_s = _go_duration(headers.get(reset_name))
    return None if not limit or reset_s is None else Quota(limit, remaining, reset_s)


def _seconds(value: str | None, unit: float = 1.0) -> float | None:
    if value is None or not _NUMBER.fullmatch(value.strip()):
        return None
    return float(value) * unit


def _seconds_or_date(value: str | None, now: float) -> float | None:
    found = _seconds(value)
    if found is not None or value is None:
        return found
    try:
        date = email.utils.parsedate_to_datetime(value)
        if date.tzinfo is None:
            date = date.replace(tzinfo=datetime.UTC)
        return max(0.0, date.timestamp() - now)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _go_duration(value: str | None) -> float | None:
    plain = _seconds(value)
    if plain is not None or value is None:
        return plain
    pieces = _DURATION.findall(value)
    if not pieces or "".join(number + unit for number, unit in pieces) != value:
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in pieces)
