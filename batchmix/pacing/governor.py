"""Decides for one lane (a model with its own limits) when the next request may leave.

A request leaves once four conditions hold: the window has a free place (`Window`, requests in flight); no pause after a
throttle is running; the bucket of requests per minute has 1 left; and the bucket of tokens per minute has the
request's estimated tokens left. After a throttle (HTTP 429 and the like), everything pauses for the `Retry-After` or
an exponential backoff. Then either the window or the buckets are lowered, depending on which of them explains the
throttles better. Unlike in AIMD, they are not cut by a fixed factor, but to what was measured as accepted. Later
increases follow the curves of `limit_search`.

No method waits or reads a clock. The caller passes the time as `now`, in seconds of a monotonic clock.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Sequence

import msgspec

from batchmix.job import Limits
from batchmix.pacing.bucket import Bucket
from batchmix.pacing.concurrency import Window
from batchmix.pacing.random_throttles import FadingShare, RandomThrottles, SentCount
from batchmix.pacing.rate_estimate import AGREE
from batchmix.records import Bottleneck, Quota, Usage

_logger = logging.getLogger(__name__)
_FIRST_COMPLETION = 256
"""The estimated tokens of a completion before the first completion arrives.

Chosen; the simulations of limits in tokens, with completions of 100 tokens, pass with 128–512.
"""
_FIRST_BACKOFF_S, _MAX_BACKOFF_S = 0.5, 15.0
"""The first and the longest pause without a `Retry-After`, in seconds. The pause doubles in between.

Up to half of it is cut at random. Both were chosen: tests/pacing/test_governor.py fails with double of the first and
with half and double of the longest. The simulations without a `Retry-After` pass with all of these.
"""
_MIN_GAIN = 0.02
"""The weight of the newest completion in the mean tokens of completions, once there are 50 of them.

Chosen; the simulations of limits in tokens pass with 0.01–0.04.
"""
_GAP_S = 2.0
"""The searches advance by the time between two requests: at most this many seconds, or as long as a bucket required.

Chosen: time without requests to send counts little. Simulations pass with 1–4 s, and without a bound.
"""
_CLEARLY = 2
"""The window explains throttles once its spread is smaller by this factor than that of the rates.

It does so until its spread is larger by this factor. With 1 for the smaller spread, simulation "shared, ms, 0 s apart"
fails; 4 passes. For the larger spread, simulations pass with 1–4.
"""
_NO_RAISE_S = 2.0
"""Seconds for which limits are not raised after temporary failures.

Chosen; no simulated provider fails. tests/pacing/test_governor.py fails with half and double.
"""
_USUAL_FAILURES = 0.1
"""A share of failed requests up to this is normal, and no sign that the provider is overloaded.

Chosen; no simulated provider fails. tests/pacing/test_governor.py fails with half and double.
"""
_FAILURES_REMEMBERED = 100.0
"""How many requests the share of failed requests is averaged over.

