"""The rate limits of the rehearsal provider, and the balance of its account."""

from __future__ import annotations

import math

from batchmix.rehearsal.behaviour import Behaviour
from batchmix.rehearsal.request import Json

_UNLIMITED_USD = 100_000_000
"""The `hard_limit_usd` that AiHubMix reports for an account without a limit."""


class RehearsalLimits:
    """The limits `rpm` and `tpm`, as two token buckets. Callers pass the time in seconds."""

    def __init__(self, behaviour: Behaviour, now: float) -> None:
        per_s = {"requests": behaviour.rpm / 60, "tokens": behaviour.tpm / 60}
        self._per_s = {name: rate for name, rate in per_s.items() if rate}
        self._capacity = {name: max(1.0, rate * behaviour.burst_s) for name, rate in self._per_s.items()}
        self._level = dict(self._capacity)
        self._at = now

    def admit(self, tokens: int, now: float) -> float:
        """Take one request and its tokens from the buckets, and return 0.

        If they don't hold enough, take nothing and return the seconds until they do. A request with more tokens than
        the bucket can hold is admitted once the bucket is full.
        """
        if not self._per_s:
            return 0.0
        self._refill(now)
        needed = {"requests": 1.0, "tokens": float(tokens)}
        taken = {name: min(needed[name], self._capacity[name]) for name in self._per_s}
        wait_s = max((taken[name] - self._level[name]) / rate for name, rate in self._per_s.items())
        if wait_s > 1e-9:  # less is rounding
            return wait_s
        for name, amount in taken.items():
            self._level[name] -= amount
        return 0.0

    def headers(self, now: float) -> list[tuple[str, str]]:
        """Return the `x-ratelimit-…` headers, which report the limit, the rest and the reset time of each bucket."""
        if not self._per_s:
            return []
        self._refill(now)
        headers = []
        for name, rate in self._per_s.items():
            full_s = (self._capacity[name] - self._level[name]) / rate
            headers.append((f"x-ratelimit-limit-{name}", str(round(rate * 60))))
            headers.append((f"x-ratelimit-remaining-{name}", str(max(0, math.floor(self._level[name] + 1e-9)))))
            headers.append((f"x-ratelimit-reset-{name}", duration(full_s)))
        return headers

    def _refill(self, now: float) -> None:
        for name, rate in self._per_s.items():
            self._level[name] = min(self._capacity[name], self._level[name] + (now - self._at) * rate)
        self._at = now


def duration(seconds: float) -> str:
    """Format a duration in Go's notation, rounded up to milliseconds: `12ms`, `1.5s`, `6m0s`."""
    ms = math.ceil(seconds * 1000 - 1e-6)
    if ms < 1000:
        return f"{ms}ms"
    minutes, rest = divmod(ms, 60_000)
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + f"{rest / 1000:g}s"


class RehearsalBalance:
    """The account's balance, in answers and in USD. Each answer reduces it."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self._answers = 0
        self.spent_usd = 0.0

    @property
    def is_empty(self) -> bool:
        """Whether either balance, in answers or in USD, is used up."""
        behaviour = self._behaviour
        return 0 <= behaviour.balance <= self._answers or 0 <= behaviour.balance_usd <= self.spent_usd

    def count_answer(self) -> None:
        """Subtract one from the balance in answers."""
        self._answers += 1

    def charge(self, usage: Json, behaviour: Behaviour, saved_tokens: float) -> None:
        """Subtract the cost of an answer from the balance in USD.

        `usage` has the token counts of the answer, and `behaviour` has the prices of its model. `saved_tokens` says how
        many prompt tokens less are billed because of the prompt cache.
        """
        prompt_usd, completion_usd = behaviour.price
        prompt_tokens = usage["prompt_tokens"] if "prompt_tokens" in usage else usage["input_tokens"]
        completion_tokens = usage["total_tokens"] - prompt_tokens
        self.spent_usd += ((prompt_tokens - saved_tokens) * prompt_usd + completion_tokens * completion_usd) / 1e6

    def subscription(self) -> Json:
        """Return the body of `GET /v1/dashboard/billing/subscription`: the original balance in USD."""
        limit = self._behaviour.balance_usd
        if limit < 0:
            limit = self.spent_usd if self.is_empty else _UNLIMITED_USD
        return {
            "object": "billing_subscription",
            "has_payment_method": True,
            "soft_limit_usd": limit,
            "hard_limit_usd": limit,
            "system_hard_limit_usd": limit,
            "access_until": 0,
        }

    def usage(self) -> Json:
        """Return the body of `GET /v1/dashboard/billing/usage`: the amount spent, in hundredths of a USD."""
        return {"object": "list", "total_usage": self.spent_usd * 100}
