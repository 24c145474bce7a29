"""The values of the rehearsal provider's options that have parts: outages, limits, ranges."""

from __future__ import annotations

import dataclasses
import math
import re

_RANGE = re.compile(r"([\d.]+(?:e[+-]?\d+)?)(?:-([\d.]+(?:e[+-]?\d+)?))?")
REFUSED = "refused"
"""The value of `Outage.kind` for refused connections. This is not a kind of reply, because no reply is sent."""
UNITS = ("requests", "tokens", "used_tokens", "input_tokens")
"""What a limit counts: requests; prompt and `max_tokens`, or the answer without it; prompt and answer; the prompt."""
WINDOWS = ("bucket", "fixed", "first", "sliding")
"""How a limit counts: as a token bucket that starts full; in periods that follow each other; in periods that each begin
with a request; or over the time before each request."""


@dataclasses.dataclass(frozen=True)
class Outage:
    """A period in which every request fails."""

    start_s: float
    """When the outage starts: seconds after the behaviour took effect."""
    length_s: float
    kind: str = "503_down"
    """The kind of reply that all requests get. `refused` instead cuts open connections and refuses new ones."""


@dataclasses.dataclass(frozen=True)
class Limit:
    """A limit: at most `amount` of a unit in `length_s` seconds."""

    amount: float
    unit: str
    """One of `UNITS`."""
    length_s: float
    window: str = "bucket"
    """One of `WINDOWS`."""


def outages(text: str) -> tuple[Outage, ...]:
    """Read outages: START_S:LENGTH_S[:KIND], separated by commas. Raises `ValueError`."""
    return tuple(_outage(*outage.split(":")) for outage in text.split(","))


def _outage(start_s: str, length_s: str = "", *kind: str) -> Outage:
    if len(kind) > 1 or not 0 <= float(start_s) < math.inf or not 0 < float(length_s) < math.inf:
        raise ValueError(start_s)
    return Outage(float(start_s), float(length_s), *kind)


def limits(text: str) -> tuple[Limit, ...]:
    """Read limits: AMOUNT:UNIT:SECONDS[:WINDOW], separated by commas. Raises `ValueError`."""
    return tuple(_limit(*limit.split(":")) for limit in text.split(","))


def _limit(amount: str, unit: str = "", length_s: str = "", *window: str) -> Limit:
    if unit not in UNITS or len(window) > 1 or not set(window) <= set(WINDOWS):
        raise ValueError(unit)
    if not 1 <= float(amount) < math.inf or not 0 < float(length_s) < math.inf:
        raise ValueError(amount)
    return Limit(float(amount), unit, float(length_s), *window)


def number_range(text: str) -> tuple[float, float]:
    """Read a number, or a range such as `0.05-0.2`. Raises `ValueError`."""
    match = _RANGE.fullmatch(text)
    if not match:
        raise ValueError(text)
    return float(match[1]), float(match[2] or match[1])


def flag(text: str) -> bool:
    """Read `true` or `false`. Raises `ValueError`."""
    if text.lower() not in {"true", "false", "1", "0"}:
        raise ValueError(text)
    return text.lower() in {"true", "1"}
