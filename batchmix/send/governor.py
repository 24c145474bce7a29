"""When the next request may leave: budgets of requests and tokens, a window, and one pause for all.

Pure logic on a clock that is handed in as `now` (seconds, monotonic); it never waits and never asks the time.
"""

from __future__ import annotations

import collections
import enum
import logging
import math
import random
from collections.abc import Sequence

import msgspec

from batchmix.job import Limits
from batchmix.records import Quota, Usage
from batchmix.send.bucket import Bucket
from batchmix.send.window import Window

_logger = logging.getLogger(__name__)
_UNKNOWN_COMPLETION = 256
"""Tokens to expect of an answer when nothing is known yet."""
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 60.0
_GAP_S = 2.0
"""A longer time between two requests says nothing about limits, unless they made us wait that long."""
_TROUBLE_S = 2.0
"""So long after an error of the provider's nothing more is tried."""
_LATELY, _STRAY = 50, 0.12
"""Fewer than that share refused of the last so many requests may be strays: whoever refuses them has more to give."""
_SLACK = 1.5
"""Budgets are found loosely where it seems to be the requests in flight that are counted."""


class Limit(enum.Enum):
    """What keeps the next request from leaving."""

    NONE = "none"
    REQUESTS = "requests per minute"
    TOKENS = "tokens per minute"
    WINDOW = "window"
    PAUSE = "pause"


class Ticket(msgspec.Struct, gc=False):
    """Leave to send one request. It must be settled exactly once, however the request ends."""

    sent_at: float
    tokens: float
    """What is reserved; nothing once it was throttled."""
    in_flight: int
    """With this one."""
    gross: tuple[float, float]
    """What had been taken from the budgets, with this one."""