Chosen; no simulated provider fails. tests/pacing/test_governor.py fails with half and double.
"""


class Ticket(msgspec.Struct, gc=False):
    """Permission to send one request. It is settled exactly once, whatever the outcome."""

    sent_at: float
    tokens: float
    """The estimated tokens that are reserved; 0 once the request was throttled."""
    in_flight: int
    """The number of requests in flight when this one was sent, including it."""
    taken: tuple[float, float]
    """`total_taken` of the request bucket and of the token bucket after this request was sent."""
    number: int
    """The number of this request in the order of sending, from 1."""
    far: bool
    """Whether a limit was known, and all known limits were far from used up, when this request was sent."""


class Governor:
    """Decides for one lane when a request may leave.

    For each request, the caller calls `estimate`, `wait_s` until it returns 0, and `admit`, and then sends the request.
    A completion is reported with `completed`. Any other outcome is reported with `throttled` or `failed`, if one of
    them applies, and then with `settle`.
    """

    def __init__(self, limits: Limits, now: float) -> None:
        self.limited_by = Bottleneck.NONE
        """The reason for the wait that `wait_s` returned last."""
        self._window = Window(limits.concurrency, now)
        self._requests = Bucket(limits.requests_per_minute, now)
        self._tokens = Bucket(limits.tokens_per_minute, now)
        self._pause_until = -math.inf
        self._pauses = 0  # throttles without a Retry-After since the last completion
        self._hold_until = -math.inf
        self._paced = False  # a bucket made the next request wait
        self._waited_s = 0.0
        self._admitted_at = now
        self._exceeded: Sequence[Bucket] = ()  # the buckets that the last throttle is attributed to
        self._by_window = False  # the last throttle is attributed to the number in flight
        self._sent = SentCount()
        self._random = RandomThrottles(self._sent)
        self._knows_limits = limits.requests_per_minute is not None or limits.tokens_per_minute is not None
        self._failures = FadingShare(_FAILURES_REMEMBERED)
        self._cut_at = self._cut_before = -math.inf  # the last two times that limits were lowered
        self._completions = 0
        self._completion_tokens = float(_FIRST_COMPLETION)
        self._prompt_ratio = 1.0  # the mean ratio of reported to estimated prompt tokens

    @property
    def window(self) -> float:
        """How many requests may be in flight."""
        return self._window.size

    def estimate(self, prompt_tokens: int, max_tokens: int | None) -> float:
        """Return the estimated tokens of a request and its completion, from the means of the completions so far."""
        completion = self._completion_tokens if max_tokens is None else min(self._completion_tokens, max_tokens)
        return prompt_tokens * self._prompt_ratio + completion

    def wait_s(self, now: float, tokens: float) -> float:
        """Return the seconds that the next request has to wait; infinity while too many requests are in flight."""
        if self._window.in_flight >= int(self._window.size):
            self._window.hold_back()
            self.limited_by = Bottleneck.WINDOW
            return math.inf
        if now < self._pause_until:
            self.limited_by = Bottleneck.PAUSE
            return self._pause_until - now
        by_requests = self._requests.wait_s(now, 1) if self._requests.per_s < math.inf else 0.0
        by_tokens = self._tokens.wait_s(now, tokens) if self._tokens.per_s < math.inf else 0.0
        if by_requests or by_tokens:
            self._paced = True
            self.limited_by = Bottleneck.TOKENS if by_tokens > by_requests else Bottleneck.REQUESTS
            self._waited_s = max(by_requests, by_tokens)
            return self._waited_s
        self.limited_by = Bottleneck.NONE
        return 0.0

    def admit(self, now: float, tokens: float) -> Ticket:
        """Reserve a place in the window, one request, and `tokens`; return a ticket for these reservations."""
        grow = now >= self._hold_until
        if self._paced:
            self._paced = False
            if grow:
                seconds = min(now - self._admitted_at, max(_GAP_S, self._waited_s))
                self._requests.grow(seconds)
                self._tokens.grow(seconds)
        self._admitted_at = now
        self._requests.take(now, 1)
        self._tokens.take(now, tokens)
        taken = (self._requests.total_taken, self._tokens.total_taken)
        far = self._knows_limits and self._is_far(now)
        in_flight = self._window.enter(now, grow=grow)
        self._sent.total += 1
        self._sent.far += far
        return Ticket(now, tokens, in_flight, taken, self._sent.total, far)

    def _is_far(self, now: float) -> bool:
        limits = (self._window.is_far, self._requests.is_far(now), self._tokens.is_far(now))
        return True in limits and False not in limits

    def settle(self, ticket: Ticket, used: float | None) -> None:
        """Settle a request that brought no completion. `used` is how many tokens it was charged, None if unknown."""
        self._window.leave()
        if used is not None:
            self._tokens.correct(used - ticket.tokens)

    def completed(self, now: float, ticket: Ticket, prompt_estimate: int, usage: Usage) -> None:
        """Settle a request with the usage of its completion, and update the estimates for later requests."""
        prompt_tokens, completion_tokens = usage.prompt_tokens, usage.completion_tokens
        if ticket.sent_at > self._cut_before:
            self._pauses = 0
        if self._random.is_watching and self._random.is_cleared_by(ticket.number, ticket.sent_at, throttled=False):
            self._revert_cut(now)
        tokens = (prompt_tokens or 0) + (completion_tokens or 0)
        self._window.completed(now, ticket.in_flight, tokens, grow=now >= self._hold_until)
        self._completions += 1
        gain = max(_MIN_GAIN, 1 / self._completions)
        if prompt_tokens:
            self._prompt_ratio += gain * (prompt_tokens / prompt_estimate - self._prompt_ratio)
        if completion_tokens is not None:
            self._completion_tokens += gain * (completion_tokens - self._completion_tokens)
        if usage.total_tokens is not None:
            self._tokens.correct(usage.total_tokens - ticket.tokens)

    def failed(self, now: float) -> None:
        """Record a temporary failure, which may mean that the provider is overloaded.

        If more than a tenth of the last requests failed, limits are not raised for a while. Nothing is lowered.
        """
        self._failures.add(self._sent.total)
        if self._failures.value(self._sent.total)[0] > _USUAL_FAILURES:
            self._hold_until = now + _NO_RAISE_S

    def follow(self, now: float, ticket: Ticket, quotas: tuple[Quota | None, Quota | None]) -> None:
        """Adopt the limits that a response reports: of requests and of tokens, each None if it is not reported."""
        for bucket, quota, taken in zip((self._requests, self._tokens), quotas, ticket.taken, strict=True):
            if quota:
                self._knows_limits = True
                bucket.follow(now, quota, ticket.sent_at, taken)

    def throttled(self, now: float, ticket: Ticket, retry_after_s: float | None) -> None:
        """Record a throttled request: give back its reservation, pause the lane, and lower the limit that explains it.

        The pause is `retry_after_s`, or an exponential backoff if that is None. If the throttle counts as random, the
        lane does not pause and no limit is lowered: only the throttled row waits. Call `settle` afterwards.
        """
        self._knows_limits = True
        amounts = [(self._requests, 1.0), (self._tokens, ticket.tokens)]
        is_new = ticket.sent_at >= self._cut_at  # False if it was sent before the limits were last lowered
        for bucket, amount in amounts:
            bucket.give_back(amount, emptied=not is_new and bucket in self._exceeded)
        ticket.tokens = 0.0
        self._random.is_cleared_by(ticket.number, ticket.sent_at, throttled=True)
        if self._random.is_expected(ticket.number, far=ticket.far):
            return
        self._pause(now, retry_after_s, is_new=is_new)
        if is_new:
            self._cut_before, self._cut_at = self._cut_at, now
            self._cut(now, ticket, amounts)
            _logger.info("throttled: nothing leaves for %.1f s", self._pause_until - now)
        else:
            self._window.throttled_earlier()
            if self._by_window:
                self._window.cut()
            for bucket, amount in amounts:
                if bucket in self._exceeded:
                    bucket.throttled_earlier(amount)

    def _pause(self, now: float, retry_after_s: float | None, *, is_new: bool) -> None:
        if retry_after_s is None:
            retry_after_s = 0.0
            if now >= self._pause_until:
                self._pauses += is_new
                longest = min(_MAX_BACKOFF_S, _FIRST_BACKOFF_S * 2 ** max(0, self._pauses - 1))
                retry_after_s = random.uniform(longest / 2, longest)
        self._pause_until = max(self._pause_until, now + retry_after_s)

    def _revert_cut(self, now: float) -> None:
        """Undo what the last throttle changed, because it turned out to be random."""
        self._pause_until = now
        for bucket in self._exceeded:
            bucket.revert()
        self._exceeded = ()

    def _is_window(self, bucket_spread: float) -> bool:
        """Return whether the number in flight explains the throttles better: it varied less than the rates did."""
        if self._by_window:
            return not self._window.is_refuted and self._window.spread < _CLEARLY * bucket_spread
        return self._window.spread < min(AGREE, bucket_spread) / _CLEARLY

    def _cut(self, now: float, ticket: Ticket, amounts: Sequence[tuple[Bucket, float]]) -> None:
        """Lower the limits that explain the throttle: the window, or one or both buckets."""
        pause_s = self._pause_until - now
        used_up = [bucket for bucket, _ in amounts if bucket.is_used_up]
        self._exceeded = used_up or [bucket for bucket, _ in amounts]
        for bucket, amount in amounts:
            if bucket in self._exceeded:
                bucket.throttled(now, ticket.sent_at, amount, pause_s)
        self._window.throttled(ticket.in_flight, pause_s)
        self._by_window = not used_up and self._is_window(min(bucket.spread for bucket in self._exceeded))
        overloaded = self._random.is_overloaded
        self._random.restart(ticket.number, ticket.sent_at)
        if any(bucket.is_lowered for bucket in self._exceeded):
            self._random.forget()
        if self._by_window:
            self._window.cut()
            for bucket in self._exceeded:
                bucket.release()
            self._exceeded = ()
        else:
            self._window.release()
            for bucket in self._exceeded:
                bucket.cut(now, pause_s, overloaded=overloaded)
