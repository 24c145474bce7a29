"""Reads from a response how long to wait and how much of each rate limit remains."""

from __future__ import annotations

import contextlib
import datetime
import email.utils
import re
from collections.abc import Iterator, Mapping
from typing import Any

from batchmix.formats.lenient_json import read_json
from batchmix.records import Quota
from batchmix.responses.error_body import find_error, without_quotes

_DURATION = re.compile(r"(\d{1,15}(?:\.\d+)?)(ms|µs|us|ns|h|m|s)", re.ASCII)
_NUMBER = re.compile(r"\d{1,15}(?:\.\d*)?|\.\d+", re.ASCII)
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_UNIT_NAMES = {
    0.001: "millisecond milliseconds", 1.0: "sec secs second seconds 秒", 60.0: "min mins minute minutes 分钟 分",
    3600.0: "hr hrs hour hours 小时", 86_400.0: "d day days 天",
}  # fmt: skip
_ALL_UNITS = {**_UNITS, **{name: seconds for seconds, names in _UNIT_NAMES.items() for name in names.split()}}
_LENGTH, _UNIT = r"\d{1,9}(?:\.\d{1,15})?", "|".join(sorted(_ALL_UNITS, key=len, reverse=True))
_PIECE = re.compile(rf"({_LENGTH}) ?({_UNIT})", re.ASCII | re.IGNORECASE)
_PIECES = rf"((?:{_LENGTH} ?(?:{_UNIT})(?![a-z])(?:,? and |, | )?){{1,4}})"
_RETRY_VERBS = (
    r"\b(?:try(?:ing)? again|retry(?:ing)?(?: your requests?)?|wait|back off|available(?: again)?|resets?|cool ?down)"
)
_FILLERS = "(?::? (?:in|after|for|at least|another|about|around|approximately|roughly|less than|up to|the next))*"
_WAIT = re.compile(rf"{_RETRY_VERBS}{_FILLERS}:? ?~?{_PIECES}|{_PIECES}(?:之后|以后|后)", re.ASCII | re.IGNORECASE)
_WITHOUT_UNIT = re.compile(
    rf"\bretry[- ]after:? ({_LENGTH})(?=\W*$|[.,;)] )|\bretry_?delay\W{{1,12}}(?:seconds\W{{1,4}})?({_LENGTH})",
    re.ASCII | re.IGNORECASE,
)
"""Matches seconds without a unit, and Google's `retryDelay` when a gateway put the whole error into a message."""
_UNTIL = re.compile(
    r"\b(?:resets?|try again|retry|wait|available|until)\b[^.;]{0,24}?"
    r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?) ?(?:Z|UTC|GMT|\+00:?00)",
    re.ASCII | re.IGNORECASE,
)
_MAX_UNTIL_S = 3600.0
"""Points in time further ahead than this are ignored in a message. LiteLLM, for one, labels its local time as UTC."""
_FIELDS = {
    "retrydelay": 1.0, "retry_delay": 1.0, "retryafter": 1.0, "retry_after": 1.0, "retry_after_seconds": 1.0,
    "retryafterseconds": 1.0, "retry_after_sec": 1.0, "retry_after_s": 1.0, "retry_in": 1.0, "retryafterms": 0.001,
    "retry_after_ms": 0.001, "resets_in_seconds": 1.0, "resets_at": 1.0, "reset_at": 1.0, "x_ratelimit_reset": 1.0,
    "estimated_time": 1.0,
}  # fmt: skip
_PARENTS = ("error", "errors", "detail", "details", "metadata", "headers")
_UNIX_S, _UNIX_MS = 1e9, 1e11
"""Numbers of this size or more are Unix times, in seconds or in milliseconds. Smaller ones are durations."""
_MAX_NUMBER = 1e15
"""Numbers of this size or more are neither durations nor times, and are ignored."""
_MAX_RETRY_AFTER_S = 7 * 86_400.0
"""Longer waits are cut to this many seconds. A timer set centuries ahead would overflow."""
REMAINING_REQUESTS, REMAINING_TOKENS = "x-ratelimit-remaining-requests", "x-ratelimit-remaining-tokens"
"""Without either of these headers, `quotas` returns None for both limits."""
_REQUESTS = REMAINING_REQUESTS, "x-ratelimit-limit-requests", "x-ratelimit-reset-requests"
_TOKENS = REMAINING_TOKENS, "x-ratelimit-limit-tokens", "x-ratelimit-reset-tokens"
_LIMITS = (
    *(
        (f"{family}-remaining{of}", f"{family}-reset{of}")
        for family in ("x-ratelimit", "llm_provider-x-ratelimit", "ratelimit")
        for of in ("-requests", "-tokens", "")
    ),
    *(
        (f"anthropic-ratelimit-{of}-remaining", f"anthropic-ratelimit-{of}-reset")
        for of in ("requests", "tokens", "input-tokens", "output-tokens")
    ),
)
"""Pairs of headers: how much of a rate limit remains, and when it is full again."""
_SCOPED = re.compile(r"x-ratelimit-([a-z_]{1,40})-remaining-(requests|tokens)", re.IGNORECASE)
_USED_UP = re.compile(r"\b(?:remaining|r)=0\b.*?\b(?:reset|t)=(\d{1,15})")


