"""How fast a provider's budget refills, found from its refusals.

Between two refusals the provider's bucket went from empty to empty, so that what it let in meanwhile is what it
refilled: the rate, in our units, whatever it saves up and however we sent.
"""

from __future__ import annotations

import collections
import math

import msgspec

from batchmix.pacing.limit_search import spread

ROUNDING_S = 1.0
"""`Retry-After` is in whole seconds: so much of a pause may be rounding."""
_COUNTED, _MANY = 20, 40
"""Requests that make an estimate of a rate."""
_SPACED = 25
"""So many requests at least are let in for one that is refused in trying for more."""
_COST = 10
"""So many times what a refusal costs."""
_FEW = 12
"""So many of them even where little was counted."""
_GUESSED = 0.5
"""Before the first refusal a bucket lets in what it had saved up, too: the rate is less than that."""
_DEEPEST_CUT, _OVERLOADED_CUT = 0.7, 0.3
_HALF_LIFE_S, _HALF_LIFE = 60.0, 300
"""Half of the highest rate found is remembered so long, and for so many requests."""
_LATELY_S = 2.0
"""Twice to three times as long, and as many requests, are looked at to see how fast they leave."""
_AGREE, _LOWERED = 0.3, 0.8
"""Rates that differ by no larger share agree, and a limit below that share of what it was is another."""
_COMPARED = 3
"""Rates that are compared."""


class Try(msgspec.Struct, frozen=True):
    """What to try next."""

    per_s: float
    period_s: float
    """How soon to come back to it, and then to try for more."""
    sure: bool = False
    """Whether enough was counted, and nothing more is tried than was found."""


class LetIn(msgspec.Struct):
    """What the provider has let in so far. The bucket counts; the estimate only reads."""

    requests: int = 0
    amount: float = 0.0


class _Empty(msgspec.Struct):
    """A moment when the provider's bucket was empty, and what it had let in by then."""

    clock_s: float
    requests: int
    amount: float


class Refill:
    """Finds a provider's rate from what it lets in between refusals."""

    def __init__(self, now: float, let_in: LetIn) -> None:
        self.mark_at = now + _LATELY_S
        """From then on `mark` is called when something leaves."""
        self._began_at = now
        self._let_in = let_in
        self._empties: collections.deque[_Empty] = collections.deque(maxlen=32)
        self._news = False  # the last refusal said something of the rate
        self._guessed = False
        self._each = 1.0
        self._rest_s = 0.0
        self._lost_s = 0.0  # of the last pause, since the provider saves up less
        self._lost_all_s = 0.0
        self._lost_at = now
        self._peak = (0.0, now, 0)
        self._sure_peak = False  # the rates found then agreed
        self._found: collections.deque[tuple[float, int]] = collections.deque(maxlen=_COMPARED)
        self._marks = collections.deque([_Empty(now, 0, 0.0)] * 3, maxlen=3)

    @property
    def known(self) -> bool:
        """Whether it was empty often enough for a rate."""
        return len(self._empties) > 1

    def begin(self, now: float) -> None:
        """Begin to count: nothing was let in before."""
        self._began_at = now

    def mark(self, now: float) -> None:
        """Remember what was let in by now, if enough was since the last mark."""
        if self._let_in.requests >= self._marks[-1].requests + _COUNTED:
            self._marks.append(_Empty(now, self._let_in.requests, self._let_in.amount))
            self.mark_at = now + _LATELY_S

    def per_s_lately(self, now: float) -> float:
        """Return the rate at which it was let in over the last seconds."""
        mark = self._marks[0]
        return (self._let_in.amount - mark.amount) / max(now - mark.clock_s, _LATELY_S)

    def peak(self, now: float) -> float:
        """Return the highest rate that was found lately."""
        value, at, requests = self._peak
        return float(value * 0.5 ** min((now - at) / _HALF_LIFE_S, (self._let_in.requests - requests) / _HALF_LIFE))

    def empty(self, now: float, amount: float, rest_s: float, room_s: float) -> bool:
        """Note the refusal of `amount`, already counted no more; nothing leaves for `rest_s` now.

        The provider saves up `room_s` at the most. Return whether anything was let in since the last refusal; if not,
        this one says nothing of the rate.
        """
        self._news = not self._empties or self._let_in.requests > self._empties[-1].requests
        if self._news:
            self._each = max(amount, 1.0)
            self._rest_s = rest_s
            self._empties.append(_Empty(now - self._lost_all_s, self._let_in.requests, self._let_in.amount))
            self._lost_s = max(0.0, min(rest_s, ROUNDING_S) - room_s)
            self._lost_all_s += min(self._lost_s, 0.5 * max(0.0, now - self._lost_at))
            self._lost_at = now
            if self.known:
                self._found.append(self._per_s())
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

    @property
    def spread(self) -> float:
        """By what share the rates differ that were found at the last refusals."""
        if len(self._found) < _COMPARED:
            return math.inf
        return spread([found for found, _ in self._found], 0.0) + 1 / max(1, min(count for _, count in self._found))

    @property
    def is_lowered(self) -> bool:
        """Whether the last rates found agree, and are far below one that was as sure: the limit is not what it was."""
        return self._sure_peak and self.spread < _AGREE and self._highest_found() < _LOWERED * self._peak[0]

    def _highest_found(self) -> float:
        return max(found for found, _ in self._found)

    def count_anew(self) -> None:
        """The pause now is longer than it takes to refill: rates across it would say nothing."""
        self._empties.clear()
        self._news = False

    def forget_peak(self) -> None:
        """What was found before counts no more."""
        self._peak, self._sure_peak = (0.0, self._began_at, 0), False

    @property
    def counted(self) -> bool:
        """Whether enough was let in between two moments when it was empty."""
        return self.known and self._per_s()[1] >= _COUNTED

    def next_try(self, now: float, before_per_s: float, *, overloaded: bool) -> Try:
        """Return what to try after a refusal at `before_per_s`; much less where most is refused."""
        found, requests = self._per_s()
        if self._guessed and len(self._empties) == 2:
            return Try(min(before_per_s, max(found, 0.1 * before_per_s)), 2.0)
        measured = found
        if requests >= _COUNTED:
            self._peak = (max(found, self.peak(now)), now, self._let_in.requests)
            self._sure_peak |= self.spread < _AGREE and self._highest_found() > _LOWERED * self._peak[0]
        if before_per_s < math.inf:
            cut = _OVERLOADED_CUT if overloaded else _DEEPEST_CUT
            found = min(before_per_s, max(found, before_per_s * cut ** max(1.0, requests / _MANY)))
        # Where little was counted, more is tried sooner.
        spaced_s = min(_SPACED, max(_FEW, 2 * requests)) * self._each / found
        waits_s = max(2 * self._rest_s, _COST * self._lost_s)
        return Try(
            found,
            max(4.0, spaced_s, waits_s),
            requests >= _COUNTED and found <= 1.02 * measured,
        )

    def _per_s(self) -> tuple[float, int]:
        """Return the rate between two moments when it was empty, the last and the newest with enough between.

        And how many requests were let in between them.
        """
        last, first = self._empties[-1], self._empties[0]
        for empty in reversed(self._empties):
            if last.requests - empty.requests >= _COUNTED:
                first = empty
                break
        passed_s = max(last.clock_s - first.clock_s, 0.01)
        amount = max(last.amount - first.amount, 0.01 * self._each)
        return amount / passed_s, last.requests - first.requests
