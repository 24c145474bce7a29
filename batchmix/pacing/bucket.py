"""A budget of requests or tokens for a time: told by the job, said by the provider, or found out from refusals."""

from __future__ import annotations

import math

from batchmix.pacing.limit_search import Curve
from batchmix.pacing.rate_estimate import ROUNDING_S, LetIn, Refill
from batchmix.records import Quota

_TOLD_ROOM_S = 60.0
"""Providers count by the minute, and begin with a full one."""
_MOST_DEBT_S = 600.0
"""More is not waited for, whatever an answer says that it has used."""
_LEAST_ROOM_S = 0.05
_BURST_S = 0.1
"""What is refused so soon after a pause, is more than it had saved up."""
_WINDOWED_S = 10.0
"""Who asks for a longer pause counts by fixed minutes, or by the last one."""
_FAR = 0.85
"""A rate that much below the highest that was found lately is no news to the provider."""
_FAR_LEVEL_S = 5.0
"""And so much saved up of what was told."""
_AS_TOLD = 0.9
"""What is found that near to what was told is the same."""
_MARGIN_S, _MOST_MARGIN_S = 0.5, 6.0
"""So much is left in a bucket that is seen: what is on its way may come in another order, and count for more."""
_WIDENED_S = 5.0
"""The margin is widened once in so long."""
_BELIEVED_S, _BELIEVED_SHARE = 5.0, 0.15


