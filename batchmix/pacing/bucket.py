"""A token bucket for one rate limit, counted in requests or in tokens.

The bucket (Turner 1986, RFC 2697) refills at `per_s` units per second and holds at most the units of `_capacity_s`
seconds. A request leaves once the level covers its estimated amount. The rate has one of three sources: the job states
it; the provider reports it in its rate-limit headers; or it is measured from throttled requests (`RateEstimate`) and
then slowly raised along CUBIC's curve (`CubicSearch`). Until the rate is known, no request has to wait.

The constants were tuned with the simulated providers of tests/pacing/test_simulation.py.
"""

from __future__ import annotations

import math

from batchmix.pacing.limit_search import FAR, CubicSearch
from batchmix.pacing.rate_estimate import ROUNDING_S, Accepted, RateEstimate
from batchmix.records import Quota

_MINUTE_S = 60.0
"""The capacity for a stated limit, in seconds. Providers count by the minute and start with a full bucket.

tests/pacing/test_governor.py fails with half and double; the simulations of stated and reported limits pass.
"""
_MAX_DEBT_S = 600.0
"""The longest delay, in seconds, that a single request can cause by costing more than estimated.

Chosen; no simulated request costs that much. Doubled, tests/pacing/test_governor.py fails; half passes.
"""
_MIN_CAPACITY_S = 0.05
"""The smallest capacity that is assumed, in seconds. Simulations pass with any of 0.025–0.1 s."""
_BURST_S = 0.1
"""A throttled request that left within this many seconds after a pause shows that the capacity was overestimated.

Doubled, simulation "shared, ms, 5 s apart" fails; half passes.
"""
_WINDOWED_S = 10.0
"""A provider that asks for a longer pause than this many seconds counts by fixed or sliding minutes.

Simulations pass with 5–20 s.
"""
_FAR_LEVEL_S, _FAR_LEVEL = 5.0, 3.0
"""A stated limit with this many seconds' worth and so many units left is far from used up.

Simulations pass with 2.5–10 s. No simulation of a stated limit changes its result between 1.5 and 6 units.
"""
_USED_UP_S = 0.5
"""A stated limit with less than this many seconds' worth left explains a throttle.

Simulations of stated and reported limits pass with 0.25–1 s.
"""
_AS_STATED = 0.9
"""A measured rate of at least this share of the stated rate confirms it. Simulations pass with 0.45–1.8."""
_MARGIN_S, _MAX_MARGIN_S = 0.5, 6.0
"""Seconds' worth of a reported limit that are left unused, at first and at most.

Requests may arrive in another order than they were sent in, and may cost more than estimated. Simulations pass with
half and double of each.
"""
_WIDENED_S, _WIDENED = 5.0, 1.5
"""Throttles widen the margin at most once in this many seconds, by this factor.

Simulations pass with 2.5–10 s; those of reported limits pass with 1.25–2 for the factor.
"""
_TRUSTED_S, _TRUSTED_SHARE = 5.0, 0.15
"""A provider's reports are trusted once they have agreed with the model of a bucket for this many seconds, or while the
used part of the limit changed by this share of the limit. Simulations pass with half and double of each.
"""
_MIN_USED, _RESET_ERROR = 0.02, 0.1
"""A report is checked once this share of the limit is used. The time that it reports may be wrong by this share.

No simulation of a reported limit changes its result between 0.01 and 0.04 for the first. All pass with 0.05–0.2 for the
second.
"""


