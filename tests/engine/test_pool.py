"""The pool finishes every request once, sends retries first, and stops in one place. The provider is in memory."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import AsyncIterator, Callable

import msgspec
import pytest

from batchmix.engine.outcomes import SendingRules
from batchmix.engine.pool import Pool
from batchmix.engine.repeated_failures import RepeatedFailures
from batchmix.engine.run_status import LaneStatus, RunStatus
from batchmix.engine.shutdown import Shutdown
from batchmix.errors import FailureAction, Interrupted
from batchmix.job import Limits
from batchmix.pacing.governor import Governor
from batchmix.pacing.ramp import Ramp
from batchmix.records import Completion, Exchange, Failure, Outcome, Request
from tests.virtual_time import until

pytestmark = pytest.mark.virtual_time
THREE = SendingRules(3)
RETRY = Failure(FailureAction.RETRY, "server_error", "again")
BUSY = Failure(FailureAction.RETRY, "server_error", "busy", may_be_throttling=True)
PAUSE = Failure(FailureAction.PAUSE, "throttled", "slower")
REJECT = Failure(FailureAction.REJECT, "rejected", "no")


class Scene:
    """A pool, and a provider that answers a request by its row and the number of its attempt."""

    def __init__(
        self, answer: Callable[[int, int], Outcome], *, concurrency: int = 4, rules: SendingRules = THREE
    ) -> None:
        self.answer = answer
        self.attempts: Counter[int] = Counter()
        self.order: list[int] = []
        self.outcomes: dict[int, Failure | None] = {}
        self.in_flight = self.most_in_flight = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.shutdown = Shutdown(5.0)
        self.lane = LaneStatus("m")
        self.status: int | None = 200
        self.retry_after_s = 0.0
        self.latency_s = 0.001
        self.path: Callable[[int], str] = lambda row: "/p"
        self._last_outcomes: dict[int, Outcome] = {}
        run_status = RunStatus(lanes=[self.lane, *rules.run_status.lanes])
        rules = msgspec.structs.replace(rules, run_status=run_status, limits=Limits(concurrency=concurrency))
        self.pool = Pool(self, self, self.shutdown, self.lane, rules)

    async def post(self, request: Request) -> Exchange:
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            # Answers due at one moment arrive in one turn of the loop, in the order in which their requests were sent.
            await asyncio.sleep(self.latency_s + len(self.order) / 1e12)
            await self.gate.wait()
        finally:
            self.in_flight -= 1
        self._last_outcomes[request.row] = self.answer(request.row, self.attempts[request.row])
        return Exchange(0, 0, 0.01, self.status, retry_after_s=self.retry_after_s)

    def sent(self, request: Request, at_ms: int) -> None:
        self.attempts[request.row] += 1
        self.order.append(request.row)

    def received(self, request: Request, exchange: Exchange) -> Outcome:
        return self._last_outcomes[request.row]

    def refused_repair(self, request: Request, refusal: Failure) -> None:
        return None

    def finished(self, request: Request, failure: Failure | None) -> None:
        assert request.row not in self.outcomes, "a row finished twice"
        self.outcomes[request.row] = failure

    async def feed(self, rows: int) -> AsyncIterator[list[Request]]:
        for first in range(0, rows, 7):
            yield [
                Request(row, "m", 0, "h", self.path(row), b"", 1, None) for row in range(first, min(first + 7, rows))
            ]

    async def run(self, rows: int, workers: int = 4) -> None:
        await self.pool.run(self.feed(rows), workers)


async def test_an_exhausted_input_is_not_reported_as_a_limit() -> None:
    scene = Scene(lambda row, attempt: Completion("a"))
    scene.gate.clear()
    running = asyncio.create_task(scene.run(3, workers=4))
    for _ in range(20):
        await asyncio.sleep(0)
    assert scene.in_flight == 3
    assert scene.lane.limited_by == ""
    scene.gate.set()
    await running


async def test_each_request_finishes_once_and_no_more_are_in_flight_than_workers() -> None:
    scene = Scene(lambda row, attempt: Completion("a"))
    await scene.run(500)
    assert scene.outcomes == dict.fromkeys(range(500))
    assert scene.most_in_flight == 4
    assert scene.lane.answers == 500
    assert scene.lane.in_flight == 0


async def test_a_run_without_rows_finishes() -> None:
    await Scene(lambda row, attempt: Completion("a")).run(0)


async def test_a_transient_error_uses_up_attempts_and_then_fails_the_row() -> None:
    scene = Scene(lambda row, attempt: RETRY if row == 3 or (row == 5 and attempt < 3) else Completion("a"))
    await scene.run(20)
    assert scene.attempts[3] == 3
    assert scene.outcomes[3] == RETRY
    assert scene.attempts[5] == 3
    assert scene.outcomes[5] is None
    assert len(scene.outcomes) == 20


async def test_rows_that_could_not_be_sent_fail_if_the_provider_comes_back_and_stay_open_otherwise() -> None:
    unsent = Failure(FailureAction.RETRY, "connection", "refused", unsent=True)
    scene = Scene(lambda row, attempt: unsent if row == 3 else Completion("a"), concurrency=1)
    scene.latency_s = 0.1
    await scene.run(30, workers=1)
    assert scene.outcomes == {**dict.fromkeys(range(30)), 3: unsent}
    scene = Scene(lambda row, attempt: unsent if row > 3 else Completion("a"), concurrency=1)
    await scene.run(6, workers=1)
    assert scene.outcomes == dict.fromkeys(range(4))
    assert scene.pool.stopped
    assert scene.pool.stopped.message == "the provider can't be reached any more: refused"


async def test_a_path_with_an_answer_is_not_stopped_by_many_rejections() -> None:
    refused = Failure(FailureAction.REJECT, "rejected", "bad")
    for good, stops in ((1, False), (0, True)):
        scene = Scene(
            lambda row, attempt, good=good: Completion("a") if row <= good else refused,  # type: ignore[misc]
            concurrency=1,
            rules=SendingRules(3, has_paths=True),
        )
        scene.path = lambda row: "/b" if row else "/a"
        await scene.run(30, workers=1)
        assert bool(scene.pool.stopped) == stops


async def test_throttling_does_not_use_up_attempts() -> None:
    scene = Scene(lambda row, attempt: PAUSE if attempt < 15 and row == 2 else Completion("a"))
    await scene.run(5)
    assert scene.attempts[2] == 15
    assert scene.outcomes == dict.fromkeys(range(5))


async def test_refusals_without_a_reason_cost_a_fifth_of_an_attempt_while_others_are_answered() -> None:
    scene = Scene(lambda row, attempt: BUSY if row in {3, 50, 97} and attempt <= 10 else Completion("a"))
    scene.latency_s = 1.0
    await scene.run(1000)
    assert scene.outcomes == dict.fromkeys(range(1000))
    assert scene.lane.throttled == 3 * 10


async def test_a_row_that_is_always_refused_without_a_reason_fails_in_the_end() -> None:
    scene = Scene(lambda row, attempt: BUSY if row == 3 else Completion("a"))
    scene.latency_s = 1.0
    await scene.run(1000)
    assert [row for row, failure in scene.outcomes.items() if failure] == [3]
    assert scene.attempts[3] <= 3 * 5


async def test_a_row_that_is_always_refused_without_a_reason_slows_the_others_down_only_at_first() -> None:
    scene = Scene(lambda row, attempt: BUSY if row == 3 else Completion("a"))
    throttled = 0

    def count(*_: object) -> None:
        nonlocal throttled
        throttled += 1

    scene.pool._admission._governor.throttled = count  # type: ignore[method-assign]
    scene.latency_s = 1.0
    await scene.run(1000)
    assert throttled == 3


@pytest.mark.usefixtures("all_at_once")
async def test_a_flood_at_the_start_that_is_refused_without_a_reason_fails_no_row() -> None:
    """Of 128 requests at once the last three are accepted. Their answers come long after the refusals of the others."""
    answered = asyncio.Event()
    scene = Scene(lambda row, attempt: Completion("a") if row >= 125 or answered.is_set() else BUSY, concurrency=128)
    send = scene.post

    async def post(request: Request) -> Exchange:
        if request.row in {125, 126, 127}:
            await asyncio.sleep(100.0)
            answered.set()
        return await send(request)

    scene.post = post  # type: ignore[method-assign]
    await scene.run(200, workers=128)
    assert scene.outcomes == dict.fromkeys(range(200))


async def test_failures_without_a_reason_of_most_requests_at_once_slow_the_lane_down_and_fail_no_row() -> None:
    """As nginx does with 502 for more than `max_conns`: of 64 requests at once, four get an answer."""
    bad_gateway = Failure(FailureAction.RETRY, "server_error", "HTTP 502 with a web page", may_be_overload=True)
    in_flight = set[int]()
    rules = SendingRules(6)
    scene = Scene(lambda row, _: Completion("a") if row in in_flight else bad_gateway, concurrency=64, rules=rules)
    send = scene.post

    async def post(request: Request) -> Exchange:
        if len(in_flight) == 4:
            return await send(request)
        in_flight.add(request.row)
        try:
            await asyncio.sleep(1.0)
            return await send(request)
        finally:
            in_flight.remove(request.row)

    scene.post = post  # type: ignore[method-assign]
    await scene.run(200, workers=64)
    assert scene.outcomes == dict.fromkeys(range(200))


async def test_refusals_without_a_reason_and_without_an_answer_are_an_outage() -> None:
    scene = Scene(lambda row, attempt: BUSY, concurrency=128)
    await scene.run(1000, workers=128)
    assert scene.pool.stopped is not None
    assert "no answer came for too long (retry.outage_s), at last: busy" in scene.pool.stopped.message
    assert scene.outcomes == {}
    assert len(scene.order) < 128 + 20 + 8


async def test_retries_are_sent_before_new_rows() -> None:
    scene = Scene(lambda row, attempt: RETRY if row == 0 and attempt == 1 else Completion("a"), concurrency=1)
    scene.latency_s = 0.1
    await scene.run(100, workers=1)
    again = [place for place, row in enumerate(scene.order) if row == 0][1]
    assert again < 10


async def test_at_the_end_the_status_shows_what_the_last_rows_wait_for() -> None:
    shown: list[tuple[int, int | None, str]] = []

    def answer(row: int, attempt: int) -> Outcome:
        lane = scene.lane
        shown.append((len(scene.outcomes), lane.tail, lane.retrying_after))
        return RETRY if row == 5 and attempt < 3 else Completion("a")

    scene = Scene(answer, concurrency=1)
    await scene.run(7, workers=1)
    assert scene.lane.tail == 0
    assert shown[-1] == (6, 0, "")
    assert max(tail or 0 for _, tail, _ in shown) <= 1
    assert all(ended + (tail or 0) <= 7 for ended, tail, _ in shown)


async def test_a_stop_lets_requests_in_flight_finish_and_sends_no_more() -> None:
    def answer(row: int, attempt: int) -> Outcome:
        return Failure(FailureAction.STOP_RUN, "invalid_key", "the key") if row == 10 else Completion("a")

    scene = Scene(answer)
    await scene.run(500)
    assert "the key" in str(scene.shutdown.reason)
    assert sum(scene.attempts.values()) <= 10 + 4 + 1
    assert 10 not in scene.outcomes


async def test_a_stopped_model_stops_only_its_lane() -> None:
    scene = Scene(lambda row, attempt: Failure(FailureAction.STOP_MODEL, "model_retired", "gone"))
    await scene.run(100)
    assert scene.pool.stopped is not None
    assert scene.shutdown.reason is None
    assert not scene.outcomes


async def test_an_interrupt_drains_and_a_second_one_cancels_requests() -> None:
    scene = Scene(lambda row, attempt: Completion("a"))
    scene.gate.clear()
    running = asyncio.create_task(scene.run(100))
    await until(lambda: scene.in_flight == 4)
    scene.shutdown.stop(Interrupted("x", 2))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not running.done()
    scene.shutdown.cutting.set()
    await running
    assert not scene.outcomes
    assert sum(scene.attempts.values()) == 4


async def test_a_retry_in_flight_at_a_stop_gets_the_answer_it_receives() -> None:
    scene = Scene(lambda row, attempt: RETRY if attempt == 1 else Completion("a"))
    running = asyncio.create_task(scene.run(1))
    await until(lambda: scene.attempts[0] == 1 and not scene.in_flight)
    scene.gate.clear()
    await until(lambda: scene.in_flight)
    scene.shutdown.stop(Interrupted("x", 2))
    scene.gate.set()
    await running
    assert (scene.attempts, scene.outcomes) == ({0: 2}, {0: None})


async def test_rows_that_wait_for_a_retry_are_left_open_by_a_stop() -> None:
    scene = Scene(
        lambda row, attempt: (
            RETRY if row == 0 else Failure(FailureAction.STOP_RUN, "no_balance", "x") if row > 5 else Completion("a")
        ),
        rules=SendingRules(10_000),
    )
    await scene.run(100)
    assert 0 not in scene.outcomes


async def test_an_error_in_the_log_stops_the_run_and_is_kept() -> None:
    scene = Scene(lambda row, attempt: Completion("a"))

    def broken(request: Request, exchange: Exchange) -> Outcome:
        raise OSError("the disk")

    scene.received = broken  # type: ignore[method-assign]
    await scene.run(100)
    assert isinstance(scene.shutdown.reason, OSError)


async def test_the_same_rejection_for_the_first_rows_stops_the_lane_and_leaves_them_open() -> None:
    scene = Scene(lambda row, attempt: REJECT)
    await scene.run(500)
    assert scene.pool.stopped is not None
    assert "first 20" in scene.pool.stopped.message
    assert sum(scene.attempts.values()) == RepeatedFailures.FIRST
    assert not scene.outcomes


async def test_rejections_of_fewer_rows_are_their_outcomes() -> None:
    scene = Scene(lambda row, attempt: REJECT)
    await scene.run(RepeatedFailures.FIRST - 1)
    assert scene.outcomes == dict.fromkeys(range(RepeatedFailures.FIRST - 1), REJECT)


@pytest.mark.parametrize("kind", ["content_filter", "context_length"])
async def test_rejections_caused_by_a_rows_own_content_never_stop_the_lane(kind: str) -> None:
    refusal = Failure(FailureAction.REJECT, kind, "no")
    scene = Scene(lambda row, attempt: refusal)
    await scene.run(100)
    assert len(scene.outcomes) == 100


async def test_one_answer_among_the_first_rows_prevents_the_stop() -> None:
    scene = Scene(lambda row, attempt: Completion("a") if row == 12 else REJECT, concurrency=1)
    await scene.run(100, workers=1)
    assert len(scene.outcomes) == 100
    assert scene.outcomes[12] is None


async def test_the_same_rejection_for_all_later_rows_stops_the_lane_and_leaves_them_open() -> None:
    scene = Scene(lambda row, attempt: Completion("a") if row < 50 else REJECT)
    await scene.run(2000)
    assert scene.pool.stopped is not None
    assert f"the last {RepeatedFailures.LATER} requests were all refused: no" in scene.pool.stopped.message
    assert sum(scene.attempts.values()) <= 50 + RepeatedFailures.LATER + 4
    assert scene.outcomes == dict.fromkeys(range(50))


async def test_a_block_of_rejected_rows_keeps_its_outcomes() -> None:
    scene = Scene(lambda row, attempt: REJECT if 50 <= row < 50 + RepeatedFailures.LATER - 10 else Completion("a"))
    await scene.run(2000)
    assert len(scene.outcomes) == 2000
    assert sum(failure is REJECT for failure in scene.outcomes.values()) == RepeatedFailures.LATER - 10


async def test_a_stop_reports_how_many_answers_came_before_it() -> None:
    stop = Failure(FailureAction.STOP_RUN, "invalid_key", "the key")
    scene = Scene(lambda row, attempt: stop if row == 30 else Completion("a"), concurrency=1)
    await scene.run(100, workers=1)
    assert str(scene.shutdown.reason) == "after 30 answers: the key"


async def test_rejections_that_differ_only_in_numbers_count_as_the_same() -> None:
    scene = Scene(lambda row, attempt: Failure(FailureAction.REJECT, "rejected", f"no (tid: 2026{row:08d})"))
    await scene.run(500)
    assert scene.pool.stopped is not None


async def test_keep_going_does_not_stop_on_rejections() -> None:
    scene = Scene(lambda row, attempt: REJECT, rules=SendingRules(3, keep_going=True))
    await scene.run(100)
    assert len(scene.outcomes) == 100


UNKNOWN = Failure(FailureAction.RETRY, "unknown", "what?", attempts=2)


async def test_an_unknown_error_has_fewer_attempts() -> None:
    scene = Scene(lambda row, attempt: UNKNOWN if row == 5 else Completion("a"), rules=SendingRules(6))
    await scene.run(30)
    assert scene.attempts[5] == 2
    assert scene.outcomes == {**dict.fromkeys(range(30)), 5: UNKNOWN}


async def test_a_recognised_error_after_an_unknown_one_has_all_its_attempts() -> None:
    scene = Scene(lambda row, attempt: UNKNOWN if row == 5 and attempt == 1 else RETRY if row == 5 else Completion("a"))
    await scene.run(30)
    assert (scene.attempts[5], scene.outcomes[5]) == (3, RETRY)


async def test_the_same_unknown_error_for_the_first_rows_stops_the_lane_and_leaves_them_open() -> None:
    scene = Scene(lambda row, attempt: UNKNOWN)
    await scene.run(500)
    assert scene.pool.stopped is not None
    assert "what?" in scene.pool.stopped.message
    assert not scene.outcomes


AT_FIRST = [
    Failure(FailureAction.RETRY, "web_page", "wrong address", early_action=FailureAction.STOP_RUN),
    Failure(FailureAction.RETRY, "model_not_found", "no channel", early_action=FailureAction.STOP_MODEL),
]


@pytest.mark.parametrize("trouble", AT_FIRST)
async def test_an_error_that_stops_early_is_transient_after_a_good_answer(trouble: Failure) -> None:
    scene = Scene(lambda row, attempt: Completion("a") if row < 3 or attempt > 1 else trouble, concurrency=1)
    await scene.run(20, workers=1)
    assert scene.outcomes == dict.fromkeys(range(20))


@pytest.mark.parametrize("trouble", AT_FIRST)
@pytest.mark.parametrize("rows", [1, 20])
async def test_an_error_that_stops_early_stops_the_lane_after_three_attempts_and_leaves_all_rows_open(
    trouble: Failure, rows: int
) -> None:
    scene = Scene(lambda row, attempt: trouble, concurrency=1)
    await scene.run(rows, workers=1)
    assert scene.attempts.total() == 3
    assert not scene.outcomes
    assert scene.pool.stopped == trouble
    assert scene.shutdown.reason is None


@pytest.mark.usefixtures("all_at_once")
async def test_a_few_early_errors_stop_nothing_while_other_requests_are_in_flight() -> None:
    """Five of the first 64 reach a broken server behind the address; the others take longer."""
    scene = Scene(lambda row, attempt: AT_FIRST[0] if row < 5 and attempt == 1 else Completion("a"), concurrency=64)
    slow = asyncio.Event()
    post = scene.post

    async def later(request: Request) -> Exchange:
        if request.row >= 5:
            await slow.wait()
        return await post(request)

    scene.post = later  # type: ignore[method-assign]
    running = asyncio.create_task(scene.run(100, workers=64))
    await until(lambda: scene.lane.retrying == 5)
    assert len(scene.order) == 64, "and no more are sent meanwhile"
    slow.set()
    await running
    assert scene.outcomes == dict.fromkeys(range(100))


async def test_answers_in_another_lane_or_an_earlier_start_confirm_the_address() -> None:
    rules = SendingRules(3, run_status=RunStatus(lanes=[LaneStatus("other", ok=1)]))
    scene = Scene(lambda row, attempt: AT_FIRST[0] if attempt < 3 else Completion("a"), rules=rules)
    await scene.run(8)
    assert scene.outcomes == dict.fromkeys(range(8))


async def test_rows_stay_open_if_no_response_was_ever_received() -> None:
    silent = Failure(FailureAction.RETRY, "timeout", "nothing came", maybe_billed=True)
    scene = Scene(lambda row, attempt: silent, rules=SendingRules(3))
    scene.status = None
    await scene.run(5)
    assert scene.attempts == dict.fromkeys(range(5), 3)
    assert not scene.outcomes
    assert scene.pool.stopped is not None
    assert scene.pool.stopped.message == "the provider never answered: nothing came"


async def test_a_missing_path_stops_only_its_own_requests() -> None:
    """Every third row uses it; requests that are already in flight may still finish either way."""
    gone = Failure(FailureAction.STOP_PATH, "not_offered", "no such endpoint")
    missing = Failure(FailureAction.RETRY, "not_found", "404", attempts=1)
    for failure, most in ((gone, 8), (missing, RepeatedFailures.FIRST + 8)):
        scene = Scene(
            lambda row, attempt, failure=failure: Completion("a") if row % 3 else failure,  # type: ignore[misc]
            rules=SendingRules(3, has_paths=True),
        )
        scene.path = lambda row: "/p" if row % 3 else "/gone"
        await scene.run(900)
        assert sum(row % 3 == 0 for row in scene.order) <= most
        assert [row for row, end in scene.outcomes.items() if end is None] == [row for row in range(900) if row % 3]
        assert len(scene.outcomes) == 900
        assert scene.pool.stopped is not None
        assert scene.pool.stopped.message.startswith("/gone: ")
        assert scene.shutdown.reason is None


async def test_a_lane_with_one_path_is_stopped_with_that_path() -> None:
    scene = Scene(lambda row, attempt: Failure(FailureAction.STOP_PATH, "not_offered", "no such endpoint"))
    await scene.run(900)
    assert len(scene.order) <= 4
    assert not scene.outcomes
    assert scene.pool.stopped is not None


LONG_S = 50_000.0


async def test_too_long_a_wait_stops_the_lane_after_one_more_try() -> None:
    scene = Scene(lambda row, attempt: PAUSE if row >= 20 else Completion("a"), rules=SendingRules(3, outage_s=0.05))
    scene.retry_after_s = LONG_S
    await scene.run(100)
    assert scene.pool.stopped is not None
    assert "the provider asks to wait 14 h, until 20" in scene.pool.stopped.message
    assert len(scene.order) <= 20 + 2 * 5  # four show that it is no stray, and one more was on its way
    assert len(scene.outcomes) == 20


async def test_an_absurd_wait_of_one_row_does_not_hold_up_the_others() -> None:
    """A single row gets a Retry-After of a year each time: it fails, and the others continue."""
    scene = Scene(lambda row, attempt: PAUSE if row == 7 else Completion("a"), rules=SendingRules(3, outage_s=0.05))
    scene.retry_after_s = 3e7
    await scene.run(100)
    assert scene.pool.stopped is None
    assert [row for row, end in scene.outcomes.items() if end] == [7]


async def test_new_rows_are_sent_once_all_waiting_rows_have_finished_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """While twenty rows wait for a retry and no answer has come, no new row is sent; then all twenty finish."""
    monkeypatch.setattr(Ramp, "wait_s", lambda self, now: 0.0)
    monkeypatch.setattr(Governor, "throttled", lambda self, now, ticket, retry_after_s: None)
    first = RepeatedFailures.FIRST
    rules = SendingRules(3, row_s=0.5)
    scene = Scene(lambda row, attempt: PAUSE if row < first else Completion("a"), concurrency=64, rules=rules)
    scene.gate.clear()
    more = asyncio.Event()

    async def feed() -> AsyncIterator[list[Request]]:
        yield [Request(row, "m", 0, "h", "/p", b"", 1, None) for row in range(first)]
        await more.wait()
        yield [Request(row, "m", 0, "h", "/p", b"", 1, None) for row in range(first, first + 10)]

    running = asyncio.create_task(scene.pool.run(feed(), first))
    await until(lambda: scene.in_flight == first)
    scene.gate.set()
    await until(lambda: len(scene.order) > first)
    scene.gate.clear()
    await until(lambda: scene.in_flight == first)
    more.set()
    await asyncio.sleep(2 * rules.row_s)
    scene.gate.set()
    await asyncio.wait_for(running, 600.0)
    assert len(scene.outcomes) == first + 10


async def test_a_stop_in_the_same_loop_turn_as_a_retry_leaves_no_task(
    recwarn: pytest.WarningsRecorder,
) -> None:
    scene = Scene(lambda row, attempt: RETRY if row == 0 else Failure(FailureAction.STOP_MODEL, "no_model", "gone"))
    scene.gate.clear()
    running = asyncio.create_task(scene.run(2))
    await until(lambda: scene.in_flight == 2)
    scene.gate.set()
    await running
    assert scene.pool.stopped
    gc.collect()
    assert not recwarn.list
