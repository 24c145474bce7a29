"""Decides for one lane (a model with its own limits) when the next request may leave.

A request leaves once the window has a free place (`Window`, requests in flight); the ramp has one (`Ramp`, requests of
which it is not known whether they were throttled); no pause is running; and the paces in requests and in tokens allow
it (`Pace`), and so does what the provider reports of its limits (`Reported`).

No method waits or reads a clock. The caller passes the time as `now`, in seconds of a monotonic clock.
"""

from __future__ import annotations

import logging
import math
import random

import msgspec

from batchmix.job import Limits
from batchmix.pacing.ramp import Ramp
from batchmix.pacing.rates import Rates
from batchmix.pacing.reported import Reported
from batchmix.pacing.strays import FadingShare, Strays
from batchmix.pacing.trials import Trials
from batchmix.pacing.window import Window
from batchmix.records import Bottleneck, Quota, Usage

_logger = logging.getLogger(__name__)
_FIRST_COMPLETION = 256
"""The estimated tokens of a completion before the first completion arrives."""
_FIRST_BACKOFF_S, _MAX_BACKOFF_S = 0.5, 20.0
"""The first pause without a `Retry-After`, in seconds, and the one up to which it doubles."""
_PATIENT, _LONGEST_BACKOFF_S = 0.125, 60.0
"""A longer pause is at most this share of the time for which nothing was accepted, and so many seconds: a limit of an
hour or a day is used up.
"""
_LONG_S, _A_MINUTE_S = 31.0, 61.0
"""A limit is taken for one of a minute if it is back after more seconds than the first, which a window of half a minute
is not, and fewer than the second.
"""
_MIN_GAIN = 0.02
"""The weight of the newest completion in the mean tokens of completions, once there are 50 of them."""
_GAP_S = 2.0
"""The searches advance by the time between two requests: at most this many seconds, or as long as a pace required."""
_NO_RAISE_S = 2.0
"""Seconds for which limits are not raised after temporary failures."""
_USUAL_FAILURES, _FAILURES_REMEMBERED = 0.1, 100.0
"""A share of failed requests up to the first is normal; over how many requests it is averaged."""


class Ticket(msgspec.Struct, gc=False):
    """Permission to send one request. It is settled exactly once, whatever the outcome."""

    sent_at: float
    tokens: float
    """The estimated tokens that are reserved; 0 once the request was throttled."""
    in_flight: int
    """The number of requests in flight when this one was sent, including it."""
    taken: tuple[float, float]
    """`total_taken` of the request pace and of the token pace after this request was sent."""
    far: bool
    """Whether a limit was known, and all known limits were far from used up, when this request was sent."""


