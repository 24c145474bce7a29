"""A budget of requests or tokens for a time: told, or found out from refusals."""

from __future__ import annotations

import collections
import math

import msgspec

from batchmix.send.probe import Probe

_TOLD_ROOM_S = 60.0
"""Providers count by the minute, and begin with a full one."""
_ROOM_S = 1.0
"""What may be saved up where that is not so: `Retry-After` is rounded up to whole seconds."""
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
        self._told = self.per_s
        self._probe = Probe()
        self._room_s = _ROOM_S if per_minute is None else _TOLD_ROOM_S
        self._level = self.per_s * self._room_s if per_minute else 0.0
        self._at = now
        self._requests = 0
        self._amount = 0.0
        self._empties: collections.deque[_Empty] = collections.deque([_Empty(now, 0, 0.0)], maxlen=32)
        self._before = math.inf
        self._guessed = False
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

    def take(self, amount: float) -> None:
        """Take a request's share from it, below zero if need be."""
        self._level -= amount
        self._requests += 1
        self._amount += amount

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

    def hit(self, now: float, rest_s: float, slack: float) -> None:
        """Note that the provider's is empty; `rest_s` is how long nothing leaves after that, at least."""
        clock_s = now - self._lost_s
        self._lost_s += max(0.0, min(rest_s, _ROOM_S) - self._room_s)
        self._slack = slack
        self._empties.append(_Empty(clock_s, self._requests - 1, self._amount))
        self._guessed = self._before == math.inf and self.per_s < self._told
        self._before = self.per_s
        saved_s = self._level / self.per_s
        if saved_s > 0.05 and not self._guessed:  # it saves up less than we thought
            self._room_s = min(_ROOM_S, max(0.05, (self._room_s - saved_s) / 2))
        self._level = 0.0
        self._at = max(self._at, now)
        self._estimate(rest_s)

    def hit_before(self, amount: float, rest_s: float) -> None:
        """Note a refusal that was on its way when the last one came."""
        last = self._empties[-1]
        last.requests -= 1
        last.amount -= amount
        self._estimate(rest_s)

    def _estimate(self, rest_s: float) -> None:
        last = self._empties[-1]
        first = self._empties[0]
        for empty in reversed(self._empties):
            if last.requests - empty.requests >= _COUNTED:
                first = empty
                break
        passed = last.clock_s - first.clock_s
        per_request = last.amount / max(1, last.requests)
        found = max(last.amount - first.amount, per_request) / max(passed, 0.01)
        before = self._before
        if before == math.inf:  # it began full, nobody knows how full: guess, and find out quickly
            found = 0.5 * max(last.amount, per_request) / max(0.01, last.clock_s - self._empties[0].clock_s + rest_s)
            self._probe.hit(found, 1.0)
        else:
            found = min(before, self._slack * (found if self._guessed else max(found, before * _DEEPEST_CUT)))
            if found >= _AS_TOLD * self._told:
                return
            self._probe.hit(
                found, max(2.0 if self._guessed else 4.0, 25 * per_request / found, 5 * rest_s * (not self._guessed))
            )
        self.per_s = min(self._told, self._probe.value)

    @property
    def explains(self) -> bool:
        """Whether it is told, and was used up."""
        return self._told < math.inf and self._level < self.per_s * 0.5
