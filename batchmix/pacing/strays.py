"""Strays: throttled requests that no limit explains.

A gateway that spreads requests over several upstream channels may throttle, say, 2 % of them however slowly we send.
Lowering the rate does not help then. Strays show themselves among the *far* requests, those that were sent while all
known limits were far from used up: at the start, and in trials (`Trials`). Once they are proven, a sequential test
(CUSUM; Page, Continuous Inspection Schemes, Biometrika 1954) tells when more requests are throttled than they explain.
"""

from __future__ import annotations

import math

_UNKNOWN, _FEW = 0.2, 4
"""The largest share of strays, which is assumed far from the known limits: there, so many throttles more than it
explains show a limit.
"""
_BASE, _SLOPE = 3.5, 0.008
"""So many throttles, and this share of the far requests, prove strays."""
_TIMES, _MORE, _ENOUGH = 1.5, 0.02, 3.0
"""A limit throttles more than this multiple of the share of strays, plus this share of all requests. It is told from
the strays once the logarithm of the ratio of the likelihoods is as large as the third.
"""
_REMEMBERED = 1000.0
"""How many far requests the share is averaged over."""


class Strays:
    """Learns the share of strays, and decides which throttles it explains."""

    def __init__(self) -> None:
        self.sent = 0
        """How many requests were sent."""
        self.sent_far = 0
        """How many of them were sent far from all known limits."""
        self._far = FadingShare(_REMEMBERED)
        self._score = 0.0
        self._row = 0  # throttles since the score was 0
        self._at = 0  # `sent` when the score was brought up to date

    @property
    def share(self) -> float:
        """The share of strays; 0 until they are proven."""
        share, requests = self._far.value(self.sent_far)
        return min(share, _UNKNOWN) if share * requests >= _BASE + _SLOPE * requests else 0.0

    def explain(self, *, limited: bool, far: bool) -> bool:
        """Record a throttle; return whether it is a stray.

        `limited` says whether a limit is known, `far` whether all known limits were far from used up when the request
        was sent.
        """
        if far:
            self._far.add(self.sent_far)
        share, near = self.share, limited and not far
        if near and not share:
            self._score = 0.0
            return False
        expected, enough = _UNKNOWN, float(_FEW)
        if near:
            more = _TIMES * share + _MORE
            expected = (more - share) / math.log(more / share)
            enough = _ENOUGH / math.log(more / share)
        self._score -= (self.sent - self._at) * expected
        if self._score <= 0:
            self._score, self._row = 0.0, 0
        self._score, self._row, self._at = self._score + 1, self._row + 1, self.sent
        if self._score < enough:
            return True
        if not near:  # these were no strays
            self._far.take_back(self._row)
        self._score, self._row = 0.0, 0
        return False

    def are_too_many(self, accepted: int, throttled: int) -> bool:
        """Return whether so many of the requests at a far lower rate were throttled that a limit was hit."""
        return throttled >= _FEW + _UNKNOWN * accepted

    def learn(self, accepted: int, throttled: int) -> None:
        """Count requests that were sent at a far lower rate."""
        self.sent_far += accepted + throttled
        self._far.add(self.sent_far, throttled)


class FadingShare:
    """The share of requests that had some event, as an exponential average over about `remembered` requests.

    The caller counts the requests, and passes the number sent so far as `sent`.
    """

    def __init__(self, remembered: float, sent: int = 0) -> None:
        self._keep = 1 - 1 / remembered
        self._sent = sent  # how many requests had been sent when the two sums below were last faded
        self._requests = 0.0
        self._events = 0.0

    def add(self, sent: int, events: int = 1) -> None:
        """Add events."""
        self._fade(sent)
        self._events += events

    def take_back(self, events: float) -> None:
        """Take back some of the last events."""
        self._events = max(0.0, self._events - events)

    def value(self, sent: int) -> tuple[float, float]:
        """Return the share, and the weighted number of requests that it is based on."""
        self._fade(sent)
        return self._events / max(self._requests, 1.0), self._requests

    def _fade(self, sent: int) -> None:
        fade = self._keep ** (sent - self._sent)
        self._requests = self._requests * fade + (1 - fade) / (1 - self._keep)
        self._events *= fade
        self._sent = sent
