"""Strays: throttled requests that no limit explains.

A gateway that spreads requests over several upstream channels may throttle, say, 2 % of them however slowly we send.
Lowering the rate does not help then. Strays show themselves among the *far* requests, those that were sent while all
known limits were far from used up: at the start, and in trials with a far lower rate. A trial follows each hit while
the rate is far below an earlier one; together, trials are a sequential test (Wald, Sequential Analysis, 1947). Once the
share of strays is known, another one (CUSUM; Page, Continuous Inspection Schemes, Biometrika 1954) tells when more
requests are throttled than that share explains.
"""

from __future__ import annotations

import math

_UNKNOWN, _FEW = 0.2, 4
"""The largest share of strays, which is assumed far from the known limits: there, so many throttles more than it
explains show a limit. As many are needed to know a share.
"""
_LIKELY = 0.012
"""A smaller share of strays does no harm."""
_TIMES, _MORE, _ENOUGH = 1.5, 0.02, 3.0
"""A limit throttles more than this multiple of the share of strays, plus this share of all requests. It is told from
the strays once the logarithm of the ratio of the likelihoods is as large as the third.
"""
_TRIAL_S = 3.0
"""How long a trial lasts, in seconds: too short for another client to take up what this one leaves."""
_BASE, _SLOPE = 2.5, 0.02
"""So many throttles, and this share of the requests in trials, prove strays."""
_ENDED, _LONGER = 120, 50
"""After so many requests in trials, and so many more for each that was throttled, there are no strays."""
_AGAIN = 40
"""After so many strays, a trial shows whether there still are as many."""
_REMEMBERED = 1000.0
"""How many far requests the share is averaged over."""


class Strays:
    """Learns the share of strays, and decides which throttles it explains."""

    def __init__(self) -> None:
        self.sent = 0
        """How many requests were sent."""
        self.sent_far = 0
        """How many of them were sent far from all known limits."""
        self.is_trial = False
        """Whether a far lower rate is tried for a moment, to see whether requests are throttled then."""
        self._ends_at = math.inf
        self._tried = self._found = 0  # requests in trials, and how many of them were throttled
        self._tried_from = 0  # `sent_far` at the begin of the trial
        self._count = 0  # strays since the last trial
        self._far = FadingShare(_REMEMBERED)
        self._score = 0.0
        self._row = 0  # throttles since the score was 0
        self._at = 0  # `sent` when the score was brought up to date

    def explain(self, *, limited: bool, far: bool) -> bool:
        """Record a throttle; return whether it is a stray.

        `limited` says whether a limit is known, `far` whether all known limits were far from used up when the request
        was sent.
        """
        if far:
            self._far.add(self.sent_far)
            self._found += self.is_trial
        share, count = self._far.value(self.sent_far)
        near = limited and not far
        if near and not (count >= _FEW and share >= _LIKELY):
            self._score = 0.0
            return False
        expected, enough = _UNKNOWN, float(_FEW)
        if near:
            share = min(share, _UNKNOWN)
            more = _TIMES * share + _MORE
            expected = (more - share) / math.log(more / share)
            enough = _ENOUGH / math.log(more / share)
        self._score -= (self.sent - self._at) * expected
        if self._score <= 0:
            self._score, self._row = 0.0, 0
        self._score, self._row, self._at = self._score + 1, self._row + 1, self.sent
        if self._score < enough:
            self._count += near
            return True
        if not near:  # these were no strays
            self._far.take_back(self._row)
            self._found = max(0, self._found - self._row)
        self._score, self._row = 0.0, 0
        return False

    @property
    def are_due_again(self) -> bool:
        """Whether so many throttles were taken for strays that another trial is due."""
        return self._count >= _AGAIN

    def begin_trial(self, now: float) -> None:
        """Begin to count what is throttled at a far lower rate."""
        self.is_trial, self._ends_at = True, now + _TRIAL_S
        self._count, self._tried_from = 0, self.sent_far

    def has_ended(self, now: float) -> bool:
        """Whether the trial is over."""
        return self.is_trial and now >= self._ends_at

    def end_trial(self) -> bool | None:
        """End the trial; return whether there are strays, None if another trial is needed."""
        self.is_trial = False
        self._tried += self.sent_far - self._tried_from
        are_strays = self._found >= _BASE + _SLOPE * self._tried
        if not are_strays and self._tried < _ENDED + _LONGER * self._found:
            return None
        self._far.replace(self.sent_far, self._tried, self._found if are_strays else 0)
        self._tried = self._found = 0
        return are_strays


class FadingShare:
    """The share of requests that had some event, as an exponential average over about `remembered` requests.

    The caller counts the requests, and passes the number sent so far as `sent`.
    """

    def __init__(self, remembered: float, sent: int = 0) -> None:
        self._keep = 1 - 1 / remembered
        self._sent = sent  # how many requests had been sent when the two sums below were last faded
        self._requests = 0.0
        self._events = 0.0

    def add(self, sent: int) -> None:
        """Add an event."""
        self._fade(sent)
        self._events += 1

    def replace(self, sent: int, requests: int, events: int) -> None:
        """Replace all requests and events so far."""
        self._sent, self._requests, self._events = sent, float(requests), float(events)

    def take_back(self, events: float) -> None:
        """Take back some of the last events."""
        self._events = max(0.0, self._events - events)

    def value(self, sent: int) -> tuple[float, float]:
        """Return the share, and the weighted number of events that it is based on."""
        self._fade(sent)
        return self._events / max(self._requests, 1.0), self._events

    def _fade(self, sent: int) -> None:
        fade = self._keep ** (sent - self._sent)
        self._requests = self._requests * fade + (1 - fade) / (1 - self._keep)
        self._events *= fade
        self._sent = sent
