"""How fast a provider's budget refills, found from its refusals.

Between two refusals the provider's bucket went from empty to empty, so that what it let in meanwhile is what it
refilled: the rate, in our units, whatever it saves up and however we sent.
"""

from __future__ import annotations

import collections

import msgspec

ROUNDING_S = 1.0
"""`Retry-After` is in whole seconds: so much of a pause may be rounding."""
_COUNTED = 20
"""Requests that make an estimate of a rate."""
_SPACED = 25
"""So many requests at least are let in for one that is refused in trying for more."""
_GUESSED = 0.5
"""Before the first refusal a bucket lets in what it had saved up, too: the rate is less than that."""
_DEEPEST_CUT, _SHALLOW_CUT = 0.7, 0.85
_LESS = 0.8
"""So much less than the highest rate that was found is another rate."""
_FADING = 0.98
"""How much of the highest rate found is remembered at each refusal."""


class Try(msgspec.Struct, frozen=True):
    """What to try next."""

    per_s: float
    period_s: float
    """How soon to come back to it, and then to try for more."""


class _Empty(msgspec.Struct):
    """A moment when the provider's bucket was empty, and what it had let in by then."""

    clock_s: float
    requests: int
    amount: float


class Refill:
    """Counts what a provider lets in, and finds its rate."""

    def __init__(self, now: float) -> None:
        self._began_at = now
        self._requests = 0
        self._amount = 0.0
        self._empties: collections.deque[_Empty] = collections.deque(maxlen=32)
        self._news = False  # the last refusal said something of the rate
        self._guessed = False
        self._each = 1.0
        self._rest_s = 0.0
        self._lost_s = 0.0  # of pauses in which the provider saved nothing up
        self.peak = 0.0
        """The highest rate that was found, of late."""

    @property
    def known(self) -> bool:
        """Whether it was empty often enough for a rate."""
        return len(self._empties) > 1

    def let_in(self, now: float, amount: float) -> None:
        """Count a request that was sent; it is held to be let in until it is refused."""
        if not self._requests:
            self._began_at = now
        self._requests += 1
        self._amount += amount

    def correct(self, by: float) -> None:
        """Count so much more, or less, for a request that was let in."""
        self._amount += by

    def refused(self, amount: float) -> None:
        """Count a request no more."""
        self._requests -= 1
        self._amount -= amount

    def empty(self, now: float, amount: float, rest_s: float, room_s: float) -> bool:
        """Note the refusal of `amount`, already counted no more; nothing leaves for `rest_s` now.

        The provider saves up `room_s` at the most. Return whether anything was let in since the last refusal; if not,
        this one says nothing of the rate.
        """
        self._news = not self._empties or self._requests > self._empties[-1].requests
        if self._news:
            self._each, self._rest_s = max(amount, 1.0), rest_s
            self._empties.append(_Empty(now - self._lost_s, self._requests, self._amount))
            self._lost_s += max(0.0, min(rest_s, ROUNDING_S) - room_s)
        return self._news

    def refused_before(self, amount: float) -> bool:
        """Note a refusal that was on its way when the last one came: so much less had been let in by then.

        Return whether that changes the estimate.
        """
        if self._news:
            self._empties[-1].requests -= 1
            self._empties[-1].amount -= amount
        return self._news

    def guess(self) -> Try:
        """Return what to try after the first refusal; it began with nobody knows how much, so find out quickly."""
        self._guessed = True
        last = self._empties[-1]
        passed_s = last.clock_s - self._began_at + self._rest_s
        return Try(_GUESSED * max(last.amount, self._each) / max(passed_s, 0.01), 1.0)

    def next_try(self, before_per_s: float, slack: float, *, certain: bool) -> Try:
        """Return what to try after a refusal at `before_per_s`, `slack` times what is found.

        Where it is not `certain` that the bucket was empty, it will not be much less.
        """
        found = slack * self._per_s()
        if self._guessed and len(self._empties) == 2:
            return Try(min(before_per_s, max(found, 0.1 * before_per_s)), 2.0)
        found = min(before_per_s, max(found, before_per_s * (_DEEPEST_CUT if certain else _SHALLOW_CUT)))
        self.peak = found if certain and found < _LESS * self.peak else max(found, self.peak * _FADING)
        # Early, and far below what it was lately (somebody else may have it), more is tried sooner.
        spaced_s = min(_SPACED * self._each / found, 2.0 * 1.3 ** len(self._empties))
        return Try(found, max(2.0, found / self.peak * max(4.0, spaced_s, 4 * self._rest_s)))

    def _per_s(self) -> float:
        """Return the rate between two moments when it was empty: the last, and the newest that has enough between."""
        last, first = self._empties[-1], self._empties[0]
        for empty in reversed(self._empties):
            if last.requests - empty.requests >= _COUNTED:
                first = empty
                break
        return (last.amount - first.amount) / max(last.clock_s - first.clock_s, 0.01)
