"""The governor on a clock that the test moves."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchmix.job import Limits
from batchmix.pacing.governor import Governor, Ticket
from batchmix.records import Bottleneck, Quota, Usage


def drive(governor: Governor, seconds: float, tokens: float, hold_s: float = 0.5) -> list[float]:
    """Send as fast as the governor allows; each request finishes after a while. Return when each was sent."""
    now = 0.0
    left: list[float] = []
    finishing: list[tuple[float, Ticket]] = []
    while now < seconds:
        while finishing and finishing[0][0] <= now:
            governor.settle(finishing.pop(0)[1], tokens)
        wait = governor.wait_s(now, tokens)
        if wait == 0:
            finishing.append((now + hold_s, governor.admit(now, tokens)))
            left.append(now)
        else:
            now = min([now + wait, *(end for end, _ in finishing[:1])]) + 1e-9
    return left


def flowing(limits: Limits) -> Governor:
    """Return a governor whose slow start is over."""
    governor = Governor(limits, 0.0)
    governor._ramp.is_over = True
    return governor


def admitted(governor: Governor, now: float, count: int = 1, tokens: float = 1) -> list[Ticket]:
    return [governor.admit(now, tokens) for _ in range(count)]


def test_requests_never_exceed_the_configured_limit_in_any_minute_after_the_first() -> None:
    left = drive(Governor(Limits(requests_per_minute=600), 0.0), 300, 10)
    assert 600 * 5 * 0.98 <= len(left) <= 600 * 6
    later = [at for at in left if at >= 60]
    for start in range(60, 240):
        assert sum(start <= at < start + 60 for at in later) <= 601


@given(st.floats(60, 6000), st.floats(6000, 600_000), st.floats(1, 500))
@settings(deadline=None)  # a busy machine must not fail the test
def test_the_limits_of_requests_and_tokens_are_both_kept(requests: float, per_minute: float, tokens: float) -> None:
    governor = Governor(Limits(requests_per_minute=requests, tokens_per_minute=per_minute), 0.0)
    left = drive(governor, 30, tokens)
    assert len(left) <= requests * 1.5 + 1
    assert len(left) * tokens <= per_minute * 1.5 + tokens


def test_unused_tokens_are_returned_to_the_budget() -> None:
    governor = Governor(Limits(tokens_per_minute=1000), 0.0)
    (ticket,) = admitted(governor, 0.0, tokens=1000)
    assert governor.wait_s(0.0, 100) > 5
    governor.settle(ticket, 0.0)
    assert governor.wait_s(0.0, 100) == 0


def test_a_request_larger_than_the_budget_is_sent_in_the_end() -> None:
    governor = Governor(Limits(tokens_per_minute=1000), 0.0)
    assert governor.wait_s(0.0, 5000) == 0
    admitted(governor, 0.0, tokens=5000)
    assert 240 < governor.wait_s(0.0, 10) < math.inf


def test_an_absurd_usage_does_not_block_requests_for_days() -> None:
    governor = Governor(Limits(tokens_per_minute=60_000), 0.0)
    (ticket,) = admitted(governor, 0.0, tokens=100)
    governor.settle(ticket, 1e12)
    assert governor.wait_s(0.0, 100) <= 601


def test_the_window_bounds_the_requests_in_flight() -> None:
    governor = Governor(Limits(concurrency=3), 0.0)
    tickets = admitted(governor, 0.0, 3)
    assert governor.wait_s(0.0, 1) == math.inf
    assert governor.limited_by is Bottleneck.WINDOW
    governor.settle(tickets[0], 1)
    assert governor.wait_s(0.0, 1) == 0


def test_throttles_of_a_limit_pause_all_requests_for_their_retry_after_and_no_longer() -> None:
    governor = flowing(Limits())
    for ticket in admitted(governor, 9.0, 4):
        governor.throttled(10.0, ticket, 2.5)
        governor.settle(ticket, 0)
    assert governor.wait_s(10.0, 1) == 2.5
    assert governor.limited_by is Bottleneck.PAUSE
    assert governor.wait_s(12.5, 1) == 0


def test_a_single_throttle_far_from_any_limit_pauses_nothing() -> None:
    governor = flowing(Limits())
    tickets = admitted(governor, 9.0, 20)
    governor.throttled(10.0, tickets[0], 2.5)
    assert governor.wait_s(10.0, 1) == 0


def test_throttles_without_a_retry_after_pause_longer_each_time() -> None:
    governor = flowing(Limits())
    now, pauses = 0.0, []
    for ticket in admitted(governor, now, 3):
        governor.throttled(now, ticket, None)
        governor.settle(ticket, 0)
    for _ in range(9):
        (ticket,) = admitted(governor, now)
        governor.throttled(now, ticket, None)
        governor.settle(ticket, 0)
        pauses.append(governor.wait_s(now, 1))
        now += pauses[-1] + 0.01
    assert pauses[0] <= 0.5
    assert pauses[3] <= 4.0
    assert 10.0 <= max(pauses) <= 20.0  # the turn of a minute may shorten the last one
    (ticket,) = admitted(governor, now)
    governor.completed(now, ticket, 10, Usage(10, 10, 20))
    (ticket,) = admitted(governor, now)
    governor.throttled(now, ticket, None)
    governor.settle(ticket, 0)
    assert governor.wait_s(now, 1) <= 1.0


def test_the_first_requests_leave_in_growing_groups() -> None:
    """Twelve; then four more for each that was answered, or not throttled for 1.2 s."""
    governor = Governor(Limits(), 0.0)
    tickets = []
    while not governor.wait_s(0.0, 1):
        tickets += admitted(governor, 0.0)
    assert len(tickets) == 12
    governor.completed(0.1, tickets[0], 10, Usage(10, 10, 20))
    more = 0
    while not governor.wait_s(0.1, 1):
        more += len(admitted(governor, 0.1))
    assert more == 5
    assert governor.wait_s(0.1, 1) == pytest.approx(1.1)
    assert governor.wait_s(1.21, 1) == 0


def test_after_a_limit_was_hit_the_requests_start_again_one_by_one() -> None:
    governor = flowing(Limits())
    for ticket in admitted(governor, 0.0, 20):
        governor.throttled(0.1, ticket, 5.0)
        governor.settle(ticket, 0)
    assert governor.wait_s(5.1, 1) == 0
    admitted(governor, 5.1)
    assert 0 < governor.wait_s(5.1, 1) < 1, "until it is known that this one was not throttled"
    assert governor.wait_s(5.31, 1) == 0


def test_errors_do_not_reduce_the_window() -> None:
    governor = flowing(Limits(requests_per_minute=600, concurrency=100))
    tickets = admitted(governor, 0.0, 50)
    before = (governor.window, governor.wait_s(0.0, 1))
    for ticket in tickets:
        governor.failed(1.0)
        governor.settle(ticket, None)
    assert (governor.window, governor.wait_s(1.0, 1)) == before


def test_limits_are_not_raised_for_two_seconds_after_a_tenth_of_the_last_requests_failed() -> None:
    governor = flowing(Limits(concurrency=2000))
    tickets = admitted(governor, 0.0, 128)

    def grew(now: float) -> bool:
        """Complete a request and send another; return whether the window grew."""
        before = governor.window
        governor.completed(now, tickets.pop(), 10, Usage(10, 10, 20))
        tickets.extend(admitted(governor, now, int(governor.window - before) + 1))
        return governor.window > before

    for _ in range(7):  # of about 70 requests: older ones have faded
        governor.failed(0.0)
    assert grew(1.0)
    governor.failed(1.0)
    assert not grew(2.9)
    assert grew(3.1)


def test_the_window_grows_only_while_it_is_the_limit() -> None:
    governor = Governor(Limits(concurrency=2000), 0.0)
    start = governor.window
    for number in range(1000):
        (ticket,) = admitted(governor, float(number))
        governor.completed(number + 0.5, ticket, 10, Usage(10, 10, 20))
    assert governor.window == start


def test_the_estimate_follows_the_usage() -> None:
    governor = Governor(Limits(), 0.0)
    for _ in range(200):
        (ticket,) = admitted(governor, 0.0)
        governor.completed(0.0, ticket, 100, Usage(150, 40, 190))
    assert 180 <= governor.estimate(100, None) <= 200
    assert governor.estimate(100, 10) <= 165


def test_a_budget_reported_in_responses_is_kept_without_a_throttle() -> None:
    governor = flowing(Limits())
    for used in range(600):
        assert governor.wait_s(0.0, 1) == 0
        (ticket,) = admitted(governor, 0.0)
        governor.follow(0.0, ticket, (Quota(1200, 1200 - 2 * used, used / 10), None))
        governor.settle(ticket, 1)
        if used > 570:
            break
    governor.follow(0.0, ticket, (Quota(1200, 5, 59.75), None))
    assert governor.wait_s(0.0, 1) > 0
    assert governor.limited_by is Bottleneck.REQUESTS


def test_a_daily_budget_is_not_taken_for_a_budget_per_minute() -> None:
    governor = Governor(Limits(), 0.0)
    for used in range(1, 190):
        (ticket,) = admitted(governor, float(used))
        governor.follow(float(used), ticket, (Quota(200, 200 - used, 432.0 * used), None))
        governor.settle(ticket, 1)
    assert governor.wait_s(190.0, 1) == 0


def test_a_request_that_failed_but_was_not_throttled_still_counts() -> None:
    governor = flowing(Limits(requests_per_minute=60))
    sent = 0
    while governor.wait_s(0.0, 10) == 0 and sent < 100:
        (ticket,) = admitted(governor, 0.0, tokens=10)
        governor.settle(ticket, 0.0)
        sent += 1
    assert sent == 60


def test_a_throttled_request_is_returned_to_the_budget_in_full() -> None:
    governor = Governor(Limits(requests_per_minute=60, tokens_per_minute=600), 0.0)
    tickets = admitted(governor, 0.0, 60, tokens=10)
    assert governor.wait_s(0.0, 10) > 0
    for ticket in tickets:
        governor.throttled(0.0, ticket, 0.001)
        governor.settle(ticket, 0.0)
    assert governor.wait_s(0.002, 10) <= 1.0


def test_a_configured_limit_is_kept_when_the_provider_allows_more() -> None:
    governor, now, left = Governor(Limits(requests_per_minute=600), 0.0), 0.0, 0
    while now < 60:
        wait = governor.wait_s(now, 10)
        if wait:
            now += wait
            continue
        (ticket,) = admitted(governor, now, tokens=10)
        left += 1
        governor.follow(now, ticket, (Quota(6000, 6000 - left, left / 100), None))
        governor.settle(ticket, 10)
    assert left <= 1200 + 1


def test_a_throttle_that_a_report_explains_lowers_a_rate_that_was_measured_too() -> None:
    """Another client of the key takes what the report leaves, so that the report alone lets bursts run into the limit."""
    governor, now = flowing(Limits()), 0.0
    for _ in range(3):
        for _ in range(30):
            (ticket,) = admitted(governor, now := now + 0.1)
            governor.completed(now, ticket, 10, Usage(10, 10, 20))
        for ticket in admitted(governor, now, 6):
            governor.throttled(now, ticket, 0.1)
            governor.settle(ticket, 0.0)
    for used in range(60):  # a bucket of 100, full again in ten seconds
        (ticket,) = admitted(governor, now := now + 0.1)
        governor.follow(now, ticket, (Quota(100, 99 - used, (used + 1) / 10), None))
        governor.completed(now, ticket, 10, Usage(10, 10, 20))
    rate = governor._rates.requests.per_s
    assert rate < math.inf
    (ticket,) = admitted(governor, now)
    governor.follow(now, ticket, (Quota(100, 2, 9.8), None))
    governor.throttled(now, ticket, 0.1)
    assert governor._rates.requests.per_s < 0.9 * rate


def reporting(remaining: float, of_each: float, count: int) -> Governor:
    """Return a governor in its slow start after so many answers, each of which took `of_each` from what remained."""
    governor = Governor(Limits(), 0.0)
    for number in range(count):
        (ticket,) = admitted(governor, 0.0)
        governor.follow(0.1, ticket, (None, Quota(60_000, remaining - number * of_each, None if number else 60.0)))
        governor.completed(0.1, ticket, 10, Usage(10, 10, 20))
    return governor


def in_a_burst(governor: Governor, now: float) -> int:
    """Send until the governor wants to wait. Return how many requests left."""
    count = 0
    while count < 100 and governor.wait_s(now, 1) == 0:
        governor.admit(now, 1)
        count += 1
    return count


def test_a_burst_ends_with_what_the_last_report_leaves() -> None:
    assert in_a_burst(reporting(2000.0, 100.0, 6), 0.2) == pytest.approx(15, abs=3)


def test_an_old_report_bounds_no_burst() -> None:
    assert in_a_burst(reporting(2000.0, 100.0, 6), 1.2) > 15


@pytest.mark.parametrize("remaining", [math.nan, math.inf, -5.0])
def test_a_senseless_report_bounds_no_burst(remaining: float) -> None:
    governor = Governor(Limits(), 0.0)
    (ticket,) = admitted(governor, 0.0)
    governor.follow(0.1, ticket, (None, Quota(60_000, remaining, 60.0)))
    assert in_a_burst(governor, 0.2) == 11
