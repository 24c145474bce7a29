"""The limits of the rehearsal provider, its places in flight, and the balance of its account."""

from __future__ import annotations

import asyncio
import collections
import math
from collections.abc import Callable
from typing import Protocol

from batchmix.rehearsal.behaviour import Behaviour
from batchmix.rehearsal.option_values import Limit
from batchmix.rehearsal.request import Json

_UNLIMITED_USD = 100_000_000
"""The `hard_limit_usd` that AiHubMix reports for an account without a limit."""


class Counter(Protocol):
    """Counts what is taken from one limit. Times are seconds of a monotonic clock."""

    limit: Limit

    def wait_s(self, amount: float, now: float) -> float:
        """Return the seconds until an amount may be taken. An amount above the whole limit counts as all of it."""

    def take(self, amount: float, now: float) -> None:
        """Take an amount."""

    def left(self, now: float) -> float:
        """Return how much may be taken at once."""

    def reset_s(self, now: float) -> float:
        """Return the seconds until all of the limit is free again."""


class _SteadyRefill:
    """A token bucket that starts full."""

    def __init__(self, limit: Limit, now: float, capacity: float) -> None:
        self.limit = limit
        self._per_s, self._capacity = limit.amount / limit.length_s, capacity
        self._level, self._at = capacity, now

    def wait_s(self, amount: float, now: float) -> float:
        return (min(amount, self._capacity) - self.left(now)) / self._per_s

    def take(self, amount: float, now: float) -> None:
        self._level = self.left(now) - min(amount, self._capacity)

    def left(self, now: float) -> float:
        self._level = min(self._capacity, self._level + (now - self._at) * self._per_s)
        self._at = now
        return self._level

    def reset_s(self, now: float) -> float:
        return (self._capacity - self.left(now)) / self._per_s


class _Periods:
    """Periods of one length: each follows the last, or begins with the first request after it."""

    def __init__(self, limit: Limit, now: float) -> None:
        self.limit = limit
        self._fixed = limit.window == "fixed"
        self._until = now + limit.length_s if self._fixed else now
        self._taken = 0.0

    def wait_s(self, amount: float, now: float) -> float:
        return self._until - now if min(amount, self.limit.amount) > self.left(now) else 0.0

    def take(self, amount: float, now: float) -> None:
        self._enter(now)
        if now >= self._until:
            self._until = now + self.limit.length_s
        self._taken += min(amount, self.limit.amount)

    def left(self, now: float) -> float:
        self._enter(now)
        return self.limit.amount - self._taken

    def reset_s(self, now: float) -> float:
        self._enter(now)
        return max(0.0, self._until - now)

    def _enter(self, now: float) -> None:
        if now >= self._until:
            self._taken = 0.0
            if self._fixed:
                self._until += self.limit.length_s * (1 + (now - self._until) // self.limit.length_s)


class _Sliding:
    """The time before each request, of one length."""

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self._taken: collections.deque[tuple[float, float]] = (
            collections.deque()
        )  # until when it counts, and the amount
        self._sum = 0.0

    def wait_s(self, amount: float, now: float) -> float:
        missing = min(amount, self.limit.amount) - self.left(now)
        for until, taken in self._taken if missing > 0 else ():
            missing -= taken
            if missing <= 0:
                return until - now
        return 0.0

    def take(self, amount: float, now: float) -> None:
        amount = min(amount, self.limit.amount)
        self._taken.append((now + self.limit.length_s, amount))
        self._sum += amount

    def left(self, now: float) -> float:
        while self._taken and self._taken[0][0] <= now:
            self._sum -= self._taken.popleft()[1]
        return self.limit.amount - self._sum

    def reset_s(self, now: float) -> float:
        self.left(now)
        return self._taken[-1][0] - now if self._taken else 0.0


def _counter(limit: Limit, now: float) -> Counter:
    if limit.window == "bucket":
        return _SteadyRefill(limit, now, limit.amount)
    return _Sliding(limit) if limit.window == "sliding" else _Periods(limit, now)


class RehearsalLimits:
    """The limits `rpm` and `tpm`, as token buckets, and those of `limit`. Callers pass the time in seconds."""

    def __init__(self, behaviour: Behaviour, now: float) -> None:
        self._has_reset = behaviour.reset_headers
        self._counters = [
            _SteadyRefill(Limit(per_minute, unit, 60.0), now, max(1.0, per_minute / 60 * behaviour.burst_s))
            for unit, per_minute in (("requests", behaviour.rpm), ("tokens", behaviour.tpm))
            if per_minute
        ] + [_counter(limit, now) for limit in behaviour.limit]

    def admit(self, now: float, charge: Callable[[str], float]) -> float:
        """Take what a request is charged from all limits, and return 0.

        If one of them does not hold enough, take nothing and return the seconds until all do. A request that takes more
        than a whole limit is admitted once the limit is free. `charge` returns the charge in a unit.
        """
        charges = [(counter, charge(counter.limit.unit)) for counter in self._counters]
        wait_s = max((counter.wait_s(amount, now) for counter, amount in charges), default=0.0)
        if wait_s > 1e-9:  # less is rounding
            return wait_s
        for counter, amount in charges:
            counter.take(amount, now)
        return 0.0

    def headers(self, now: float) -> list[tuple[str, str]]:
        """Return the `x-ratelimit-…` headers, which report the limit, the rest and the reset time for each unit.

        Of several limits of a unit, they report the one of which the smallest share is left.
        """
        reported: dict[str, Counter] = {}
        for counter in sorted(self._counters, key=lambda counter: counter.left(now) / counter.limit.amount):
            reported.setdefault(counter.limit.unit.removeprefix("used_").replace("_", "-"), counter)
        headers = []
        for name, counter in reported.items():
            headers.append((f"x-ratelimit-limit-{name}", str(round(counter.limit.amount))))
            headers.append((f"x-ratelimit-remaining-{name}", str(max(0, math.floor(counter.left(now) + 1e-9)))))
            if self._has_reset:
                headers.append((f"x-ratelimit-reset-{name}", duration(counter.reset_s(now))))
        return headers


class ModelPlaces:
    """The places in flight that `concurrency` allows, and the queue of requests that wait for one."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self._in_flight = 0  # requests that have been read and have no reply yet
        self._waiting: collections.deque[asyncio.Future[None]] = collections.deque()

    @property
    def are_taken(self) -> bool:
        """Whether the next request has to wait."""
        return 0 < self._behaviour.concurrency <= self._in_flight

    @property
    def queue_is_full(self) -> bool:
        """Whether no further request may wait."""
        return len(self._waiting) >= self._behaviour.queue

    async def enter(self, *, queued: bool) -> bool:
        """Take a place, if `queued` once there is one. Return False if the request has waited too long."""
        if not queued:
            self._in_flight += 1
            return True
        place = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            async with asyncio.timeout(self._behaviour.queue_s or None):
                await place
        except (TimeoutError, asyncio.CancelledError) as error:
            if place.cancelled():
                self._waiting.remove(place)
            elif isinstance(error, asyncio.CancelledError):
                self.leave()
            if isinstance(error, asyncio.CancelledError):
                raise
            return not place.cancelled()
        return True

    def leave(self) -> None:
        """Give up a place: the request that has waited longest gets it."""
        self._in_flight -= 1
        while self._waiting and not self.are_taken:
            place = self._waiting.popleft()
            if not place.done():
                self._in_flight += 1
                place.set_result(None)


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
