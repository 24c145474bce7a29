"""When the next request may leave: budgets of requests and tokens, a window, and one pause for all.

Pure logic on a clock that is handed in as `now` (seconds, monotonic); it never waits and never asks the time. The
budgets are token buckets (Turner 1986) with a minute's worth of room, as providers count; the window is cut
multiplicatively and grown additively (AIMD: Chiu and Jain 1989), at most once per round trip.
"""

from __future__ import annotations

import enum
import logging
import math
import random

from batchmix.job import Limits

_logger = logging.getLogger(__name__)
_UNKNOWN_COMPLETION = 256
"""Tokens to expect of an answer when nothing is known yet."""
_LONGEST_PAUSE_S = 60.0
_CUT = 0.7


class Limit(enum.Enum):
    """What keeps the next request from leaving."""

    NONE = "none"
    REQUESTS = "requests per minute"
    TOKENS = "tokens per minute"
    WINDOW = "window"
    PAUSE = "pause"


class Bucket:
    """A budget that refills evenly and holds at most a minute's worth."""

    def __init__(self, per_minute: float, now: float) -> None:
        self.per_s = per_minute / 60
        self.capacity = per_minute
        self._level = self.capacity
        self._at = now

    def wait_s(self, now: float, amount: float) -> float:
        """Return how long until `amount` is there; more than it can hold asks for a full bucket."""
        self._refill(now)
        missing = min(amount, self.capacity) - self._level
        return max(0.0, missing / self.per_s)

    def take(self, amount: float) -> None:
        """Take from it, below zero if need be."""
        self._level -= amount

    def drain(self, now: float) -> None:
        """Forget what was saved up: the provider says that there is none."""
        self._refill(now)
        self._level = min(self._level, 0.0)

    def _refill(self, now: float) -> None:
        self._level = min(self.capacity, self._level + (now - self._at) * self.per_s)
        self._at = now


class Governor:
    """Decides for one lane when a request may leave.

    Each request that is admitted must be settled exactly once: by `settle` when its end is known or given up.
    """

    def __init__(self, limits: Limits, now: float) -> None:
        self.in_flight = 0
        self.window = float(limits.concurrency)
        self.limited_by = Limit.NONE
        self._ceiling = float(limits.concurrency)
        self._told = limits.requests_per_minute is not None or limits.tokens_per_minute is not None
        self._requests = Bucket(limits.requests_per_minute, now) if limits.requests_per_minute else None
        self._tokens = Bucket(limits.tokens_per_minute, now) if limits.tokens_per_minute else None
        self._pause_until = -math.inf
        self._throttles_in_a_row = 0
        self._cut_at = -math.inf
        self._latency_s = 1.0
        self._completion = float(_UNKNOWN_COMPLETION)
        self._prompt_ratio = 1.0

    def estimate(self, prompt_tokens: int, max_tokens: int | None) -> float:
        """Return the tokens that a request will probably be charged, by what answers have taught so far."""
        completion = self._completion if max_tokens is None else min(self._completion, max_tokens)
        return prompt_tokens * self._prompt_ratio + completion

    def wait_s(self, now: float, tokens: float) -> float:
        """Return how long the next request has to wait: 0 not at all, infinity until one in flight has ended."""
        if self.in_flight >= self.window:
            self.limited_by = Limit.WINDOW
            return math.inf
        if now < self._pause_until:
            self.limited_by = Limit.PAUSE
            return self._pause_until - now
        if self._requests is None and self._tokens is None:
            self.limited_by = Limit.NONE
            return 0.0
        by_requests = self._requests.wait_s(now, 1) if self._requests else 0.0
        by_tokens = self._tokens.wait_s(now, tokens) if self._tokens else 0.0
        if by_requests or by_tokens:
            self.limited_by = Limit.TOKENS if by_tokens > by_requests else Limit.REQUESTS
        else:
            self.limited_by = Limit.NONE
        return max(by_requests, by_tokens)

    def admit(self, tokens: float) -> None:
        """Reserve what a request needs."""
        self.in_flight += 1
        if self._requests:
            self._requests.take(1)
        if self._tokens:
            self._tokens.take(tokens)

    def settle(self, reserved: float, used: float | None) -> None:
        """Take note that a request ended; `used` tokens, None where nobody knows, 0 where it was refused."""
        self.in_flight -= 1
        if self._tokens and used is not None:
            self._tokens.take(used - reserved)

    def answered(self, prompt_estimate: int, prompt_tokens: int | None, completion_tokens: int | None) -> None:
        """Learn from the usage of an answer."""
        self._throttles_in_a_row = 0
        if self.window < self._ceiling:
            self.window = min(self._ceiling, self.window + 1 / self.window)
        if prompt_tokens:
            self._prompt_ratio += 0.05 * (prompt_tokens / prompt_estimate - self._prompt_ratio)
        if completion_tokens is not None:
            self._completion += 0.05 * (completion_tokens - self._completion)

    def heard_after(self, latency_s: float) -> None:
        """Learn how long a round trip takes."""
        self._latency_s += 0.1 * (latency_s - self._latency_s)

    def throttled(self, now: float, sent_at: float, retry_after_s: float | None) -> None:
        """Pause for as long as the provider asked, or a little longer each time where it did not say."""
        if retry_after_s is None and now >= self._pause_until:
            self._throttles_in_a_row += 1
            longest = min(_LONGEST_PAUSE_S, 0.5 * 2**self._throttles_in_a_row)
            retry_after_s = random.uniform(longest / 2, longest)
        self._pause_until = max(self._pause_until, now + (retry_after_s or 0.0))
        if sent_at < self._cut_at:  # it left before the last cut: no news
            return
        self._cut_at = now
        _logger.info("throttled: nothing leaves for %.1f s", self._pause_until - now)
        for bucket in (self._requests, self._tokens):
            if bucket:
                bucket.drain(now)
        if not self._told:
            self.window = max(1.0, min(self.window, float(self.in_flight + 1)) * _CUT)
