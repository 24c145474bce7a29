"""A budget of requests or tokens over time: from the job, reported by the provider, or found from throttles."""

from __future__ import annotations

import math

from batchmix.pacing.limit_search import FAR, CubicSearch
from batchmix.pacing.rate_estimate import ROUNDING_S, Accepted, RateEstimate
from batchmix.records import Quota

_MINUTE_S = 60.0
"""The capacity of a stated limit: providers count by the minute, and begin with a full one."""
_MAX_DEBT_S = 600.0
"""The longest that a single usage can hold requests back, however large it is."""
_MIN_CAPACITY_S = 0.05
"""The smallest capacity that is assumed, in seconds' worth. Any of 0.025–0.1 s passes."""
_BURST_S = 0.1
"""A throttle this soon after a pause means that the bucket's capacity was overestimated.

Doubled: "shared, ms, 5 s apart"; half passes.
"""
_WINDOWED_S = 10.0
"""A provider that asks for a longer pause counts by fixed or sliding minutes. Any of 5–20 s passes."""
_FAR_LEVEL_S = 5.0
"""A stated limit with this many seconds' worth left is far from used up. Any of 2.5–10 s passes."""
_AS_STATED = 0.9
"""A rate found above this share of the stated one confirms it. Any of 0.45–1.8 passes."""
_MARGIN_S, _MAX_MARGIN_S = 0.5, 6.0
"""Seconds' worth that stay in a reported bucket, at first and at most: requests on their way may arrive in another
order and cost more than estimated. Half and double of each pass.
"""
_WIDENED_S = 5.0
"""Throttles within so many seconds widen that margin once. Any of 2.5–10 s passes."""
_TRUSTED_S, _TRUSTED_SHARE = 5.0, 0.15
"""A report is trusted once it was consistent for this long, or while this share of the limit was used.

Half and double of each pass.
"""


