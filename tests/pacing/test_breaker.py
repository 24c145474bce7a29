"""An outage costs few requests, ends by itself, and is not waited out forever."""

from __future__ import annotations

import math

from batchmix.errors import FailureAction
from batchmix.pacing.breaker import Breaker
from batchmix.records import Failure

DOWN = Failure(FailureAction.RETRY, "server_error", "down")
BUSY = Failure(FailureAction.RETRY, "server_error", "busy", may_be_throttling=True)


def opened(patience_s: float = 600.0) -> Breaker:
    breaker = Breaker(patience_s)
    breaker.succeeded()
    for _ in range(20):
        breaker.sent()
        breaker.failed(0.0, 0.0, DOWN)
    assert breaker.is_open
    return breaker


def test_nineteen_consecutive_failures_are_no_outage() -> None:
    breaker = Breaker(600)
    for _ in range(3):
        for _ in range(19):
            breaker.failed(0.0, 0.0, DOWN)
        breaker.succeeded()
    assert not breaker.is_open
    assert breaker.wait_s(0.0) == 0


def test_few_refusals_without_a_reason_open_the_breaker_if_nothing_else_is_in_flight() -> None:
    for failure, awaited, opens_after in ((BUSY, False, 5), (BUSY, True, 20), (DOWN, False, 20)):
        breaker = Breaker(600)
        for failures in range(1, opens_after + 1):
            breaker.failed(0.0, 0.0, failure, awaited=awaited)
            assert breaker.is_open == (failures == opens_after)


def test_an_open_breaker_tries_one_request_at_a_time_after_doubling_pauses() -> None:
    breaker, now, tries = opened(), 0.0, []
    while now < 100:
        wait = breaker.wait_s(now)
        if wait:
            now += wait
            continue
        tries.append(now)
        breaker.sent()
        assert breaker.wait_s(now) == math.inf
        breaker.failed(now, now, DOWN)
    assert [round(at) for at in tries] == [1, 3, 7, 15, 31, 61, 91]


def test_a_late_failure_of_an_earlier_request_changes_nothing() -> None:
    breaker = opened()
    for _ in range(500):
        breaker.failed(0.5, 0.0, DOWN)
    assert breaker.wait_s(0.5) == 0.5
    assert breaker.given_up is None


def test_one_good_answer_closes_the_breaker() -> None:
    breaker = opened()
    breaker.sent()
    breaker.succeeded()
    assert breaker.wait_s(0.0) == 0
    for _ in range(19):
        breaker.failed(1.0, 1.0, DOWN)
    assert not breaker.is_open


def test_a_throttled_try_allows_another() -> None:
    breaker = opened()
    breaker.sent()
    breaker.inconclusive()
    assert breaker.wait_s(2.0) == 0


def test_a_start_without_an_answer_is_waited_out_as_long_as_other_requests_are_in_flight() -> None:
    breaker, now = Breaker(300.0), 0.0
    for _ in range(20):
        breaker.failed(0.0, 0.0, DOWN, awaited=True)
    while breaker.given_up is None:
        now += breaker.wait_s(now)
        breaker.sent()
        breaker.failed(now, now, DOWN, awaited=now < 100.0)
    assert 91 < now <= 121


def test_an_outage_is_waited_out_only_for_its_limit_and_briefly_if_no_response_ever_came() -> None:
    for breaker, longest in ((opened(300.0), 300), (Breaker(300.0), 60)):
        now = 0.0
        for _ in range(20):
            breaker.failed(0.0, 0.0, DOWN)
        while breaker.given_up is None:
            now += breaker.wait_s(now)
            breaker.sent()
            breaker.failed(now, now, DOWN)
        assert longest - 31 <= now <= longest
        assert breaker.given_up is DOWN
