"""Trials of a far higher rate, and what they show."""

from __future__ import annotations

import random

import pytest

from batchmix.job import Limits
from batchmix.pacing.ramp import Ramp
from batchmix.pacing.rates import Rates
from batchmix.pacing.strays import Strays
from batchmix.pacing.trials import _DUE, Trials


class Lane:
    """A lane with a rate of ten requests a second, and a provider that throttles by a rule of the test."""

    def __init__(self, seed: int = 1) -> None:
        self.rates, self.ramp, self.strays = Rates(Limits(), 0.0), Ramp(), Strays()
        self.trials = Trials(self.rates, self.ramp, self.strays)
        self.random = random.Random(seed)
        self.now = 0.0
        self.rates.hit(0.0, 0.0, 1.0)
        self.take(100)
        self.now = 10.0
        self.rates.hit(self.now, 0.0, 1.0)

    @property
    def per_s(self) -> float:
        return self.rates.requests.per_s

    def take(self, count: int) -> None:
        for pace in self.rates.both:
            for _ in range(count):
                pace.take(self.now, 1.0)

    def hit_often(self) -> None:
        for _ in range(_DUE):
            self.trials.hit(self.now)

    def send(self, share: float) -> None:
        """Send a request at the present rate, of which the provider throttles a share."""
        self.now += 1 / self.per_s
        self.ramp.add(self.now)
        if self.random.random() < share:
            self.ramp.throttled(self.now, self.now)
            self.trials.throttled(self.now, self.now)
        else:
            self.ramp.answered(self.now)
            self.trials.advance(self.now)


def test_a_trial_is_due_after_many_hits() -> None:
    lane = Lane()
    for _ in range(_DUE - 1):
        lane.trials.hit(lane.now)
    assert not lane.trials.is_on
    lane.trials.hit(lane.now)
    assert lane.trials.is_on
    assert lane.per_s == pytest.approx(30)


def test_a_trial_is_due_once_the_rate_has_fallen() -> None:
    lane = Lane()
    for _ in range(4):
        lane.now += 5.0
        lane.take(50)
        lane.rates.hit(lane.now, 0.0, 1.0)
    assert lane.rates.has_fallen
    lane.trials.hit(lane.now)
    assert lane.trials.is_on


@pytest.mark.parametrize("seed", range(20))
def test_a_limit_ends_a_trial_after_a_few_throttles_and_the_rate_stays(seed: int) -> None:
    lane = Lane(seed)
    lane.hit_often()
    sent = 0
    while lane.trials.is_on:
        lane.send(0.5)
        sent += 1
    assert sent <= 40
    assert lane.per_s == pytest.approx(10)
    assert lane.strays.share == 0


def test_strays_free_the_way_and_are_counted_at_a_lower_rate() -> None:
    lane = Lane()
    shares = []
    for _ in range(20):
        lane.hit_often()
        while lane.trials.is_on:
            lane.send(0.05)
        shares.append(lane.strays.share)
        lane.rates.requests.search.base = 10.0  # as if the next strays had lowered it
        lane.rates.requests.follow_search()
    assert shares[0] == 0  # a few of them prove nothing
    assert shares[-1] == pytest.approx(0.05, abs=0.03)


def test_a_free_way_raises_the_rate_and_the_next_hit_tries_again() -> None:
    lane = Lane()
    lane.hit_often()
    while lane.trials.is_on:
        lane.send(0.0)
    assert lane.per_s == pytest.approx(13)
    lane.trials.hit(lane.now)
    assert lane.trials.is_on


def test_trials_that_show_a_limit_become_rarer() -> None:
    lane = Lane()
    hits = []
    for _ in range(4):
        count = 0
        while not lane.trials.is_on:
            lane.trials.hit(lane.now)
            count += 1
        hits.append(count)
        while lane.trials.is_on:
            lane.send(1.0)
    assert hits == [_DUE, 2 * _DUE, 4 * _DUE, 8 * _DUE]


def test_a_trial_ends_when_nothing_is_accepted_at_the_lower_rate_either() -> None:
    lane = Lane()
    lane.hit_often()
    while lane.per_s > 10:
        lane.send(0.0)
    assert lane.per_s == pytest.approx(7)
    began = lane.now
    while lane.trials.is_on:
        lane.send(1.0)
    assert lane.now - began < 1