class Bucket:
    """A token bucket (Turner 1986, RFC 2697) that follows the provider's own."""

    def __init__(self, per_minute: float | None, now: float) -> None:
        self.per_s = math.inf if per_minute is None else per_minute / 60
        """The refill rate now; infinite while nothing limits."""
        self.total_taken = 0.0
        """All that was ever taken, whatever was given back."""
        self._job_per_s = self.per_s
        self._stated_per_s = self.per_s  # by the job or by the provider
        self._capacity_s = ROUNDING_S if per_minute is None else _MINUTE_S
        self._level = self.per_s * self._capacity_s if per_minute else 0.0
        self._at = now  # when the level was last brought up to date
        self._search = CubicSearch()
        self._accepted = Accepted()
        self._estimate = RateEstimate(now, self._accepted)
        self._throttled_per_s = math.inf  # the rate at the last throttle
        self._resumed_at = math.inf  # after it
        self._is_early = False  # it came right after a pause
        self._is_reliable = False
        self._held_back = False  # a request, since the last one left
        self._is_informative = False  # the last throttle told something about the rate
        self._overloaded = False
        self._check = _QuotaCheck()
        self._reported_at = now
        self._margin_s = _MARGIN_S
        self._widened_at = now

    def wait_s(self, now: float, amount: float) -> float:
        """Return how long until `amount` is there; more than the capacity waits for a full bucket.

        Only for a finite rate.
        """
        self._fill(now)
        missing = min(amount, self.per_s * self._capacity_s) - self._level
        if missing <= 1e-9 * amount:
            return 0.0
        self._held_back = True
        return missing / self.per_s

    def take(self, now: float, amount: float) -> None:
        """Take a request's share, below zero if need be. It counts as accepted until it is throttled."""
        self._level -= amount
        self.total_taken += amount
        accepted = self._accepted
        if not accepted.requests:
            self._estimate.begin(now)
        accepted.requests += 1
        accepted.amount += amount
        if now >= self._estimate.mark_at:
            self._estimate.mark(now)

    def correct(self, by: float) -> None:
        """Take so much more (or less) for a request whose charge is known now."""
        level = self._level - by
        self._level = level if by <= 0 else max(level, min(self._level, -_MAX_DEBT_S * self.per_s))
        self._accepted.amount += by

    def give_back(self, amount: float, *, emptied: bool) -> None:
        """Put back the share of a throttled request, unless the bucket was set to empty since it left."""
        if not emptied:
            self._level += amount
        self._accepted.requests -= 1
        self._accepted.amount -= amount

    def grow(self, seconds: float) -> None:
        """Try a little more, if this held requests back during the last seconds."""
        held_back, self._held_back = self._held_back, False
        if held_back and self._search.is_found:
            self._search.grow(seconds)
            self.per_s = min(self._stated_per_s, self._search.value)

    @property
    def is_used_up(self) -> bool:
        """Whether a stated limit is used up, which explains a throttle."""
        return self._stated_per_s < math.inf and self._level < self.per_s * 0.5

    def is_far(self, now: float) -> bool | None:
        """Return whether it is far from used up; None where nothing is known."""
        if self._check.is_trusted:
            return None  # requests on their way count for more there than here
        if self.per_s == self._stated_per_s < math.inf:
            return self._level > max(_FAR_LEVEL_S * self.per_s, 3.0)
        if not self._estimate.is_found:
            return None
        if self._is_reliable and self._search.is_below:
            return True
        return self._estimate.recent_per_s(now) < FAR * self._estimate.peak(now)

    def throttled(self, now: float, sent_at: float, amount: float, rest_s: float) -> None:
        """Record that the provider throttled `amount`, already given back; a pause of `rest_s` begins."""
        self._is_early = self._resumed_at <= sent_at < self._resumed_at + _BURST_S
        self._resumed_at = now + rest_s
        self._is_informative = self._estimate.throttled(now, amount, rest_s, self._capacity_s)
        if self.per_s < math.inf:
            self._throttled_per_s = self.per_s

    @property
    def is_lowered(self) -> bool:
        """Whether the last throttles show a limit far below what it was."""
        return self._estimate.is_lowered

    @property
    def spread(self) -> float:
        """How much the rates at the last throttles differ: hardly, where the provider limits the rate."""
        return self._estimate.spread

    def cut(self, now: float, rest_s: float, *, overloaded: bool) -> None:
        """Set it to empty, and try the rate found at the last throttle; `overloaded`: most requests are throttled."""
        self._overloaded = overloaded
        if overloaded or self._estimate.is_lowered:
            self._estimate.forget_peak()
        if self._check.is_trusted and now >= self._widened_at + _WIDENED_S:
            self._margin_s = min(_MAX_MARGIN_S, 1.5 * self._margin_s)
            self._widened_at = now
        self._level = 0.0
        self._at = now
        if not self._is_informative:
            return
        if rest_s > _WINDOWED_S:  # a bucket that refills would have accepted it sooner: spread out what may be sent
            self._capacity_s = min(self._capacity_s, ROUNDING_S)
            if self._stated_per_s < math.inf:
                self._estimate.restart()
        elif self._is_early:  # the provider saves up less in a pause than was assumed
            self._capacity_s = max(_MIN_CAPACITY_S, min(ROUNDING_S, self._capacity_s) / 2)
        self._set_rate()

    def throttled_earlier(self, amount: float) -> None:
        """Record a throttled request that left before the last throttle was known."""
        if self._estimate.throttled_earlier(amount):
            self._set_rate()

    def revert(self) -> None:
        """Undo the last throttle, which came from no limit; an earlier rate stays."""
        if not self._estimate.is_found:
            self._estimate.restart()
            self.release()

    def release(self) -> None:
        """Drop the rate that was found: the provider does not count this."""
        self._search.forget()
        self.per_s = self._stated_per_s

    def follow(self, now: float, quota: Quota, sent_at: float, taken: float) -> None:
        """Follow the provider's own bucket as a response reports it, for about the time its request was sent.

        `taken` is the total taken by then. Where the provider allows more than the job, the job's limit stays.
        """
        per_s = quota.limit / 60
        if per_s > self._job_per_s or not self._check.agrees(now, quota) or sent_at < self._reported_at:
            return  # the job wants less, or another response has reported a later state
        self._stated_per_s = per_s
        self._capacity_s = _MINUTE_S
        self.per_s = min(per_s, self._search.value)
        self._reported_at = sent_at
        since = self.per_s * (now - sent_at) - (self.total_taken - taken)
        self._level = min(quota.remaining + since, per_s * _MINUTE_S) - per_s * self._margin_s
        self._at = now

    def _fill(self, now: float) -> None:
        self._level = min(self.per_s * self._capacity_s, self._level + (now - self._at) * self.per_s)
        self._at = now

    def _set_rate(self) -> None:
        if self._stated_per_s < math.inf and not self._estimate.is_reliable:
            return
        if not self._estimate.is_found:
            following = self._estimate.first_guess()
        else:
            following = self._estimate.next_rate(self._at, self._throttled_per_s, overloaded=self._overloaded)
            if following.per_s >= _AS_STATED * self._stated_per_s:
                return
        self._is_reliable = following.is_reliable
        self._search.hit(following.per_s, following.period_s)
        self.per_s = min(self._stated_per_s, self._search.value)


class _QuotaCheck:
    """Whether a provider's report of a budget can be trusted.

    It can where it agrees for a while with a bucket that holds a minute's worth: what was used of it is refilled in
    the time until it is full. Budgets of a day, and those that come back all at once, do not agree.
    """

    def __init__(self) -> None:
        self.is_trusted = False
        self._since: tuple[float, float] | None = None  # the time, and what was used then

    def agrees(self, now: float, quota: Quota) -> bool:
        if self.is_trusted:
            return True
        per_s, used = quota.limit / 60, quota.limit - quota.remaining
        if used <= 0.02 * quota.limit or abs(used - per_s * quota.reset_s) >= max(0.1 * used, per_s):
            self._since = None
            return False
        since_s, used_then = self._since = self._since or (now, used)
        self.is_trusted = now - since_s >= _TRUSTED_S or abs(used - used_then) >= _TRUSTED_SHARE * quota.limit
        return self.is_trusted