class Bucket:
    """A token bucket (Turner 1986) that follows the provider's own."""

    def __init__(self, per_minute: float | None, now: float) -> None:
        self.per_s = math.inf if per_minute is None else per_minute / 60
        """Refill now; infinite where nothing limits."""
        self.gross = 0.0
        """All that was ever taken, whatever was given back."""
        self._by_job = self.per_s
        self._told = self.per_s  # by the job or by the provider
        self._room_s = ROUNDING_S if per_minute is None else _TOLD_ROOM_S
        self._level = self.per_s * self._room_s if per_minute else 0.0
        self._at = now
        self._probe = Curve()
        self._let_in = LetIn()
        self._refill = Refill(now, self._let_in)
        self._before = math.inf  # the rate at the last refusal
        self._resumed_at = math.inf  # after it
        self._is_early = False  # it came right after a pause
        self._sure = False
        self._held = False  # a request back, since the last one left
        self._news = False
        self._overloaded = False
        self._said = _Said()
        self._heard_at = now
        self._margin_s = _MARGIN_S
        self._widened_at = now

    def wait_s(self, now: float, amount: float) -> float:
        """Return how long until `amount` is there; more than it can hold asks for a full bucket.

        Only for one that limits: whose rate is finite.
        """
        self._fill(now)
        missing = min(amount, self.per_s * self._room_s) - self._level
        if missing <= 1e-9 * amount:
            return 0.0
        self._held = True
        return missing / self.per_s

    def take(self, now: float, amount: float) -> None:
        """Take a request's share from it, below zero if need be."""
        self._level -= amount
        self.gross += amount
        let_in = self._let_in  # it is held to be let in until it is refused
        if not let_in.requests:
            self._refill.begin(now)
        let_in.requests += 1
        let_in.amount += amount
        if now >= self._refill.mark_at:
            self._refill.mark(now)

    def correct(self, by: float) -> None:
        """Take so much more for a request, or less, now that it is known what it was charged."""
        level = self._level - by
        self._level = level if by <= 0 else max(level, min(self._level, -_MOST_DEBT_S * self.per_s))
        self._let_in.amount += by

    def give_back(self, amount: float, *, emptied: bool) -> None:
        """Put back the share of a request that was refused, unless the bucket was found to be `emptied` since."""
        if not emptied:
            self._level += amount
        self._let_in.requests -= 1
        self._let_in.amount -= amount

    def grow(self, seconds: float) -> None:
        """Try a little more, if this was what held requests back for so long, or would have soon."""
        held, self._held = self._held, False
        if held and self._probe.found:
            self._probe.grow(seconds)
            self.per_s = min(self._told, self._probe.value)

    @property
    def explains(self) -> bool:
        """Whether it is told, and used up: then a refusal is no riddle."""
        return self._told < math.inf and self._level < self.per_s * 0.5

    def is_far(self, now: float) -> bool | None:
        """Whether it is far from being used up, by what was found or told; None where nothing is known."""
        if self._said.believed:
            return None  # what is on its way counts for more there than here
        if self.per_s == self._told < math.inf:
            return self._level > max(_FAR_LEVEL_S * self.per_s, 3.0)
        if not self._refill.known:
            return None
        if self._sure and self._probe.is_below:
            return True
        return self._refill.per_s_lately(now) < _FAR * self._refill.peak(now)

    def hit(self, now: float, sent_at: float, amount: float, rest_s: float) -> None:
        """Note that the provider refused `amount`, already given back: its bucket may be empty. Now is a pause."""
        self._is_early = self._resumed_at <= sent_at < self._resumed_at + _BURST_S
        self._resumed_at = now + rest_s
        self._news = self._refill.empty(now, amount, rest_s, self._room_s)
        if self.per_s < math.inf:
            self._before = self.per_s

    @property
    def is_lowered(self) -> bool:
        """Whether the limit is far below what it was, as the last refusals have shown."""
        return self._refill.is_lowered

    @property
    def spread(self) -> float:
        """How much the rates found at the last refusals differ: hardly, where it is what the provider counts."""
        return self._refill.spread

    def cut(self, now: float, rest_s: float, *, overloaded: bool) -> None:
        """Take it for empty, and try what was found at the last refusal; `overloaded`: most is refused."""
        self._overloaded = overloaded
        if overloaded or self._refill.is_lowered:
            self._refill.forget_peak()
        if self._said.believed and now >= self._widened_at + _WIDENED_S:
            self._margin_s = min(_MOST_MARGIN_S, 1.5 * self._margin_s)
            self._widened_at = now
        self._level = 0.0
        self._at = now
        if not self._news:
            return
        if rest_s > _WINDOWED_S:  # a bucket that refills would have let it in sooner: spread out what may be sent
            self._room_s = min(self._room_s, ROUNDING_S)
            if self._told < math.inf:
                self._refill.count_anew()
        elif self._is_early:  # it saves up less in a pause than we thought
            self._room_s = max(_LEAST_ROOM_S, min(ROUNDING_S, self._room_s) / 2)
        self._try()

    def hit_before(self, amount: float) -> None:
        """Note a refusal that was on its way when the last one came."""
        if self._refill.refused_before(amount):
            self._try()

    def doubt(self) -> None:
        """The last refusal was no sign of it; what was found before stands."""
        if not self._refill.known:
            self._refill.count_anew()
            self.free()

    def free(self) -> None:
        """It is not what the provider counts."""
        self._probe.forget()
        self.per_s = self._told

    def hear(self, now: float, quota: Quota, sent_at: float, gross: float) -> None:
        """Follow what an answer said of the provider's own bucket, at about the time its request was sent.

        `gross` is what had been taken by then. Where the provider allows more than the job told, the job's limit stays.
        """
        per_s = quota.limit / 60
        if per_s > self._by_job or not self._said.agrees(now, quota) or sent_at < self._heard_at:
            return  # the job wants less, or another answer has told of later
        self._told = per_s
        self._room_s = _TOLD_ROOM_S
        self.per_s = min(per_s, self._probe.value)
        self._heard_at = sent_at
        since = self.per_s * (now - sent_at) - (self.gross - gross)
        self._level = min(quota.remaining + since, per_s * _TOLD_ROOM_S) - per_s * self._margin_s
        self._at = now

    def _fill(self, now: float) -> None:
        self._level = min(self.per_s * self._room_s, self._level + (now - self._at) * self.per_s)
        self._at = now

    def _try(self) -> None:
        if self._told < math.inf and not self._refill.counted:
            return
        if not self._refill.known:
            following = self._refill.guess()
        else:
            following = self._refill.next_try(self._at, self._before, overloaded=self._overloaded)
            if following.per_s >= _AS_TOLD * self._told:
                return
        self._sure = following.sure
        self._probe.hit(following.per_s, following.period_s)
        self.per_s = min(self._told, self._probe.value)


class _Said:
    """Whether to believe what a provider says of a budget.

    It is believed where it agrees for a while with a bucket that holds a minute's worth: what was used of it is
    refilled in the time until it is full. Budgets of a day, and those that come back all at once, do not agree.
    """

    def __init__(self) -> None:
        self.believed = False
        self._since: tuple[float, float] | None = None  # the time, and what was used then

    def agrees(self, now: float, quota: Quota) -> bool:
        if self.believed:
            return True
        per_s, used = quota.limit / 60, quota.limit - quota.remaining
        if used <= 0.02 * quota.limit or abs(used - per_s * quota.reset_s) >= max(0.1 * used, per_s):
            self._since = None
            return False
        since_s, used_then = self._since = self._since or (now, used)
        self.believed = now - since_s >= _BELIEVED_S or abs(used - used_then) >= _BELIEVED_SHARE * quota.limit
        return self.believed
