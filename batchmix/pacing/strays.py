"""Strays: throttled requests that no limit explains.

A gateway that spreads requests over several upstream channels may throttle, say, 2 % of them however slowly we send.
Lowering the rate does not help then. Strays show themselves among the `far` requests, those that were sent while all
known limits were far from used up. Once their share is known, a sequential test (CUSUM; Page, Continuous Inspection
Schemes, Biometrika 1954) tells when more requests are throttled than that share explains.
"""

from __future__ import annotations

_FEWEST = 3
"""How many far requests must have been throttled before any throttle counts as a stray."""
_LEAST, _LIKELY = 0.005, 0.012
"""A smaller share of strays does no harm, and a smaller one than the second may be due to another client. Chosen."""
_REMEMBERED = 1000.0
"""How many far requests the share is averaged over."""
_MAX_SHARE = 0.15
"""A larger share of throttled requests is due to a limit."""
_MORE_TIMES, _MORE = 1.4, 0.01
"""More throttles than this multiple of the share of strays, plus this share of all requests, show a limit. Chosen."""
_THRESHOLD = 6.0
"""So many throttles more than expected show a limit."""
_UNLIMITED, _ASSUMED, _FEW = 0.2, 0.1, 3.0
"""The share of strays that is assumed while no limit is known, and far from the known ones. So many throttles more than
expected then show a limit. Chosen.
"""
_TRIAL = 12
"""After so many strays, the pace is lowered for a moment to see whether there are as many far from the limit."""


class Strays:
    """Learns the share of strays, and decides which throttles it explains."""

    def __init__(self) -> None:
        self.sent = 0
        """How many requests were sent."""
        self.sent_far = 0
        """How many of them were sent far from all known limits."""
        self.is_trial = False
        """Whether the last stray calls for a trial: a slower pace for a moment."""
        self._count = 0
        self._far = FadingShare(_REMEMBERED)
        self._score = 0.0
        self._at = 0  # `sent` when the score was brought up to date

    def explain(self, *, limited: bool, far: bool) -> bool:
        """Record a throttle; return whether it is a stray.

        `limited` says whether a limit is known, `far` whether all known limits were far from used up when the request
        was sent.
        """
        near = limited and not far
        if far:
            self._far.add(self.sent_far)
        share, count = self._far.value(self.sent_far)
        share = min(share, _MAX_SHARE)
        self.is_trial = False
        if not near:
            expected, enough = max(share, _ASSUMED if limited else _UNLIMITED), _FEW
        elif count >= _FEWEST and share >= _LEAST:
            expected, enough = _MORE_TIMES * share, _THRESHOLD
        else:
            self._score = 0.0
            return False
        expected += _MORE
        self._score = max(0.0, self._score - (self.sent - self._at) * expected) + 1
        self._at = self.sent
        if self._score >= enough:
            if not near:
                self._far.take_back(self._score)  # these were no strays
            self._score = 0.0
            return False
        self._count += near
        self.is_trial = near and self._count % _TRIAL == 0
        return True

    @property
    def are_likely(self) -> bool:
        """Whether far from the limits more requests are throttled than another client's use of them explains."""
        return self._far.value(self.sent_far)[0] >= _LIKELY


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