class Bucket:
    """A token bucket that imitates the provider's bucket. Amounts are requests or tokens; `now` is in seconds."""

    def __init__(self, per_minute: float | None, now: float) -> None:
        self.per_s = math.inf if per_minute is None else per_minute / 60
        """The refill rate in units per second; infinite while no limit is known."""
        self.total_taken = 0.0
        """The sum of all amounts taken. Amounts that were given back are not subtracted."""
        self._job_per_s = self.per_s
        self._stated_per_s = self.per_s  # stated by the job or reported by the provider
        self._capacity_s = ROUNDING_S if per_minute is None else _MINUTE_S
        self._level = self.per_s * self._capacity_s if per_minute else 0.0
        self._at = now  # when the level was last brought up to date
        self._search = CubicSearch()
        self._accepted = Accepted()
        self._estimate = RateEstimate(now, self._accepted)
        self._throttled_per_s = math.inf  # the rate at the last throttle
        self._resumed_at = math.inf  # the end of the pause after the last throttle
        self._is_early = False  # the last throttled request left right after a pause
        self._is_reliable = False  # the rate was measured over enough requests
        self._held_back = False  # this bucket made the next request wait
        self._is_informative = False  # the last throttle says something about the rate
        self._overloaded = False
        self._check = _QuotaCheck()
        self._reported_at = now  # when the request of the last report was sent
        self._margin_s = _MARGIN_S
        self._widened_at = now  # when the margin was last widened

    def wait_s(self, now: float, amount: float) -> float:
        """Return the seconds until the level covers `amount`. Call it only while the rate is finite.

        For an amount above the capacity, a full bucket is enough.
        """
        self._fill(now)
        missing = min(amount, self.per_s * self._capacity_s) - self._level
        if missing <= 1e-9 * amount:  # a rounding error
            return 0.0
        self._held_back = True
        return missing / self.per_s

    def take(self, now: float, amount: float) -> None:
        """Take the amount of a request that is sent, even if the level drops below zero.

        The request counts as accepted unless `give_back` is called for it.
        """
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
        """Adjust the level once the real charge of a request is known. `by` is that charge minus the amount taken."""
        level = self._level - by
        self._level = level if by <= 0 else max(level, min(self._level, -_MAX_DEBT_S * self.per_s))
        self._accepted.amount += by

    def give_back(self, amount: float, *, emptied: bool) -> None:
        """Put back the amount of a throttled request.

        If the bucket was `emptied` after the request was sent, the level stays as it is.
        """
        if not emptied:
            self._level += amount
        self._accepted.requests -= 1
        self._accepted.amount -= amount

    def grow(self, seconds: float) -> None:
        """Advance the measured rate along its curve by `seconds`, if this bucket made a request wait in that time."""
        held_back, self._held_back = self._held_back, False
        if held_back and self._search.is_found:
            self._search.grow(seconds)
            self.per_s = min(self._stated_per_s, self._search.value)

    @property
    def is_used_up(self) -> bool:
        """Whether so little of a stated limit is left that this explains a throttle."""
        return self._stated_per_s < math.inf and self._level < self.per_s * _USED_UP_S

    def is_far(self, now: float) -> bool | None:
        """Return whether the limit is far from used up; None if unknown."""
        if self._check.is_trusted:
            return None  # the provider's level is uncertain: requests in flight may cost more than estimated
        if self.per_s == self._stated_per_s < math.inf:
            return self._level > max(_FAR_LEVEL_S * self.per_s, _FAR_LEVEL)
        if not self._estimate.is_found:
            return None
        if self._is_reliable and self._search.is_below:
            return True
        return self._estimate.recent_per_s(now) < FAR * self._estimate.peak(now)

    def throttled(self, now: float, sent_at: float, amount: float, pause_s: float) -> None:
        """Record a throttled request, after a call of `give_back`. A pause of `pause_s` seconds begins."""
        self._is_early = self._resumed_at <= sent_at < self._resumed_at + _BURST_S
        self._resumed_at = now + pause_s
        self._is_informative = self._estimate.throttled(now, amount, pause_s, self._capacity_s)
        if self.per_s < math.inf:
            self._throttled_per_s = self.per_s

    @property
    def is_lowered(self) -> bool:
        """Whether the last throttles show that the provider has lowered its limit."""
        return self._estimate.is_lowered

    @property
    def spread(self) -> float:
        """The relative spread of the rates measured at the last throttles; small if the provider limits this rate."""
        return self._estimate.spread

    def cut(self, now: float, pause_s: float, *, overloaded: bool) -> None:
        """Empty the bucket after a throttle, and continue at the newly measured rate.

        `overloaded` means that so many requests are throttled that the rate may be lowered further than usual.
        """
        self._overloaded = overloaded
        if overloaded or self._estimate.is_lowered:
            self._estimate.forget_peak()
        if self._check.is_trusted and now >= self._widened_at + _WIDENED_S:
            self._margin_s = min(_MAX_MARGIN_S, _WIDENED * self._margin_s)
            self._widened_at = now
        self._level = 0.0
        self._at = now
        if not self._is_informative:
            return
        if pause_s > _WINDOWED_S:  # not a token bucket, which refills sooner: avoid bursts within the provider's minute
            self._capacity_s = min(self._capacity_s, ROUNDING_S)
            if self._stated_per_s < math.inf:
                self._estimate.restart()
        elif self._is_early:  # the provider's bucket holds less after a pause than was assumed
            self._capacity_s = max(_MIN_CAPACITY_S, min(ROUNDING_S, self._capacity_s) / 2)
        self._set_rate()

    def throttled_earlier(self, amount: float) -> None:
        """Record another throttled request, which was sent before the last throttle was known."""
        if self._estimate.throttled_earlier(amount):
            self._set_rate()

    def revert(self) -> None:
        """Undo the last throttle, which turned out to be random. A rate that was only guessed is dropped."""
        if not self._estimate.is_found:
            self._estimate.restart()
            self.release()

    def release(self) -> None:
        """Drop the measured rate, because the provider does not limit this rate. A stated rate stays."""
        self._search.forget()
        self.per_s = self._stated_per_s

    def follow(self, now: float, quota: Quota, sent_at: float, taken: float) -> None:
        """Adopt the limit and level that a response reports.

        The reported level is assumed to be that of `sent_at`, when the request was sent; `taken` is `total_taken` at
        that time. It is updated with what was refilled and taken since then. If the provider allows more than the job
        states, the job's limit stays.
        """
        if quota.reset_s is None:
            return
        per_s = quota.limit / 60
        if per_s > self._job_per_s or not self._check.agrees(now, quota) or sent_at < self._reported_at:
            return  # the job allows less, the report is not trusted, or a newer report was adopted already
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
    """Decides whether a provider's reports of its limit can be trusted.

    Reports are trusted once they have agreed for a while with a token bucket that holds the units of one minute: the
    reported time until the bucket is full must be the time in which the used part refills. Limits per day fail this
    check, and so do limits that reset all at once.
    """

    def __init__(self) -> None:
        self.is_trusted = False
        self._since: tuple[float, float] | None = None  # time and used amount at the first report that agreed

    def agrees(self, now: float, quota: Quota) -> bool:
        """Check a report; return whether it can be trusted."""
        if self.is_trusted:
            return True
        assert quota.reset_s is not None
        per_s, used = quota.limit / 60, quota.limit - quota.remaining
        if used <= _MIN_USED * quota.limit or abs(used - per_s * quota.reset_s) >= max(_RESET_ERROR * used, per_s):
            self._since = None
            return False
        since_s, used_then = self._since = self._since or (now, used)
        self.is_trusted = now - since_s >= _TRUSTED_S or abs(used - used_then) >= _TRUSTED_SHARE * quota.limit
        return self.is_trusted
