"""What a provider says of its limits: how long to wait, and what is left of its budgets."""

from __future__ import annotations

import datetime
import email.utils
import re
from collections.abc import Iterator, Mapping
from typing import Any

from multidict import istr

from batchmix.loose_json import read_json
from batchmix.records import Quota
from batchmix.send.complaints import find_complaint, unquoted

_DURATION = re.compile(r"(\d{1,15}(?:\.\d+)?)(ms|µs|us|ns|h|m|s)", re.ASCII)
_NUMBER = re.compile(r"\d{1,15}(?:\.\d*)?|\.\d+", re.ASCII)
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_WORDS = {
    0.001: "millisecond milliseconds", 1.0: "sec secs second seconds 秒", 60.0: "min mins minute minutes 分钟",
    3600.0: "hr hrs hour hours 小时", 86_400.0: "d day days",
}  # fmt: skip
_SPOKEN = {**_UNITS, **{word: seconds for seconds, words in _WORDS.items() for word in words.split()}}
_LENGTH, _UNIT = r"\d{1,9}(?:\.\d{1,15})?", "|".join(sorted(_SPOKEN, key=len, reverse=True))
_PIECE = re.compile(rf"({_LENGTH}) ?({_UNIT})", re.ASCII | re.IGNORECASE)
_PIECES = rf"((?:{_LENGTH} ?(?:{_UNIT})(?![a-z])(?:,? and |, | )?){{1,4}})"
_ASKED = re.compile(
    rf"\b(?:try(?:ing)? again|retry(?:ing)?|wait)(?: (?:in|after|for|at least|another|about|the next))* ?~?{_PIECES}"
    rf"|{_PIECES}(?:之后|以后|后)",
    re.ASCII | re.IGNORECASE,
)
_FIELDS = {
    "retrydelay": 1.0, "retry_delay": 1.0, "retryafter": 1.0, "retry_after": 1.0, "retry_after_seconds": 1.0,
    "retry_after_s": 1.0, "retryafterms": 0.001, "retry_after_ms": 0.001,
}  # fmt: skip
_AROUND = ("error", "errors", "detail", "details", "metadata", "headers")
_NO_WAIT = 1e15
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


def wait_in_text(body: bytes) -> float | None:
    """Return how long an error asks to wait, in its own words; None where it does not say. Never raises.

    "Please try again in 4.2s", "retry after 20 seconds", "in 6m0s"; Google's `retryDelay`; `retry_after` beside the
    message. What a message quotes may come out of a prompt, and asks for nothing.
    """
    complaint = find_complaint(body)
    if complaint is None:
        return None
    waits = [_spoken(words[1] or words[2]) for words in _ASKED.finditer(unquoted(complaint.message))]
    told = [wait for wait in (*waits, *_told(read_json(body))) if wait is not None]
    return min(max(told), _LONGEST_S) if told else None


def _spoken(words: str) -> float:
    """Return the seconds of `6m0s`, `20 seconds` or `1 minute and 5 s`."""
    return sum(float(number) * _SPOKEN[unit.lower()] for number, unit in _PIECE.findall(words))


def _told(found: Any) -> Iterator[float | None]:
    """Yield the waits in the fields of an error, and of what stands around it."""
    if isinstance(found, list):
        for part in found:
            yield from _told(part)
    elif isinstance(found, dict):
        for name, value in found.items():
            unit = _FIELDS.get(name.lower().replace("-", "_"))
            if unit is not None:
                yield _field(value.get("seconds") if isinstance(value, dict) else value, unit)
            elif name in _AROUND:
                yield from _told(value)


def _field(value: Any, unit: float) -> float | None:
    if isinstance(value, str):
        plain = _seconds(value, unit)
        return _go_duration(value.strip()) if plain is None else plain
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value * unit if is_number and 0 <= value < _NO_WAIT else None


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
