"""Limits of a minute that the provider does not tell."""

from __future__ import annotations

import math
import random

import pytest

from batchmix.job import Limits
from batchmix.pacing.governor import Governor
from batchmix.pacing.minute import _PROBE_S, Minute
from batchmix.pacing.rate_search import Accepted
from batchmix.pacing.rates import Rates
from batchmix.records import Usage


class Lane:
    """A minute in which 60 requests were accepted at once, at 10 s, and were back at 70 s."""

    def __init__(self, most: float = math.inf, *, by_clock: bool = False) -> None:
        self.accepted = Accepted()
        self.minute = Minute(self.accepted, most)
        self.take(60, 10.0)
        self.take(1, 70.3)
        self.minute.found(10.1, 70.3, by_clock=by_clock)

    def take(self, count: int, now: float) -> None:
        for _ in range(count):
            self.minute.take(now)
            self.accepted.requests += 1
            self.accepted.amount += 1

    def throttle(self) -> None:
        self.accepted.requests -= 1
        self.accepted.amount -= 1

    def sent(self, now: float) -> int:
        """Send what the minute has room for."""
        count = 0
        while not self.minute.wait_s(now, 1.0):
            self.take(1, now)
            count += 1
        return count


def test_no_more_is_sent_in_a_minute_than_was_accepted_before() -> None:
    lane = Lane()
    assert lane.minute.limit == 60
    assert lane.sent(70.4) == 59
    assert lane.minute.wait_s(71.0, 1.0) == pytest.approx(130.5 - 71.0)
    assert lane.minute.used(100.0) == 60


def test_what_was_sent_over_a_minute_ago_is_back_step_by_step() -> None:
    lane = Lane()
    for at in range(71, 81):
        lane.take(5, float(at))
    assert lane.minute.wait_s(81.0, 10.0) == pytest.approx(130.5 - 81.0)
    assert lane.minute.wait_s(130.6, 12.0) == pytest.approx(131.2 - 130.6)
    assert lane.sent(131.3) == 15 + 1


def test_nothing_is_left_of_the_minute_of_the_clock_before() -> None:
    lane = Lane(by_clock=True)
    lane.minute.found(40.0, 42.0, by_clock=True)
    lane.take(60, 42.1)
    assert lane.minute.used(43.0) == 61


def test_one_more_request_shows_whether_the_limit_was_raised() -> None:
    lane = Lane()
    lane.sent(70.4)
    assert lane.sent(131.0) == 61
    assert lane.minute.limit == 61
    assert lane.minute.wait_s(131.0, 1.0) > 0
    now = 131.0 + _PROBE_S + 0.1
    assert lane.sent(now) == 2
    assert lane.sent(now + _PROBE_S + 0.1) == 4


def test_a_throttled_probe_takes_the_limit_back() -> None:
    lane = Lane()
    lane.sent(70.4)
    lane.sent(131.0)
    lane.throttle()
    assert lane.minute.explains(131.1)
    assert lane.minute.limit == 60
    assert lane.minute.wait_s(131.2, 1.0) > 0


def test_a_throttle_long_before_the_end_is_not_explained() -> None:
    lane = Lane()
    lane.take(40, 75.0)
    assert not lane.minute.explains(75.1)
    assert lane.minute.limit == 60


def test_a_told_limit_is_the_most() -> None:
    lane = Lane(most=50)
    assert lane.minute.limit == 50
    assert lane.sent(70.4) == 49
    assert lane.sent(140.0) == 50


class Provider:
    """Accepts 60 requests in each minute, and answers at once."""

    def __init__(self, governor: Governor, phase_s: float | None) -> None:
        self.governor, self.phase_s = governor, phase_s
        self.accepted: list[float] = []
        self.refused: list[float] = []

    def _is_full(self, now: float) -> bool:
        start = now - 60 if self.phase_s is None else now - (now - self.phase_s) % 60
        return sum(at > start for at in self.accepted) >= 60

    def run(self, until: float) -> None:
        now = 0.0
        while now < until:
            wait_s = self.governor.wait_s(now, 10.0)
            if wait_s > 0:
                now += min(wait_s, 1.0)
                continue
            ticket = self.governor.admit(now, 10.0)
            now += 0.01
            if self._is_full(now):
                self.refused.append(now)
                self.governor.throttled(now, ticket, None)
                self.governor.settle(ticket, 0.0)
            else:
                self.accepted.append(now)
                self.governor.completed(now, ticket, 5, Usage(5, 5, 10))


@pytest.mark.parametrize("phase_s", [None, 0.0, 40.0], ids=lambda phase: f"phase-{phase}")
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_minute_that_is_over_is_used_at_once(phase_s: float | None, seed: int) -> None:
    random.seed(seed)
    provider = Provider(Governor(Limits(), 0.0, minute_at=phase_s or 0.0), phase_s)
    provider.run(400.0 + (phase_s or 0.0))
    late = 400.0 + (phase_s or 0.0) - 120
    assert sum(at > late for at in provider.accepted) >= 2 * 57
    assert sum(at > late for at in provider.refused) <= 12


@pytest.mark.parametrize("is_paced", [False, True])
def test_a_rate_stays_beside_a_minute_only_if_it_was_measured_before(is_paced: bool) -> None:
    """`is_paced`: a limit of seconds was found, and then one of minutes. Otherwise the hit was the minute's."""
    rates, now = Rates(Limits(), 0.0), 0.0
    for _ in range(2):
        for _ in range(30):
            rates.requests.take(now := now + 0.1, 1)
        rates.hit(now, 0.0, 1)
    rate = rates.requests.search.base
    for _ in range(30):
        rates.requests.take(now := now + 0.1, 1)
    rates.hit(now, 0.0, 1)
    assert rates.requests.per_s < rate < math.inf
    rates.minute_found(now, now + 50, by_clock=False, is_paced=is_paced)
    assert rates.requests.minute.limit == 90
    assert rates.requests.per_s == (rates.requests.search.base if is_paced else rate)
