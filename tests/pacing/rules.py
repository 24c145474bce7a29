"""The limits of a simulated provider: what each counts, over which time, and what it says about itself."""

from __future__ import annotations

import collections
import dataclasses
import math
from typing import Protocol

from batchmix.records import Quota


@dataclasses.dataclass(frozen=True)
class Rule:
    """One limit of a provider."""

    per_minute: float
    counts: str = "requests"
    """What is counted: `requests`, or tokens: `usage` for prompt and completion, `reserved` for prompt and max_tokens,
    `input` for the prompt, or `output` for the completion, which is charged when the answer ends."""
    window: str = "bucket"
    """How it is counted: in a token `bucket`, in `fixed` windows of the clock, in windows that begin with the `first`
    request after the end of the last one, or in a `sliding` window."""
    span_s: float = 60.0
    """The length of the window; in a bucket, the unused time that it saves up. It is full at the start."""
    holds: float | None = None
    """What a bucket holds, in place of what refills in `span_s`."""
    random_phase: bool = False
    """Whether fixed windows follow the clock, so that one began before the start. Otherwise one begins there."""
    reported: str = ""
    """What headers report: nothing, `all`, or `no reset`: the limit and what remains of it."""


def requests(per_minute: float, **more: object) -> Rule:
    """Return a limit of requests per minute."""
    return Rule(per_minute, **more)  # type: ignore[arg-type]


def tokens(per_minute: float, counts: str = "usage", **more: object) -> Rule:
    """Return a limit of tokens per minute."""
    return Rule(per_minute, counts, **more)  # type: ignore[arg-type]


class Meter(Protocol):
    """A limit in use."""

    def wait_s(self, now: float, amount: float) -> float:
        """Return the seconds until `amount` fits under the limit, and take nothing."""
        ...

    def take(self, now: float, amount: float) -> None:
        """Take an amount, even if it does not fit."""
        ...

    def scale(self, now: float, factor: float) -> None:
        """Multiply the limit."""
        ...

    def state(self, now: float) -> tuple[float, float, float]:
        """Return the limit, what remains of it, and the seconds until all of it remains."""
        ...


def meter(rule: Rule, minute_at: float) -> Meter:
    """Return the meter of a rule. A minute of the clock began at `minute_at`."""
    if rule.window == "bucket":
        return _Bucket(rule)
    if rule.window == "sliding":
        return _Sliding(rule)
    return _Fixed(rule, -(-minute_at % rule.span_s) if rule.random_phase else 0.0)


def quota(rule: Rule, of: Meter, now: float) -> Quota | None:
    """Return the state of a limit as the headers report it."""
    if not rule.reported:
        return None
    limit, remaining, reset_s = of.state(now)
    return Quota(round(limit), math.floor(max(0.0, remaining)), reset_s if rule.reported == "all" else None)


class _Bucket:
    def __init__(self, rule: Rule) -> None:
        self._per_s = rule.per_minute / 60
        self._span_s = rule.span_s if rule.holds is None else None
        self._room = rule.holds or max(1.0, self._per_s * rule.span_s)
        self._level = self._room
        self._at = 0.0

    def wait_s(self, now: float, amount: float) -> float:
        self._level = min(self._room, self._level + (now - self._at) * self._per_s)
        self._at = now
        missing = min(amount, self._room) - self._level
        return missing / self._per_s if missing > 1e-9 else 0.0

    def take(self, now: float, amount: float) -> None:
        self._level -= amount

    def scale(self, now: float, factor: float) -> None:
        self.wait_s(now, 0)
        self._per_s *= factor
        if self._span_s is not None:
            self._room = max(1.0, self._per_s * self._span_s)
        self._level = min(self._level, self._room)

    def state(self, now: float) -> tuple[float, float, float]:
        self.wait_s(now, 0)
        limit = self._room if self._span_s == 60 else self._per_s * 60
        return limit, self._level, (self._room - self._level) / self._per_s


class _Fixed:
    """Windows of the clock from `begins_at` on, or windows that begin with the first request after the last one."""

    def __init__(self, rule: Rule, begins_at: float) -> None:
        self._span_s = rule.span_s
        self._by_clock = rule.window == "fixed"
        self._room = self._level = rule.per_minute / 60 * rule.span_s
        self._end = begins_at + rule.span_s if self._by_clock else -math.inf

    def wait_s(self, now: float, amount: float) -> float:
        if now >= self._end:
            self._level = self._room
            if self._by_clock:
                self._end += self._span_s * (1 + (now - self._end) // self._span_s)
        return 0.0 if min(amount, self._room) <= self._level + 1e-9 else self._end - now

    def take(self, now: float, amount: float) -> None:
        if now >= self._end:
            self._end = now + self._span_s
        self._level -= amount

    def scale(self, now: float, factor: float) -> None:
        before, self._room = self._room, self._room * factor
        self._level = min(self._level + max(0.0, self._room - before), self._room)

    def state(self, now: float) -> tuple[float, float, float]:
        self.wait_s(now, 0)
        return self._room, self._level, max(0.0, self._end - now)


class _Sliding:
    def __init__(self, rule: Rule) -> None:
        self._span_s = rule.span_s
        self._room = self._level = rule.per_minute / 60 * rule.span_s
        self._log: collections.deque[tuple[float, float]] = collections.deque()

    def wait_s(self, now: float, amount: float) -> float:
        log = self._log
        while log and log[0][0] <= now - self._span_s:
            self._level += log.popleft()[1]
        missing, freed = min(amount, self._room) - self._level, 0.0
        if missing <= 1e-9:
            return 0.0
        for at, took in log:
            freed += took
            if freed >= missing:
                return at + self._span_s - now
        return self._span_s

    def take(self, now: float, amount: float) -> None:
        self._level -= amount
        self._log.append((now, amount))

    def scale(self, now: float, factor: float) -> None:
        before, self._room = self._room, self._room * factor
        self._level = min(self._level + self._room - before, self._room)

    def state(self, now: float) -> tuple[float, float, float]:
        self.wait_s(now, 0)
        return self._room, self._level, self._log[-1][0] + self._span_s - now if self._log else 0.0
