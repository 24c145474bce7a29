"""A slow fall over the nights is found, and unchanged nights are hardly ever an alarm."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from batchmix.statistics.trend import Night, trend

RATE = 0.075


def nights_of(means: Sequence[float], rows: int = 1000, noise: float = 0.007) -> list[Night]:
    return [Night(float(mean), rows, noise) for mean in means]


def drawn(draw: np.random.Generator, rows: int, count: int, fall: Sequence[float]) -> list[Night]:
    """Draw nights in which each row is right with a probability of its own: 5 % flip each way in expectation."""
    chance = np.where(draw.random(rows) < 0.75, 0.947, 0.053)
    nights: list[Night] = []
    before = None
    for at in range(count):
        scores = (draw.random(rows) < chance - (fall[at] if at < len(fall) else 0.0)).astype(float)
        noise = None if before is None else float((scores - before).std(ddof=1)) / math.sqrt(2 * rows)
        nights.append(Night(float(scores.mean()), rows, noise))
        before = scores
    return nights


def test_a_decline_of_0_3_points_a_night_is_found_within_20_nights() -> None:
    draw = np.random.default_rng(3)
    found = 0
    for _ in range(50):
        fall = [0.0] * 10 + [0.003 * at for at in range(1, 21)]
        nights = drawn(draw, 1000, 30, fall)
        found += any(trend(nights[:end], RATE, tests=4).alarm for end in range(11, 31))
    assert found >= 48


def test_unchanged_nights_are_less_than_one_alarm_a_year() -> None:
    draw = np.random.default_rng(4)
    alarms = 0
    for _ in range(30):
        nights = drawn(draw, 300, 100, [])
        alarms += sum(trend(nights[:end], RATE).alarm for end in range(1, 101))
    assert alarms / (30 * 100) * 365 <= 0.9


def test_the_rate_is_shared_by_the_scores_that_are_watched() -> None:
    nights = nights_of([0.8] * 30)
    bounds = [trend(nights, RATE, tests).bound for tests in (1, 10)]
    assert bounds == sorted(bounds)
    assert trend(nights, RATE, 10).bound == trend(nights, RATE / 10).bound
    assert trend(nights, RATE, nights_per_month=4).bound < bounds[0]


def test_a_fall_says_when_it_began_and_how_far_it_went() -> None:
    found = trend(nights_of([0.8] * 20 + [0.76] * 8), RATE)
    assert (found.alarm, found.since, found.nights) == (True, 20, 28)
    assert (found.before, found.after) == (pytest.approx(0.8), pytest.approx(0.76))
    assert found.statistic > found.bound


def test_a_fall_that_is_over_is_no_alarm() -> None:
    assert not trend(nights_of([0.8] * 20 + [0.76] * 4 + [0.8] * 4), RATE).alarm


def test_a_rise_is_no_alarm_and_a_later_fall_is_measured_from_it() -> None:
    assert not trend(nights_of([0.7] * 60 + [0.8] * 12), RATE).alarm
    assert trend(nights_of([0.7] * 60 + [0.8] * 12 + [0.76] * 4), RATE).alarm


def test_a_restart_forgets_the_nights_before_it() -> None:
    nights = nights_of([0.8] * 20 + [0.6] * 10)
    assert trend(nights, RATE).alarm
    nights[20] = Night(0.6, 1000, 0.007, restart=True)
    assert trend(nights, RATE).nights == 10
    assert not trend(nights, RATE).alarm
    later = trend([*nights, *nights_of([0.5] * 4)], RATE)
    assert (later.alarm, later.since) == (True, 30)


def test_what_only_the_nights_differ_in_counts_as_noise() -> None:
    draw = np.random.default_rng(5)
    means = 0.8 + draw.normal(0, 0.03, 60)
    alarms = sum(trend(nights_of(means[:end], noise=0.001), RATE).alarm for end in range(1, 61))
    assert alarms == 0


def test_nights_of_different_sizes_weigh_as_they_have_rows() -> None:
    nights = nights_of([0.8] * 12, rows=2000) + nights_of([0.5] * 2, rows=1) + nights_of([0.8] * 4, rows=2000)
    assert not trend(nights, RATE).alarm
    assert trend(nights, RATE).before == pytest.approx(0.8, abs=1e-3)


@pytest.mark.parametrize("count", [0, 1, 7])
def test_a_few_nights_say_nothing(count: int) -> None:
    found = trend(nights_of([0.8, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1][:count]), RATE)
    assert (found.alarm, found.since, found.bound) == (False, None, math.inf)


def test_nights_without_any_change_are_not_certain_of_their_level() -> None:
    same = [Night(1.0, 40, 0.0)] * 10
    assert not trend([*same, *[Night(39 / 40, 40, 0.0)] * 2], RATE).alarm
    assert trend([*same, *[Night(0.8, 40, None)] * 4], RATE).alarm


def test_a_fall_that_is_over_is_no_alarm_from_the_first_night_on() -> None:
    def nights(*means: float) -> list[Night]:
        return [Night(mean, 500, 0.008) for mean in means]

    fallen = [0.73] * 8 + [0.63] * 4
    assert trend(nights(*fallen), 0.1).alarm
    assert not trend(nights(*fallen, 0.726), 0.1).alarm