def retry_after_s(status: int, headers: Mapping[str, str], now: float) -> float | None:
    """Return the wait in seconds that the headers ask for. None if they name none. `now` is Unix time.

    The first of these counts: `retry-after-ms`, `x-ms-retry-after-ms`, `Retry-After` (RFC 9110, 10.2.3, and variants),
    LiteLLM's `llm_provider-retry-after`. Without any of them, a 429 or 503 means to wait until the last of the
    used-up limits resets, according to the headers of OpenAI, Anthropic, GitHub and the IETF. A reset is a Go duration,
    a number of seconds or a point in time.
    """
    wait_s = _seconds(headers.get("retry-after-ms"), 0.001)
    if wait_s is None:
        wait_s = _seconds(headers.get("x-ms-retry-after-ms"), 0.001)
    if wait_s is None:
        wait_s = _wait(headers.get("Retry-After"), now)
    if wait_s is None:
        wait_s = _wait(headers.get("llm_provider-retry-after"), now)
    if wait_s is None and status in {429, 503}:
        used_up = _USED_UP.search(headers.get("RateLimit", ""))
        resets = [
            _wait(used_up and used_up[1], now),
            *(_wait(headers.get(reset), now) for left, reset in _LIMITS if headers.get(left, "").strip() == "0"),
        ]
        wait_s = max((reset for reset in resets if reset is not None), default=None)
    return wait_s if wait_s is None else min(wait_s, _MAX_RETRY_AFTER_S)


def wait_in_body(body: bytes, now: float) -> float | None:
    """Return the wait in seconds that an error's body asks for. None if it names none. Never raises.

    The wait may be stated in the message ("Please try again in 4.2s", "retry after 20 seconds", a point in time within
    the next hour) or in a field (Google's `retryDelay`, `retry_after`). Quotations in the message are ignored, since
    they may come from a prompt. `now` is Unix time.
    """
    error = find_error(body)
    if error is None:
        return None
    message = without_quotes(error.message)
    waits: list[float | None] = [_duration(match[1] or match[2]) for match in _WAIT.finditer(message)]
    waits += [float(match[1] or match[2]) for match in _WITHOUT_UNIT.finditer(message)]
    moments = [_until(match[1], now) for match in _UNTIL.finditer(message)]
    waits += [wait for wait in moments if wait is not None and 0 < wait <= _MAX_UNTIL_S]
    stated = [wait for wait in (*waits, *_in_fields(read_json(body), now)) if wait is not None]
    return min(max(stated), _MAX_RETRY_AFTER_S) if stated else None


def _duration(text: str) -> float:
    """Return the number of seconds in a duration such as `6m0s`, `20 seconds` or `1 minute and 5 s`."""
    return sum(float(number) * _ALL_UNITS[unit.lower()] for number, unit in _PIECE.findall(text))