class Governor:
    """Decides for one lane when a request may leave."""

    def __init__(self, limits: Limits, now: float) -> None:
        self.limited_by = Limit.NONE
        self._window = Window(limits.concurrency, now)
        self._requests = Bucket(limits.requests_per_minute, now)
        self._tokens = Bucket(limits.tokens_per_minute, now)
        self._pause_until = -math.inf
        self._unsaid = 0
        self._troubled_until = -math.inf
        self._paced = False  # the budgets held the next request back
        self._waited_s = 0.0
        self._admitted_at = now
        self._hit: Sequence[Bucket] = ()
        self._ends: collections.deque[bool] = collections.deque(maxlen=_LATELY)  # whether they were refused
        self._cut_at = self._cut_before = -math.inf
        self._answers = 0
        self._completion = float(_UNKNOWN_COMPLETION)
        self._prompt_ratio = 1.0

    @property
    def window(self) -> float:
        """How many may be in flight."""
        return self._window.size

    def estimate(self, prompt_tokens: int, max_tokens: int | None) -> float:
        """Return the tokens that a request will probably be charged, by what answers have taught so far."""
        completion = self._completion if max_tokens is None else min(self._completion, max_tokens)
        return prompt_tokens * self._prompt_ratio + completion

    def wait_s(self, now: float, tokens: float) -> float:
        """Return how long the next request has to wait: 0 not at all, infinity until one in flight has ended."""
        if self._window.holds_back():
            self.limited_by = Limit.WINDOW
            return math.inf
        if now < self._pause_until:
            self.limited_by = Limit.PAUSE
            return self._pause_until - now
        by_requests, by_tokens = self._requests.wait_s(now, 1), self._tokens.wait_s(now, tokens)
        if by_requests or by_tokens:
            self._paced = True
            self._waited_s = max(by_requests, by_tokens)
            self.limited_by = Limit.TOKENS if by_tokens > by_requests else Limit.REQUESTS
            return self._waited_s
        self.limited_by = Limit.NONE
        return 0.0

    def admit(self, now: float, tokens: float) -> Ticket:
        """Reserve what a request needs."""
        grow = now >= self._troubled_until
        if self._paced and grow:
            seconds = min(now - self._admitted_at, max(_GAP_S, self._waited_s))
            self._requests.grow(seconds)
            self._tokens.grow(seconds)
        self._paced = False
        self._admitted_at = now
        self._requests.take(now, 1)
        self._tokens.take(now, tokens)
        gross = (self._requests.gross, self._tokens.gross)
        return Ticket(now, tokens, self._window.enter(now, grow=grow), gross)

    def settle(self, ticket: Ticket, used: float | None) -> None:
        """Take note that a request ended; `used` tokens, None where nobody knows."""
        self._window.leave()
        if used is not None:
            self._tokens.correct(used - ticket.tokens)

    def troubled(self, now: float) -> None:
        """Try no more for a while: the provider is in trouble. What is tried already goes on."""
        self._troubled_until = now + _TROUBLE_S

    def answered(self, now: float, ticket: Ticket, prompt_estimate: int, usage: Usage) -> None:
        """Learn from the usage of an answer."""
        prompt_tokens, completion_tokens = usage.prompt_tokens, usage.completion_tokens
        self._ends.append(False)
        if ticket.sent_at > self._cut_before:
            self._unsaid = 0
        tokens = (prompt_tokens or 0) + (completion_tokens or 0)
        self._window.answered(now, ticket.in_flight, tokens, grow=now >= self._troubled_until)
        self._answers += 1
        gain = max(0.02, 1 / self._answers)
        if prompt_tokens:
            self._prompt_ratio += gain * (prompt_tokens / prompt_estimate - self._prompt_ratio)
        if completion_tokens is not None:
            self._completion += gain * (completion_tokens - self._completion)

    def heard(self, now: float, ticket: Ticket, quotas: tuple[Quota | None, Quota | None]) -> None:
        """Learn from what any answer said of the provider's budgets of requests and of tokens."""
        for bucket, quota, gross in zip((self._requests, self._tokens), quotas, ticket.gross, strict=True):
            if quota:
                bucket.hear(now, quota, ticket.sent_at, gross)

    def throttled(self, now: float, ticket: Ticket, retry_after_s: float | None) -> None:
        """Pause for as long as the provider asked, or a little longer each time where it did not say.

        What the request had reserved is given back; it has still to be settled.
        """
        news = ticket.sent_at >= self._cut_at  # else it left before the last cut
        is_stray = self._is_stray()
        shares = ((self._requests, 1.0), (self._tokens, ticket.tokens))
        if news or (not self._hit and not is_stray):
            self._hit = [bucket for bucket, _ in shares if bucket.explains] or [
                bucket for bucket, _ in shares if not (is_stray and bucket.is_surprised)
            ]
            news = True
        if retry_after_s is None:
            retry_after_s = 0.0
            if now >= self._pause_until and self._hit:
                self._unsaid += news
                longest = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** max(0, self._unsaid - 1))
                retry_after_s = random.uniform(longest / 2, longest)
        self._pause_until = max(self._pause_until, now + retry_after_s)
        for bucket, amount in shares:
            bucket.give_back(amount)
        ticket.tokens = 0.0
        if news:
            self._cut_before, self._cut_at = self._cut_at, now
            rest_s = self._pause_until - now
            slack = _SLACK if self._window.hit(now, ticket.in_flight, certain=not is_stray) else 1.0
            for bucket, amount in shares:
                if bucket in self._hit:
                    bucket.hit(now, amount, rest_s, slack, certain=not is_stray)
            _logger.info("throttled: nothing leaves for %.1f s", rest_s)
        else:
            self._window.hit_before()
            for bucket, amount in shares:
                if bucket in self._hit:
                    bucket.hit_before(amount)

    def _is_stray(self) -> bool:
        """Note a refusal, and return whether it is one of few; those in flight are held to be let in."""
        self._ends.append(True)
        return sum(self._ends) < _STRAY * min(_LATELY, len(self._ends) + self._window.in_flight)
