"""The pace of a lane in one unit, requests or tokens: a token bucket (Turner 1986, RFC 2697).

It refills at `per_s` units a second: the rate that the job tells, or a lower one that was found (`RateSearch`). Amounts
are requests or tokens; `now` is seconds of a monotonic clock.
"""

from __future__ import annotations

import math

from batchmix.pacing.minute import Minute
from batchmix.pacing.rate_search import Accepted, RateSearch

_TOLD_S = 60.0
"""The capacity for a told limit, in seconds. Providers count by the minute and start with a full bucket."""
_FOUND_S = 0.05
"""The capacity for a limit that was found, in seconds, or else one request: the provider may save nothing. Chosen;
timers of an event loop are late by some milliseconds.
"""
_MAX_DEBT_S = 600.0
"""The longest delay, in seconds, that a single request can cause by costing more than estimated. Chosen."""
_FAR = 0.25
"""A limit of which a larger share is left is far from used up. Chosen."""
_AS_TOLD, _AS_TOLD_AGAIN = 0.9, 0.96
"""A measured rate of at least this share of the told one confirms it: at first, and once a lower one was found."""


class Pace:
    """A token bucket for one unit."""

    def __init__(self, per_minute: float | None, now: float) -> None:
        self.told_per_s = math.inf if per_minute is None else per_minute / 60
        """The limit that the job tells; infinite if it tells none."""
        self.per_s = self.told_per_s
        """The rate in units per second; infinite while no limit is known."""
        self.total_taken = 0.0
        """The sum of all amounts taken, also of those that were given back."""
        self._accepted = Accepted()
        self.search = RateSearch(self._accepted, now, self.told_per_s)
        self.minute = Minute(self._accepted, math.inf if per_minute is None else per_minute)
        self._level = per_minute or 0.0
        self._at = now  # when the level was last brought up to date
        self._is_held_back = False  # this pace made the next request wait

    def wait_s(self, now: float, amount: float) -> float:
        """Return the seconds until the level covers `amount`, or is full."""
        minute_s = self.minute.wait_s(now, amount)
        if minute_s > 0 or self.per_s == math.inf or self._is_by_minute:
            return minute_s
        self._fill(now)
        missing = min(amount, self._capacity) - self._level
        if missing <= 1e-9 * amount:  # a rounding error
            return 0.0
        self._is_held_back = True
        return missing / self.per_s

    def take(self, now: float, amount: float) -> None:
        """Take the amount of a request that leaves. It counts as accepted unless `give_back` is called for it."""
        self.minute.take(now)
        if self.per_s < math.inf:
            self._fill(now)
        if not self.total_taken:
            self.search.began_at = now
        self._level -= amount
        self.total_taken += amount
        self._accepted.requests += 1
        self._accepted.amount += amount

    def correct(self, by: float) -> None:
        """Adjust the level once the real charge of a request is known. `by` is that charge minus the amount taken."""
        level = self._level - by
        self._level = level if by <= 0 else max(level, min(self._level, -_MAX_DEBT_S * self.per_s))
        self._accepted.amount += by

    def give_back(self, amount: float, *, emptied: bool) -> None:
        """Give back the amount of a throttled request; not the level, if it was `emptied` since."""
        if not emptied:
            self._level += amount
        self._accepted.requests -= 1
        self._accepted.amount -= amount

    def grow(self, seconds: float) -> None:
        """Advance the search by `seconds`, if this pace made a request wait in that time."""
        held_back, self._is_held_back = self._is_held_back, False
        if held_back and self.is_found:
            self.search.grow(seconds)
            self.follow_search()

    @property
    def mean(self) -> float:
        """The mean amount of an accepted request."""
        return self._accepted.mean

    @property
    def has_accepted(self) -> bool:
        """Whether any request was accepted."""
        return self._accepted.requests > 0

    @property
    def is_found(self) -> bool:
        """Whether a rate below the told one was found by throttles."""
        return self.search.base < self.told_per_s

    def is_far(self, now: float) -> bool | None:
        """Return whether the limit is far from used up; None if unknown."""
        if self.is_found:
            return False
        if self._is_by_minute:
            return self.minute.used(now) < (1 - _FAR) * self.minute.limit
        if self.told_per_s < math.inf:
            self._fill(now)
            return self._level > _FAR * self._capacity
        return None

    def follow_search(self) -> None:
        """Adopt the rate of the search. A told rate stays the highest."""
        self.per_s = min(self.told_per_s, self.search.value)

    def release(self) -> None:
        """Drop the rate that was found, because the provider does not limit it. A told rate stays."""
        self.search.forget()
        self.follow_search()

    def set_rate(self) -> None:
        """Set the rate after a hit, but not if the told rate is confirmed."""
        self.search.set_rate((_AS_TOLD_AGAIN if self.search.base < math.inf else _AS_TOLD) * self.told_per_s)
        self.follow_search()

    def empty(self, now: float) -> None:
        """Empty the bucket: the provider's is empty too."""
        self._level = 0.0
        self._at = now

    @property
    def _is_by_minute(self) -> bool:
        return self.minute.limit < math.inf and not self.is_found

    @property
    def _capacity(self) -> float:
        return max(self.mean, self.per_s * _FOUND_S) if self.is_found else self.per_s * _TOLD_S

    def _fill(self, now: float) -> None:
        self._level = min(self._capacity, self._level + (now - self._at) * self.per_s)
        self._at = now