def _in_fields(body: Any, now: float) -> Iterator[float | None]:
    """Yield the waits in the fields of an error body, including nested ones."""
    if isinstance(body, list):
        for part in body:
            yield from _in_fields(part, now)
    elif isinstance(body, dict):
        for name, value in body.items():
            unit = _FIELDS.get(name.lower().replace("-", "_"))
            if unit is not None:
                yield _field(value.get("seconds") if isinstance(value, dict) else value, unit, now)
            elif name in _PARENTS:
                yield from _in_fields(value, now)


def _field(value: Any, unit: float, now: float) -> float | None:
    if isinstance(value, str):
        plain = _seconds(value, unit) if unit != 1.0 else None
        return _wait(value, now) if plain is None else plain
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return _from_now(value * unit, now) if is_number and 0 <= value < _MAX_NUMBER else None


def quotas(headers: Mapping[str, str]) -> tuple[Quota | None, Quota | None]:
    """Return how much of the request limit and of the token limit remains, from OpenAI's headers `x-ratelimit-*`.

    LiteLLM reports the limits of a key, a user, a team and so on in headers of their own, such as
    `x-ratelimit-api_key-remaining-requests`. Of these, the limit counts of which the least remains.
    """
    found = _quota(headers, *_REQUESTS), _quota(headers, *_TOKENS)
    return found if found != (None, None) else (_least(headers, "requests"), _least(headers, "tokens"))


def has_scoped_quotas(headers: Mapping[str, str]) -> bool:
    """Return whether limits are reported for a key, a user, a team and so on, as LiteLLM does."""
    return any(map(_SCOPED.fullmatch, headers))


def _least(headers: Mapping[str, str], of: str) -> Quota | None:
    names = [match for match in map(_SCOPED.fullmatch, headers) if match and match[2].lower() == of]
    found = [_quota(headers, match[0], f"x-ratelimit-{match[1]}-limit-{of}", "") for match in names]
    return min((quota for quota in found if quota), key=lambda quota: quota.remaining, default=None)


def _quota(headers: Mapping[str, str], remaining_name: str, limit_name: str, reset_name: str) -> Quota | None:
    text = headers.get(remaining_name)
    remaining = None if text is None else _seconds(text)
    if remaining is None:
        return None
    limit = _seconds(headers.get(limit_name))
    if not limit:
        return None
    reset_s = _go_duration(headers.get(reset_name))
    return Quota(limit, remaining, None if reset_s is None or reset_s >= _UNIX_S else reset_s)


def _seconds(value: str | None, unit: float = 1.0) -> float | None:
    if value is None or not _NUMBER.fullmatch(value.strip()):
        return None
    return float(value) * unit


def _wait(value: str | None, now: float) -> float | None:
    """Return the seconds to wait for a value that is a number, a Go duration, or a point in time."""
    if value is None:
        return None
    seconds = _go_duration(value.strip())
    return _until(value, now) if seconds is None else _from_now(seconds, now)


def _from_now(seconds: float, now: float) -> float:
    if seconds < _UNIX_S:
        return seconds
    return max(0.0, (seconds / 1000 if seconds >= _UNIX_MS else seconds) - now)


def _until(value: str, now: float) -> float | None:
    """Return the seconds until a date in the format of HTTP or ISO 8601. A date without a time zone is in UTC."""
    for read in (email.utils.parsedate_to_datetime, datetime.datetime.fromisoformat):
        with contextlib.suppress(ValueError, TypeError, OverflowError, IndexError):
            date = read(value.strip())
            return max(0.0, (date if date.tzinfo else date.replace(tzinfo=datetime.UTC)).timestamp() - now)
    return None


def _go_duration(value: str | None) -> float | None:
    plain = _seconds(value)
    if plain is not None or value is None:
        return plain
    pieces = _DURATION.findall(value)
    if not pieces or "".join(number + unit for number, unit in pieces) != value:
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in pieces)