class Governor:
    """Decides for one lane when a request may leave.

    For each request, the caller calls `estimate`, `wait_s` until it returns 0, and `admit`, and then sends the request.
    A completion is reported with `completed`. Any other outcome is reported with `throttled` or `failed`, if one of
    them applies, and then with `settle`.
    """

    def __init__(self, limits: Limits, now: float, minute_at: float = 0.0) -> None:
        """`minute_at` is any time, on the clock of `now`, at which a minute of the wall clock began."""
        self.limited_by = Bottleneck.NONE
        """The reason for the wait that `wait_s` returned last."""
        self._window = Window(limits.concurrency, now)
        self._ramp = Ramp()
        self._rates = Rates(limits, now)
        self._minute_at = minute_at
        self._reported = Reported(minute_at, exact=True), Reported(minute_at, exact=False)
        self._strays = Strays()
        self._trials = Trials(self._rates, self._ramp, self._strays)
        self._pause_until = -math.inf
        self._refusals = 0  # hits since the last confirmed request
        self._refused_at = now  # when the first of them came
        self._was_paced = False  # at a rate that was measured
        self._back_at = math.inf  # when a minute that was used up could be back, and is tried
        self._is_turn = False  # because a minute of the clock begins
        self._hold_until = -math.inf
        self._is_paced = False  # a pace made the next request wait
        self._waited_s = 0.0
        self._admitted_at = now
        self._hit_at = -math.inf  # the last time that a limit was hit
        self._failures = FadingShare(_FAILURES_REMEMBERED)
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
        if not self._ramp.is_over and (wait_s := self._ramp.wait_s(now)) > 0:
            self.limited_by = Bottleneck.WINDOW
            return wait_s
        if now >= self._back_at and self._ramp.confirmed:
            self._is_back()
        rates, (requests, token_reports) = self._rates, self._reported
        wait_s = max(rates.requests.wait_s(now, 1.0), requests.wait_s(now, 1.0, rates.requests.total_taken))
        tokens_s = max(rates.tokens.wait_s(now, tokens), token_reports.wait_s(now, tokens, rates.tokens.total_taken))
        if wait_s <= 0 >= tokens_s:
            self.limited_by = Bottleneck.NONE
            return 0.0
        self._is_paced = True
        self.limited_by = Bottleneck.TOKENS if tokens_s > wait_s else Bottleneck.REQUESTS
        self._waited_s = max(wait_s, tokens_s)
        return self._waited_s

    def admit(self, now: float, tokens: float) -> Ticket:
        """Reserve a place in the window, one request, and `tokens`; return a ticket for these reservations."""
        grow = now >= self._hold_until
        rates = self._rates
        if self._is_paced:
            self._is_paced = False
            if grow:
                rates.grow(min(now - self._admitted_at, max(_GAP_S, self._waited_s)))
        self._admitted_at = now
        if self._trials.is_on:
            self._trials.advance(now)
        far = self._is_far(now)
        rates.requests.take(now, 1)
        rates.tokens.take(now, tokens)
        if not self._ramp.is_over:
            self._ramp.add(now)
        self._strays.sent += 1
        self._strays.sent_far += far
        in_flight = self._window.enter(now, grow=grow)
        return Ticket(now, tokens, in_flight, (rates.requests.total_taken, rates.tokens.total_taken), far)

    def _is_far(self, now: float) -> bool:
        if not self._is_limited:
            return True
        limits = [self._window.is_far]
        paces = zip(self._rates.both, self._reported, strict=True)
        limits += [None if reported.is_trusted else pace.is_far(now) for pace, reported in paces]
        return True in limits and False not in limits

    @property
    def _is_limited(self) -> bool:
        return self._hit_at > -math.inf or self._rates.is_limited

    def settle(self, ticket: Ticket, used: float | None) -> None:
        """Settle a request that brought no completion. `used` is how many tokens it was charged, None if unknown."""
        self._window.leave()
        if used is not None:
            self._rates.tokens.correct(used - ticket.tokens)

    def completed(self, now: float, ticket: Ticket, prompt_estimate: int, usage: Usage) -> None:
        """Settle a request with the usage of its completion, and update the estimates for later requests."""
        if not self._ramp.is_over:
            self._ramp.answered(ticket.sent_at)
        if ticket.sent_at >= self._hit_at:
            self._refusals = 0
        self._window.completed(now, ticket.sent_at, ticket.in_flight, grow=now >= self._hold_until)
        self._completions += 1
        gain = max(_MIN_GAIN, 1 / self._completions)
        if usage.prompt_tokens:
            self._prompt_ratio += gain * (usage.prompt_tokens / prompt_estimate - self._prompt_ratio)
        if usage.completion_tokens is not None:
            self._completion_tokens += gain * (usage.completion_tokens - self._completion_tokens)
        if usage.total_tokens is not None:
            self._rates.tokens.correct(usage.total_tokens - ticket.tokens)

    def failed(self, now: float) -> None:
        """Record a temporary failure, which may mean that the provider is overloaded.

        If more than a tenth of the last requests failed, limits are not raised for a while. Nothing is lowered.
        """
        self._failures.add(self._strays.sent)
        if self._failures.value(self._strays.sent)[0] > _USUAL_FAILURES:
            self._hold_until = now + _NO_RAISE_S

    def follow(self, now: float, ticket: Ticket, quotas: tuple[Quota | None, Quota | None]) -> None:
        """Adopt the limits that a response reports: of requests and of tokens, each None if it is not reported."""
        for reported, quota, taken in zip(self._reported, quotas, ticket.taken, strict=True):
            if quota:
                reported.follow(now, quota, ticket.sent_at, taken)
        if not self._ramp.is_over:
            for name, quota in zip(("requests", "tokens"), quotas, strict=True):
                if quota:
                    self._ramp.reported(now, name, quota.remaining)

    def throttled(self, now: float, ticket: Ticket, retry_after_s: float | None) -> None:
        """Record a throttled request: give back its reservation, and lower the limit that explains it.

        If the throttle counts as a stray, no limit is lowered: only the throttled row waits. Call `settle` afterwards.
        """
        is_new = ticket.sent_at >= self._hit_at  # False if it was sent before the limits were last lowered
        rates, tokens = self._rates, ticket.tokens
        self._ramp.throttled(now, ticket.sent_at)
        rates.give_back(tokens, emptied=not is_new)
        ticket.tokens = 0.0
        if not is_new:
            self._window.hit_earlier()
            rates.hit_earlier(tokens)
            return
        self._window.throttled(ticket.in_flight)
        limits = [(reported, pace.total_taken) for reported, pace in zip(self._reported, rates.both, strict=True)]
        used_up = [(reported, taken) for reported, taken in limits if reported.is_used_up(now, taken)]
        if used_up:
            waits = [reported.throttled(now, taken, retry_after_s) for reported, taken in used_up]
            self._back_off(now, max((wait_s for wait_s in waits if wait_s is not None), default=None))
            if rates.is_reliable and rates.was_accepted:  # another client of the key may have used what was reported
                rates.hit(now, max(0.0, self._pause_until - now), tokens)
        elif rates.minute_explains(now):
            self._ramp.restart(self._ramp.unconfirmed // 2)
        elif self._trials.is_on:
            if self._trials.throttled(now, ticket.sent_at):
                self._back_off(now, retry_after_s)
        elif self._is_blocked or not self._strays.explain(limited=self._is_limited, far=ticket.far):
            self._back_off(now, retry_after_s)
            self._hit(now, tokens)

    def _hit(self, now: float, tokens: float) -> None:
        """Lower the limit that explains the throttle: the window, or a rate."""
        window, rates, pause_s = self._window, self._rates, max(0.0, self._pause_until - now)
        if rates.was_accepted:
            rates.hit(now, pause_s, tokens)
            if window.explains_hit():
                rates.release()
        elif not window.is_found:
            rates.still_hit(now, pause_s)
        if not window.is_found:
            rates.empty(now)
        if not pause_s:
            self._trials.hit(now)

    def _is_back(self) -> None:
        """Take a limit as one of a minute, because it was back when a minute was over."""
        if not self._window.is_found:
            by_clock, is_paced = self._is_turn, self._was_paced
            self._rates.minute_found(self._refused_at, self._back_at, by_clock=by_clock, is_paced=is_paced)
        self._back_at = math.inf

    @property
    def _is_blocked(self) -> bool:
        """Whether nothing was accepted since the last hit."""
        return self._hit_at > -math.inf and not self._ramp.confirmed

    def _back_off(self, now: float, retry_after_s: float | None) -> None:
        """Pause, but not for a first throttle at a rate that was measured: there the row waits, and the pace slows."""
        if not self._is_blocked:
            self._refusals, self._refused_at, self._was_paced = 0, now, self._rates.is_paced
        self._refusals += 1
        self._hit_at = now
        is_known = self._rates.is_reliable or self._window.is_found
        if is_known and self._refusals == 1:
            self._ramp.restart(self._ramp.unconfirmed // 2)
            return
        self._ramp.restart(1)
        self._back_at = math.inf
        if retry_after_s is None:
            longest = min(_MAX_BACKOFF_S, _FIRST_BACKOFF_S * 2.0 ** min(self._refusals - 1, 60))
            longest = max(longest, min(_LONGEST_BACKOFF_S, _PATIENT * (now - self._refused_at)))
            retry_after_s = random.uniform(longest / 2, longest)
            if longest >= _MAX_BACKOFF_S / 2:
                retry_after_s = self._minute_s(now, retry_after_s)
        self._pause_until = max(self._pause_until, now + retry_after_s)
        _logger.info("throttled: nothing leaves for %.1f s", self._pause_until - now)

    def _minute_s(self, now: float, longest_s: float) -> float:
        """Return the seconds until a minute that was used up could be back, or `longest_s`."""
        turn_s, old_s = (self._minute_at - now) % 60, self._rates.back_at(self._refused_at) - now
        self._is_turn = not 0 < old_s < turn_s
        wait_s = (turn_s if self._is_turn else old_s) + random.uniform(0.05, 0.3)
        if wait_s >= longest_s:
            return longest_s
        if _LONG_S < now + wait_s - self._refused_at < _A_MINUTE_S:
            self._back_at = now + wait_s
        return wait_s
