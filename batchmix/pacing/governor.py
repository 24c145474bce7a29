"""When the next request may leave: budgets of requests and tokens, a window, and one pause for all.

Pure logic on a clock that is handed in as `now` (seconds, monotonic); it never waits and never asks the time.
"""

from __future__ import annotations

import enum
import logging
import math
import random
from collections.abc import Sequence

import msgspec

from batchmix.job import Limits
from batchmix.pacing.bucket import Bucket
from batchmix.pacing.concurrency import Window
from batchmix.pacing.random_throttles import FadingShare, RandomThrottles, Sent
from batchmix.records import Quota, Usage

_logger = logging.getLogger(__name__)
_UNKNOWN_COMPLETION = 256
"""Tokens to expect of an answer when nothing is known yet."""
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 15.0
_GAP_S = 2.0
"""A longer time between two requests says nothing about limits, unless they made us wait that long."""
_TROUBLE_S = 2.0
"""So long after an error of the provider's nothing more is tried."""
_LITTLE = 0.1
"""A share of requests in trouble that is no sign of load."""
_ALIKE = 0.3
"""What differs by less may be the same."""


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
    number: int
    """Among all that were sent."""
    far: bool
    """Whether no limit was near when it left."""


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
        self._hit: Sequence[Bucket] = ()  # what the last refusal was taken to come from
        self._by_window = False
        self._sent = Sent()
        self._random = RandomThrottles(self._sent)
        self._knows_limits = limits.requests_per_minute is not None or limits.tokens_per_minute is not None
        self._trouble = FadingShare(100)
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
        if self._window.in_flight >= int(self._window.size):
            self._window.hold_back()
            self.limited_by = Limit.WINDOW
            return math.inf
        if now < self._pause_until:
            self.limited_by = Limit.PAUSE
            return self._pause_until - now
        by_requests = self._requests.wait_s(now, 1) if self._requests.per_s < math.inf else 0.0
        by_tokens = self._tokens.wait_s(now, tokens) if self._tokens.per_s < math.inf else 0.0
        if by_requests or by_tokens:
            self._paced = True
            self.limited_by = Limit.TOKENS if by_tokens > by_requests else Limit.REQUESTS
            self._waited_s = max(by_requests, by_tokens)
            return self._waited_s
        self.limited_by = Limit.NONE
        return 0.0

    def admit(self, now: float, tokens: float) -> Ticket:
        """Reserve what a request needs."""
        grow = now >= self._troubled_until
        if self._paced:
            self._paced = False
            if grow:
                seconds = min(now - self._admitted_at, max(_GAP_S, self._waited_s))
                self._requests.grow(seconds)
                self._tokens.grow(seconds)
        self._admitted_at = now
        self._requests.take(now, 1)
        self._tokens.take(now, tokens)
        gross = (self._requests.gross, self._tokens.gross)
        far = self._knows_limits and self._is_far(now)
        in_flight = self._window.enter(now, grow=grow)
        self._sent.total += 1
        self._sent.far += far
        return Ticket(now, tokens, in_flight, gross, self._sent.total, far)

    def _is_far(self, now: float) -> bool:
        limits = (self._window.is_far, self._requests.is_far(now), self._tokens.is_far(now))
        return True in limits and False not in limits

    def settle(self, ticket: Ticket, used: float | None) -> None:
        """Settle a request that brought no completion: it was charged `used` tokens; None where that is unknown."""
        self._window.leave()
        if used is not None:
            self._tokens.correct(used - ticket.tokens)

    def troubled(self, now: float) -> None:
        """Try no more for a while, unless it is little trouble: then it is always there, and no sign of load.

        What is tried already goes on.
        """
        self._trouble.add(self._sent.total)
        if self._trouble.value(self._sent.total)[0] > _LITTLE:
            self._troubled_until = now + _TROUBLE_S

    def completed(self, now: float, ticket: Ticket, prompt_estimate: int, usage: Usage) -> None:
        """Settle a request with the usage of its completion, and learn from it."""
        prompt_tokens, completion_tokens = usage.prompt_tokens, usage.completion_tokens
        if ticket.sent_at > self._cut_before:
            self._unsaid = 0
        if self._random.is_watching and self._random.witness(ticket.number, ticket.sent_at, refused=False):
            self._doubt(now)
        tokens = (prompt_tokens or 0) + (completion_tokens or 0)
        self._window.completed(now, ticket.in_flight, tokens, grow=now >= self._troubled_until)
        self._answers += 1
        gain = max(0.02, 1 / self._answers)
        if prompt_tokens:
            self._prompt_ratio += gain * (prompt_tokens / prompt_estimate - self._prompt_ratio)
        if completion_tokens is not None:
            self._completion += gain * (completion_tokens - self._completion)
        if usage.total_tokens is not None:
            self._tokens.correct(usage.total_tokens - ticket.tokens)

    def heard(self, now: float, ticket: Ticket, quotas: tuple[Quota | None, Quota | None]) -> None:
        """Learn from what any answer said of the provider's budgets of requests and of tokens."""
        for bucket, quota, gross in zip((self._requests, self._tokens), quotas, ticket.gross, strict=True):
            if quota:
                self._knows_limits = True
                bucket.hear(now, quota, ticket.sent_at, gross)

    def throttled(self, now: float, ticket: Ticket, retry_after_s: float | None) -> None:
        """Pause for as long as the provider asked, or a little longer each time where it did not say.

        Where refusals come at random, a pause for all would gain nothing: only the refused row waits. What the request
        had reserved is given back; it has still to be settled.
        """
        self._knows_limits = True
        shares = [(self._requests, 1.0), (self._tokens, ticket.tokens)]
        news = ticket.sent_at >= self._cut_at  # else it left before the last cut
        for bucket, amount in shares:
            bucket.give_back(amount, emptied=not news and bucket in self._hit)
        ticket.tokens = 0.0
        self._random.witness(ticket.number, ticket.sent_at, refused=True)
        if self._random.explains(ticket.number, far=ticket.far):
            return
        if retry_after_s is None:
            retry_after_s = 0.0
            if now >= self._pause_until:
                self._unsaid += news
                longest = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** max(0, self._unsaid - 1))
                retry_after_s = random.uniform(longest / 2, longest)
        self._pause_until = max(self._pause_until, now + retry_after_s)
        if news:
            self._cut_before, self._cut_at = self._cut_at, now
            self._hit_by(now, ticket, shares)
            _logger.info("throttled: nothing leaves for %.1f s", self._pause_until - now)
        else:
            self._window.hit_before()
            if self._by_window:
                self._window.cut()
            for bucket, amount in shares:
                if bucket in self._hit:
                    bucket.hit_before(amount)

    def _doubt(self, now: float) -> None:
        """Take back what came of the last refusal: it was none of a limit's."""
        self._pause_until = now
        for bucket in self._hit:
            bucket.doubt()
        self._hit = ()

    def _is_window(self, others: float) -> bool:
        """Return whether the provider counts those in flight: they were alike where it refused, and rates were not."""
        if self._by_window:
            return not self._window.is_refuted and self._window.spread < 2 * others
        return self._window.spread < min(_ALIKE, others) / 2

    def _hit_by(self, now: float, ticket: Ticket, shares: Sequence[tuple[Bucket, float]]) -> None:
        """Cut what the refusal seems to come from: budgets, or the requests in flight."""
        rest_s = self._pause_until - now
        explaining = [bucket for bucket, _ in shares if bucket.explains]
        self._hit = explaining or [bucket for bucket, _ in shares]
        for bucket, amount in shares:
            if bucket in self._hit:
                bucket.hit(now, ticket.sent_at, amount, rest_s)
        self._window.hit(ticket.in_flight, rest_s)
        self._by_window = not explaining and self._is_window(min(bucket.spread for bucket in self._hit))
        overloaded = self._random.overloaded
        self._random.restart(ticket.number, ticket.sent_at)
        if any(bucket.is_lowered for bucket in self._hit):
            self._random.unlearn()
        if self._by_window:
            self._window.cut()
            for bucket in self._hit:
                bucket.free()
            self._hit = ()
        else:
            self._window.forget()
            for bucket in self._hit:
                bucket.cut(now, rest_s, overloaded=overloaded)
