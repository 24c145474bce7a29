"""The search for a rate, hit by hit."""

from __future__ import annotations

import math

import pytest

from batchmix.pacing.rate_search import Accepted, RateSearch

PER_S = 10.0


def found(most: float = math.inf) -> RateSearch:
    """Return a search that has measured a rate: 100 requests in 10 s between two hits."""
    search = RateSearch(Accepted(), 0.0, most)
    accept(search, 1)
    search.hit(0.0, 0.0)
    search.set_rate(math.inf)
    accept(search, 100)
    search.hit(10.0, 0.0)
    search.set_rate(math.inf)
    return search


def accept(search: RateSearch, count: int) -> None:
    search._accepted.requests += count
    search._accepted.amount += count


def hit(search: RateSearch, now: float, accepted: int) -> None:
    accept(search, accepted)
    search.hit(now, 0.0)
    search.set_rate(math.inf)


def test_the_first_rate_is_what_was_accepted() -> None:
    search = found()
    assert search.is_reliable
    assert search.value == pytest.approx(PER_S)


def test_nothing_is_set_before_four_requests_were_accepted() -> None:
    search = RateSearch(Accepted(), 0.0)
    hit(search, 0.0, 1)
    hit(search, 1.0, 3)
    assert search.value == math.inf


def test_a_hit_lowers_the_rate_by_a_step_and_an_interval_regains_it() -> None:
    search = found()
    hit(search, 20.0, 200)  # so much was accepted that it bounds nothing
    lowered = search.value
    assert lowered == pytest.approx(0.75 * PER_S)
    search.grow(search._interval_s)
    assert search.value == pytest.approx(PER_S, rel=0.05)


def test_the_step_shrinks_while_hits_come_as_expected_and_grows_when_they_come_early() -> None:
    search = found()
    shrunk = search._step
    for number in range(20):
        search.grow(search._interval_s)
        hit(search, 20.0 + number, 100)
    assert search._step < shrunk / 4
    shrunk = search._step
    hit(search, 50.0, 100)
    hit(search, 51.0, 100)
    hit(search, 52.0, 100)
    assert search._step > 2 * shrunk


def test_without_a_hit_the_rate_rises_faster_and_faster() -> None:
    search = found()
    rises = []
    for _ in range(8):
        before = search.value
        search.grow(search._interval_s)
        rises.append(search.value / before)
    assert rises[-1] > rises[0]
    assert max(rises) <= 2 ** (search._interval_s / 3) * 1.01


def test_a_rate_that_was_found_stays_below_the_told_one() -> None:
    search = found(most=12.0)
    for _ in range(50):
        search.grow(10.0)
    assert search.value == 12.0


def test_at_a_told_rate_the_first_hits_lower_it_by_a_step_whatever_was_accepted() -> None:
    search = RateSearch(Accepted(), 0.0, 20.0)
    hit(search, 0.0, 1)
    hit(search, 10.0, 400)
    assert search.value == pytest.approx(15.0)


def test_another_unit_goes_on_from_the_same_pace() -> None:
    search = found()
    search.grow(search._interval_s)
    tokens = RateSearch(Accepted(10, 3000.0), 0.0)  # 300 tokens a request
    tokens.take_over(search)
    assert tokens.value == pytest.approx(300 * search.value)
    assert tokens.has_fallen == search.has_fallen
    assert tokens._interval_s == pytest.approx(search._interval_s)


def test_after_a_trial_the_rate_is_higher_if_the_way_was_free_and_the_same_otherwise() -> None:
    search = found()
    search.share = 3.0
    assert search.value == pytest.approx(3 * PER_S)
    search.end_trial(11.0, is_free=False)
    assert search.value == pytest.approx(PER_S)
    search.end_trial(12.0, is_free=True)
    assert search.value == pytest.approx(1.3 * PER_S)


def test_a_told_rate_of_which_nothing_is_saved_is_used_almost_whole() -> None:
    search = RateSearch(Accepted(), 0.0, 10.0)
    for now in (0.0, 1.0):
        search.hit(now, 0.5)
        search._accepted.requests += 1
        search._accepted.amount += 1
        search.set_rate(9.0)
    assert 9.0 < search.value < 9.5
    assert search.is_reliable
    search.grow(60.0)
    assert search.value == pytest.approx(9.8)
