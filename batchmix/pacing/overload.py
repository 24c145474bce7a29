"""Tells whether a provider is overloaded: many requests fail without a reason while others are answered.

A few 502s are usual, and cost their rows an attempt each. But with a proxy that refuses what is too much for it with
502 (nginx, `max_conns`), or with a full listen queue, most requests fail until fewer are sent.
"""

from __future__ import annotations

_OFTEN, _SELDOM = 0.4, 0.02
"""The share of failures above which an overload begins, and the one below which it ends.

Chosen: one outage is not enough to begin with, and a share as usual with gateways ends it.
"""
_GAIN = 0.3
"""The weight of the last failures in the mean share. Two floods of failures between answers begin an overload."""


class Overload:
    """Follows the share of failures among failures and answers, in steps of one series of failures each."""

    def __init__(self) -> None:
        self.is_on = False
        """Whether failures mean that requests are sent too fast."""
        self._answers = 0  # the answers when a request failed last
        self._in_a_row = 0
        self._share = 0.0

    def failed(self, answers: int) -> None:
        """Record a failure. `answers` is the number of answers so far."""
        if answers > self._answers:
            share = self._in_a_row / (self._in_a_row + answers - self._answers)
            self._share += _GAIN * (share - self._share)
            self.is_on = self._share > (_SELDOM if self.is_on else _OFTEN)
            self._in_a_row = 0
        self._in_a_row += 1
        self._answers = answers
