"""What the provider reports of a limit: buckets and windows, with and without a reset."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable

import pytest

from batchmix.pacing.reported import Reported
from batchmix.records import Quota

Take = Callable[[float, float], tuple[bool, Quota]]
"""A provider: whether it takes an amount at a time, and what it reports then."""


def bucket(limit: float, per_s: float) -> Take:
    """Return a provider that reports a bucket."""
    level, at = limit, 0.0

    def take(now: float, amount: float) -> tuple[bool, Quota]:
        nonlocal level, at
        level, at = min(limit, level + per_s * (now - at)), now
        fits = level >= amount
        level -= amount * fits
        return fits, Quota(limit, math.floor(level), (limit - level) / per_s)

    return take


def window(limit: float, begins_at: float = 0.0, *, reset: bool) -> Take:
    """Return a provider that reports windows of a minute."""
    used, number = 0.0, -1.0

    def take(now: float, amount: float) -> tuple[bool, Quota]:
        nonlocal used, number
        current = (now - begins_at) // 60
        used = used if current == number else 0.0
        number = current
        fits = used + amount <= limit
        used += amount * fits
        return fits, Quota(limit, limit - used, 60 - (now - begins_at) % 60 if reset else None)

    return take


def drive(reported: Reported, take: Take, seconds: float, charge: float = 1.0) -> tuple[list[float], list[float]]:
    """Send as fast as the reports allow, at most 100 a second; answers take 0.1 to 0.5 s. Return accepted and refused."""
    rng, taken = random.Random(1), 0.0
    answers: list[tuple[float, bool, Quota, float, float]] = []
    accepted: list[float] = []
    refused: list[float] = []
    now = 0.0
    while now < seconds:
        for answer in [one for one in answers if one[0] <= now]:
            answers.remove(answer)
            _, fits, quota, sent_at, then = answer
            reported.follow(now, quota, sent_at, then)
            if not fits and reported.is_used_up(now, taken):
                reported.throttled(now, taken)
        if reported.wait_s(now, 1.0, taken) == 0:
            taken += 1
            fits, quota = take(now, charge)
            (accepted if fits else refused).append(now)
            answers.append((now + (rng.uniform(0.1, 0.5) if fits else 0.04), fits, quota, now, taken))
        now = round(now + 0.01, 2)
    return accepted, refused


def test_bucket_is_followed_at_its_rate() -> None:
    reported = Reported(0.0, exact=True)
    accepted, refused = drive(reported, bucket(300, 5), 100)
    assert not refused
    assert 300 + 5 * 100 - 10 <= len(accepted) <= 800


def test_bucket_of_a_day_is_no_minute() -> None:
    """A limit of 1000 a day, of which half was used before: the other half leaves at once, and then one in 86 s."""
    take = bucket(1000, 1000 / 86_400)
    for _ in range(500):
        take(0.0, 1.0)
    accepted, refused = drive(Reported(0.0, exact=True), take, 300)
    assert not refused
    assert 498 <= len(accepted) <= 504


def test_a_late_report_lowers_what_remains_of_a_bucket() -> None:
    """An answer may overtake others, whose reports are newer."""
    reported = Reported(0.0, exact=True)
    for number in range(1, 200):
        reported.wait_s(0.01 * number, 1.0, number)
        reported.follow(0.01 * number + 0.005, Quota(600, 600 - number, number / 10), 0.01 * number, number)
    assert reported.is_trusted
    reported.follow(2.5, Quota(600, 8, 59.2), 1.9, 190.0)
    assert reported.wait_s(2.5, 8.0, 200.0) == 0.0
    assert reported.wait_s(2.5, 20.0, 200.0) > 0.0


def test_window_begins_anew_at_its_reset() -> None:
    accepted, refused = drive(Reported(0.0, exact=True), window(300, -20, reset=True), 150)
    assert not refused
    assert len(accepted) == 900
    assert [at for at in accepted if 10 < at < 40] == []


@pytest.mark.parametrize("minute_at", [-20.0, -47.0])
def test_without_reset_the_minute_of_the_clock_is_found(minute_at: float) -> None:
    accepted, refused = drive(Reported(minute_at, exact=True), window(300, minute_at, reset=False), 300)
    assert len(refused) <= 2
    assert len(accepted) >= 300 * 5


def test_without_reset_any_other_minute_is_found() -> None:
    accepted, refused = drive(Reported(-31.0, exact=True), window(300, 0.0, reset=False), 290)
    assert len(refused) <= 2
    assert len(accepted) == 300 * 5


def used_up(minute_at: float) -> Reported:
    """Return a limit of 60 without a reset, all of which was used at once."""
    reported = Reported(minute_at, exact=True)
    reported.wait_s(0.0, 1.0, 60.0)
    reported.follow(0.3, Quota(60, 0, None), 0.0, 60.0)
    return reported


def test_without_reset_a_stated_minute_ends_with_the_minute_of_the_clock() -> None:
    reported = used_up(minute_at=-47.0)
    assert reported.throttled(1.0, 60.0, 60.0) == pytest.approx(12.1)
    assert reported.wait_s(13.2, 1.0, 60.0) == 0.0


def test_without_reset_a_short_wait_is_kept() -> None:
    assert used_up(minute_at=-47.0).throttled(1.0, 60.0, 2.5) == 2.5


def test_without_reset_no_more_is_sent_at_first_than_the_limit() -> None:
    """Of twelve requests at once, the one that was sent last may arrive first."""
    reported = Reported(-20.0, exact=True)
    reported.wait_s(0.0, 1.0, 12.0)
    reported.follow(0.3, Quota(60, 59, None), 0.0, 12.0)
    assert reported.wait_s(0.4, 1.0, 59.0) == 0.0
    assert reported.wait_s(0.4, 1.0, 60.0) > 0.0


def test_without_reset_a_bucket_refills() -> None:
    accepted, refused = drive(Reported(-31.0, exact=True), bucket_without_reset(300, 5), 100)
    assert len(refused) <= 1
    assert len(accepted) >= 300 + 5 * 100 - 10


def bucket_without_reset(limit: float, per_s: float) -> Take:
    take = bucket(limit, per_s)

    def without(now: float, amount: float) -> tuple[bool, Quota]:
        fits, quota = take(now, amount)
        return fits, Quota(quota.limit, quota.remaining, None)

    return without


def test_limit_that_never_comes_back_is_tried_seldom() -> None:
    """A limit of a day that does not say when it is back, with 50 left."""
    left = itertools.chain(range(49, -1, -1), itertools.repeat(-1))

    def take(now: float, amount: float) -> tuple[bool, Quota]:
        remaining = next(left)
        return remaining >= 0, Quota(1000, max(0, remaining), None)

    accepted, refused = drive(Reported(0.0, exact=True), take, 300)
    assert len(accepted) == 50
    assert len(refused) <= 35


def test_charge_is_learned() -> None:
    """The provider charges three times what is estimated."""
    reported = Reported(0.0, exact=False)
    accepted, refused = drive(reported, bucket(1200, 20), 120, charge=3.0)
    assert len(refused) <= 2
    assert len(accepted) >= (1200 + 20 * 120) / 3 - 20


def test_two_channels_by_turns() -> None:
    """Two upstream channels, of which one was used before, answer by turns. Nothing stops for good."""
    channels = [window(100, reset=False), window(100, reset=False)]
    for _ in range(70):
        channels[0](0.0, 1.0)
    turns = itertools.cycle(channels)
    accepted, refused = drive(Reported(0.0, exact=True), lambda now, amount: next(turns)(now, amount), 600)
    assert len(accepted) >= 0.9 * 100 * 10
    assert len(refused) <= 0.1 * len(accepted)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_changed_limit_is_followed(factor: float) -> None:
    before, after = bucket(300, 5), bucket(300 * factor, 5 * factor)
    accepted, refused = drive(
        Reported(0.0, exact=True), lambda now, amount: (before if now < 80 else after)(now, amount), 200
    )
    assert len(refused) <= 2
    assert len([at for at in accepted if at >= 80]) >= 5 * factor * 120 - 20


def test_requests_that_overtake_each_other_lose_nothing() -> None:
    """Of 50 requests sent at once, the first one arrives last: it reports what the others left."""
    reported = Reported(0.0, exact=True)
    reported.follow(0.1, Quota(100, 99, None), 0.0, 1)
    assert [reported.wait_s(1.0, 1, 1 + number) for number in range(50)] == [0] * 50
    for number in range(50):
        reported.follow(1.5, Quota(100, 49 + number, None), 1.0, 2 + number)
    assert reported.wait_s(1.6, 1, 98) == 0
    assert reported.wait_s(1.6, 1, 100) > 0


@pytest.mark.parametrize(
    "quota",
    [
        Quota(0, 0, None), Quota(math.nan, 1, None), Quota(10, math.nan, 1), Quota(10, 1, math.inf), Quota(10, -1, 1),
        Quota(10, 1, -1), Quota(math.inf, 1, None), Quota(-5, 0, None), Quota(10, 0, math.nan),
    ],
)  # fmt: skip
def test_nonsense_is_ignored(quota: Quota) -> None:
    reported = Reported(0.0, exact=True)
    for second in range(20):
        reported.follow(second, quota, second - 0.1, second)
    assert not reported.is_trusted
    assert reported.wait_s(20, 1, 20) == 0


def test_more_remaining_than_the_limit_is_the_limit() -> None:
    reported = Reported(0.0, exact=True)
    reported.follow(0.1, Quota(10, 1000, None), 0.0, 1)
    assert reported.wait_s(0.2, 1, 5) == 0
    assert reported.wait_s(0.2, 1, 11) > 0


def test_reports_that_agree_with_neither_are_not_trusted() -> None:
    rng = random.Random(1)
    reported = Reported(0.0, exact=True)
    for second in range(60):
        reported.follow(second, Quota(100, rng.randrange(90), rng.uniform(1, 300)), second - 0.1, second)
    assert not reported.is_trusted


def test_throttle_widens_the_margin_of_a_bucket() -> None:
    reported = Reported(0.0, exact=True)
    drive(reported, bucket(300, 5), 70)
    before = reported.wait_s(70, 1, 600)
    reported.throttled(70, 600)
    assert reported.is_used_up(70, 600)
    assert 0 <= before < reported.wait_s(70, 1, 600) <= 1


def test_a_limit_of_a_second_is_not_decided_by_reports_that_are_old_when_they_arrive() -> None:
    reported = Reported(0.0, exact=True)
    for number in range(1, 40):
        at = 0.2 * number
        reported.wait_s(at, 1.0, float(number))
        reported.follow(at + 0.1, Quota(5, number % 5, 0.9), at, float(number))
        assert reported.wait_s(at + 0.1, 1.0, float(number)) == 0 or not reported.is_trusted
    assert not reported.is_trusted
