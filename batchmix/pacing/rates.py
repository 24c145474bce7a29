"""The paces of a lane in requests and in tokens, and which of them a throttled request is blamed on.

The job may tell both. Of the rates that nobody tells, one is searched at a time: a limit of tokens throttles requests
that are larger than most, a limit of requests throttles any.
"""

from __future__ import annotations

import math

from batchmix.job import Limits
from batchmix.pacing.pace import Pace

_KEEP, _HEAVIER = 0.9, 1.15
"""A limit of tokens is blamed once the throttled requests had more than this multiple of the mean tokens, in a sum in
which each earlier one has the first as its weight.
"""


class Rates:
    """The paces in requests and in tokens."""

    def __init__(self, limits: Limits, now: float) -> None:
        self.requests = Pace(limits.requests_per_minute, now)
        self.tokens = Pace(limits.tokens_per_minute, now)
        self.both = self.requests, self.tokens
        self._blamed = self.requests
        self._lean = 0.0  # above 0 if larger requests are throttled

    @property
    def is_limited(self) -> bool:
        """Whether any rate is known."""
        return any(pace.per_s < math.inf for pace in self.both)

    @property
    def is_reliable(self) -> bool:
        """Whether a rate was measured."""
        return self._blamed.search.is_reliable

    @property
    def is_paced(self) -> bool:
        """Whether a rate was measured, and no limit of a minute was found."""
        return self.is_reliable and self._blamed.minute.limit == math.inf

    @property
    def was_accepted(self) -> bool:
        """Whether any request was accepted since the last hit."""
        return self.requests.search.was_accepted

    @property
    def has_fallen(self) -> bool:
        """Whether the rate is far below one that was accepted before."""
        return self._blamed.search.has_fallen

    def grow(self, seconds: float) -> None:
        """Advance the search by `seconds`, if a pace made a request wait in that time."""
        self.requests.grow(seconds)
        self.tokens.grow(seconds)

    def give_back(self, tokens: float, *, emptied: bool) -> None:
        """Give back what a throttled request took; not the levels of the buckets, if they were `emptied` since."""
        self.requests.give_back(1.0, emptied=emptied)
        self.tokens.give_back(tokens, emptied=emptied)

    def hit(self, now: float, pause_s: float, tokens: float) -> None:
        """Lower the rate that explains the throttle of a request with so many tokens. A pause begins."""
        if self.tokens.has_accepted:
            self._lean = _KEEP * self._lean + tokens / self.tokens.mean - _HEAVIER
        self._blamed, other = (self.tokens, self.requests) if self._lean > 0 else (self.requests, self.tokens)
        self._blamed.search.take_over(other.search)
        self._blamed.search.hit(now, pause_s)
        self._blamed.set_rate()
        other.search.other_hit(now, pause_s)
        other.release()

    def still_hit(self, now: float, pause_s: float) -> None:
        """Record that nothing was accepted since the last hit. Another pause begins."""
        for pace in self.both:
            pace.search.still_hit(now, pause_s)
        self._blamed.set_rate()

    def hit_earlier(self, tokens: float) -> None:
        """Record another throttled request, which was sent before the last hit was known: less had been accepted."""
        self.requests.search.hit_earlier(1.0)
        self.tokens.search.hit_earlier(tokens)
        if self._blamed.is_found:
            self._blamed.set_rate()

    def back_at(self, used_up_at: float) -> float:
        """Return when the first request of the minute before `used_up_at` will be a minute old."""
        return self._blamed.minute.back_at(used_up_at)

    def minute_found(self, used_up_at: float, back_at: float, *, by_clock: bool, is_paced: bool) -> None:
        """Adopt what was accepted within a minute until it was used up, and was back at `back_at`."""
        for pace in self.both:
            pace.minute.forget()
        self._blamed.minute.found(used_up_at, back_at, by_clock=by_clock)
        if not is_paced:
            self._blamed.search.undo()
            self._blamed.follow_search()

    def minute_explains(self, now: float) -> bool:
        """Return whether a throttle shows no more than that a minute that was found is used up."""
        return self._blamed.minute.explains(now)

    def empty(self, now: float) -> None:
        """Empty the buckets: the provider's is empty too."""
        for pace in self.both:
            pace.empty(now)

    def release(self) -> None:
        """Drop the rate that was found, because the provider does not limit it. Told rates stay."""
        for pace in self.both:
            pace.release()

    def try_share(self, share: float) -> None:
        """Try a share of the rate for a moment."""
        for pace in self.both:
            pace.search.share = share
            pace.follow_search()

    def end_trial(self, now: float, *, is_free: bool) -> None:
        """Go back to the rate, or to a higher one if the way to it is free."""
        for pace in self.both:
            pace.search.end_trial(now, is_free=is_free)
            pace.follow_search()
