"""A budget of requests or tokens for a time: told, or found out from refusals."""

from __future__ import annotations

import collections
import math

import msgspec

from batchmix.records import Quota
from batchmix.send.probe import Probe

_TOLD_ROOM_S = 60.0
"""Providers count by the minute, and begin with a full one."""
_ROOM_S = 1.0
"""What may be saved up where that is not so: `Retry-After` is rounded up to whole seconds."""
_LEAST_ROOM_S = 0.05
_FADING = 0.97
_BELIEVED_S, _BELIEVED_SHARE = 5.0, 0.15
"""For so long, or over such a share of the budget, what is said must agree before it is believed."""
_MARGIN_S, _MOST_MARGIN_S = 0.5, 6.0
"""So much is left in a bucket that is seen: what is on its way may come in another order, and count for more."""
_MARGIN_WIDENED_S = 5.0
_SPACED = 25
_COUNTED = 20
"""Requests that make an estimate of a rate."""
_DEEPEST_CUT = 0.7
_AS_TOLD = 0.97


class _Empty(msgspec.Struct):
    """A moment when the provider's bucket was empty."""

    clock_s: float
    requests: int
    amount: float


class Bucket:
    """A token bucket (Turner 1986) that follows the provider's own.

    Between two refusals the provider's bucket went from empty to empty, so that what it let in meanwhile is what it
    refills: its rate, in our units, whatever it saves up and however we sent.
    """

    def __init__(self, per_minute: float | None, now: float) -> None:
        self.per_s = math.inf if per_minute is None else per_minute / 60
        """Refill now; infinite where nothing limits."""
        self.gross = 0.0
        """All that was ever taken, whatever was given back."""
        self._by_job = self.per_s
        self._told = self.per_s
        self._agreed: tuple[float, float] | None = None
        self._believed = False
        self._seen_at = now
        self._margin_s = _MARGIN_S
        self._widened_at = now
        self._probe = Probe()
        self._room_s = _ROOM_S if per_minute is None else _TOLD_ROOM_S
        self._level = self.per_s * self._room_s if per_minute else 0.0
        self._at = now
        self._requests = 0
        self._amount = 0.0
        self._empties: collections.deque[_Empty] = collections.deque(maxlen=32)
        self._began_at = now
        self._still = False
        self._before = math.inf
        self._rest_s = 0.0
        self._each = 1.0
        self._hits = 0
        self._peak = 0.0  # the most that was found lately
        self._slack = 1.0
        self._lost_s = 0.0  # of pauses in which the provider saved nothing up

    def wait_s(self, now: float, amount: float) -> float:
        """Return how long until `amount` is there; more than it can hold asks for a full bucket."""
        if self.per_s == math.inf:
            return 0.0
        room = self.per_s * self._room_s
        self._level = min(room, self._level + (now - self._at) * self.per_s)
        self._at = now
        missing = min(amount, room) - self._level
        if missing <= 1e-9 * amount:
            return 0.0
        return missing / self.per_s

    def take(self, now: float, amount: float) -> None:
        """Take a request's share from it, below zero if need be."""
        if not self._amount:
            self._began_at = now
        self._level -= amount
        self._requests += 1
        self._amount += amount
        self.gross += amount

    def hear(self, now: float, quota: Quota, sent_at: float, gross: float) -> None:
        """Follow what an answer said of the provider's own bucket, at about the time its request was sent.

        `gross` is what had been taken by then. It is believed where it agrees with a bucket that holds a minute's
        worth: `limit - remaining` is refilled in the time until it is full. Other kinds of windows do not.
        """
        per_s = quota.limit / 60
        used = quota.limit - quota.remaining
        if not self._believed:
            agrees = used > 0.02 * quota.limit and abs(used - per_s * quota.reset_s) < max(0.1 * used, per_s)
            if not agrees:
                self._agreed = None
                return
            since_s, from_used = self._agreed = self._agreed or (now, used)
            if now - since_s < _BELIEVED_S and abs(used - from_used) < _BELIEVED_SHARE * quota.limit:
                return
            self._believed = True
        if sent_at < self._seen_at:  # another answer has told of later
            return
        self._seen_at = sent_at
        self._told = min(self._by_job, per_s)
        self._room_s = _TOLD_ROOM_S
        self.per_s = min(self._told, self._probe.value)
        since = self.per_s * (now - sent_at) - (self.gross - gross)
        self._level = min(quota.remaining + since, self.per_s * _TOLD_ROOM_S) - self.per_s * self._margin_s
        self._at = now

    def grow(self, seconds: float) -> None:
        """Try a little more; for so long the budgets were what held requests back."""
        if self._probe.found:
            self._probe.grow(seconds)
            self.per_s = min(self._told, self._probe.value)

    def settle(self, reserved: float, used: float) -> None:
        """Correct what a request took; 0 gives it back."""
        self._level += reserved - used
        self._amount += used - reserved
        if not used:
            self._requests -= 1

    @property
    def explains(self) -> bool:
        """Whether it is told, and was used up: then a refusal is no riddle."""
        return self._told < math.inf and self._level < self.per_s * 0.5

    def hit(self, now: float, amount: float, rest_s: float, slack: float) -> None:
        """Note that the provider refused `amount`: its bucket is empty. Nothing leaves for `rest_s` now.

        `slack` says how much more to try than what is found.
        """
        if self._believed and now >= self._widened_at + _MARGIN_WIDENED_S:
            self._margin_s = min(_MOST_MARGIN_S, 1.5 * self._margin_s)
            self._widened_at = now
        saved_s = self._level / self.per_s
        self._level = 0.0
        self._at = max(self._at, now)
        let_in = self._requests - 1
        self._still = bool(self._empties) and let_in <= self._empties[-1].requests
        if self._still:  # nothing was let in meanwhile: that says nothing of the rate
            return
        clock_s = now - self._lost_s
        self._lost_s += max(0.0, min(rest_s, _ROOM_S) - self._room_s)
        self._each, self._rest_s, self._slack, self._before = amount, rest_s, slack, self.per_s
        if saved_s > _LEAST_ROOM_S and len(self._empties) > 1:  # it saves up less than we thought
            self._room_s = min(_ROOM_S, max(_LEAST_ROOM_S, (self._room_s - saved_s) / 2))
        self._empties.append(_Empty(clock_s, let_in, self._amount - amount))
        self._estimate()

    def hit_before(self, amount: float) -> None:
        """Note a refusal that was on its way when the last one came: so much less had been let in."""
        if self._still:
            return
        last = self._empties[-1]
        last.requests -= 1
        last.amount -= amount
        self._estimate()

    def _estimate(self) -> None:
        last = self._empties[-1]
        each = self._each
        if len(self._empties) == 1:  # it began with nobody knows how much: guess, and find out quickly
            if self._told == math.inf:
                passed = last.clock_s - self._began_at + self._rest_s
                self._try(0.5 * max(last.amount, each) / max(passed, 0.01), 1.0)
            return
        found = self._slack * self._let_in_per_s()
        if len(self._empties) == 2 and self._told == math.inf:
            self._try(min(self._before, max(found, 0.1 * self._before)), 2.0)
        else:
            found = min(self._before, max(found, self._before * _DEEPEST_CUT))
            self._hits = min(self._hits + 1, 20)
            self._peak = max(found, self._peak * _FADING)
            if found < _AS_TOLD * self._told:
                share = found / self._peak
                rare = min(_SPACED * each / found, 2.0 * 1.3**self._hits)
                self._try(found, max(2.0, share * max(4.0, rare, 4 * self._rest_s)))

    def _let_in_per_s(self) -> float:
        """Return the rate between two moments when it was empty: the last, and the newest that has enough between."""
        last, first = self._empties[-1], self._empties[0]
        for empty in reversed(self._empties):
            if last.requests - empty.requests >= _COUNTED:
                first = empty
                break
        return (last.amount - first.amount) / max(last.clock_s - first.clock_s, 0.01)

    def _try(self, base: float, period_s: float) -> None:
        self._probe.hit(base, period_s)
        self.per_s = min(self._told, self._probe.value)
