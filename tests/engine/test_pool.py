"""The pool ends every request once, retries first, and stops in one place. A provider in memory stands in."""

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
from batchmix.records import Completion, Exchange, Failure, Outcome, Request
from tests.virtual_time import until

pytestmark = pytest.mark.virtual_time
THREE = SendingRules(3)
RETRY = Failure(FailureAction.RETRY, "server_error", "again")
PAUSE = Failure(FailureAction.PAUSE, "throttled", "slower")
REJECT = Failure(FailureAction.REJECT, "rejected", "no")


class Scene:
    """A pool, and what a request is answered, by its row and how often it was asked."""

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
            # Answers of one moment come in one turn of the loop, in the order in which their requests left.
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

    def finished(self, request: Request, failure: Failure | None) -> None:
        assert request.row not in self.outcomes, "a row ended twice"
        self.outcomes[request.row] = failure

    async def feed(self, rows: int) -> AsyncIterator[list[Request]]:
        for first in range(0, rows, 7):
            yield [
                Request(row, "m", 0, "h", self.path(row), b"", 1, None) for row in range(first, min(first + 7, rows))
            ]

    async def run(self, rows: int, workers: int = 4) -> None:
        await self.pool.run(self.feed(rows), workers)


async def test_input_that_has_come_to_its_end_limits_nothing() -> None:
    scene = Scene(lambda row, time: Completion("a"))
    scene.gate.clear()
    running = asyncio.create_task(scene.run(3, workers=4))
    for _ in range(20):
        await asyncio.sleep(0)
    assert scene.in_flight == 3
    assert scene.lane.limited_by == ""
    scene.gate.set()
    await running


async def test_each_request_ends_once_and_no_more_are_in_flight_than_workers() -> None:
    scene = Scene(lambda row, time: Completion("a"))
    await scene.run(500)
    assert scene.outcomes == dict.fromkeys(range(500))
    assert scene.most_in_flight == 4
    assert scene.lane.answers == 500
    assert scene.lane.in_flight == 0


async def test_no_rows_are_no_trouble() -> None:
    await Scene(lambda row, time: Completion("a")).run(0)


async def test_passing_trouble_costs_attempts_and_then_the_row() -> None:
    scene = Scene(lambda row, time: RETRY if row == 3 or (row == 5 and time < 3) else Completion("a"))
    await scene.run(20)
    assert scene.attempts[3] == 3
    assert scene.outcomes[3] == RETRY
    assert scene.attempts[5] == 3
    assert scene.outcomes[5] is None
    assert len(scene.outcomes) == 20


async def test_rows_that_could_not_reach_a_provider_fail_once_it_is_back_and_are_not_over_where_it_is_not() -> None:
    unsent = Failure(FailureAction.RETRY, "connection", "refused", unsent=True)
    scene = Scene(lambda row, time: unsent if row == 3 else Completion("a"), concurrency=1)
    scene.latency_s = 0.1
    await scene.run(30, workers=1)
    assert scene.outcomes == {**dict.fromkeys(range(30)), 3: unsent}
    scene = Scene(lambda row, time: unsent if row > 3 else Completion("a"), concurrency=1)
    await scene.run(6, workers=1)
    assert scene.outcomes == dict.fromkeys(range(4))
    assert scene.pool.stopped
    assert scene.pool.stopped.message == "the provider can't be reached any more: refused"


async def test_each_path_with_an_answer_takes_many_refusals() -> None:
    refused = Failure(FailureAction.REJECT, "rejected", "bad")
    for good, stops in ((1, False), (0, True)):
        scene = Scene(
            lambda row, time, good=good: Completion("a") if row <= good else refused,  # type: ignore[misc]
            concurrency=1,
            rules=SendingRules(3, has_paths=True),
        )
        scene.path = lambda row: "/b" if row else "/a"
        await scene.run(30, workers=1)
        assert bool(scene.pool.stopped) == stops


async def test_throttling_costs_no_attempt() -> None:
    scene = Scene(lambda row, time: PAUSE if time < 15 and row == 2 else Completion("a"))
    await scene.run(5)
    assert scene.attempts[2] == 15
    assert scene.outcomes == dict.fromkeys(range(5))


async def test_retries_go_ahead_of_new_rows() -> None:
    scene = Scene(lambda row, time: RETRY if row == 0 and time == 1 else Completion("a"), concurrency=1)
    scene.latency_s = 0.1
    await scene.run(100, workers=1)
    again = [place for place, row in enumerate(scene.order) if row == 0][1]
    assert again < 10


async def test_at_the_end_the_status_shows_what_the_last_rows_wait_for() -> None:
    shown: list[tuple[int, int | None, str]] = []

    def answer(row: int, time: int) -> Outcome:
        lane = scene.lane
        shown.append((len(scene.outcomes), lane.tail, lane.retrying_after))
        return RETRY if row == 5 and time < 3 else Completion("a")

    scene = Scene(answer, concurrency=1)
    await scene.run(7, workers=1)
    assert scene.lane.tail == 0
    assert shown[-1] == (6, 0, "")
    assert max(tail or 0 for _, tail, _ in shown) <= 1
    assert all(ended + (tail or 0) <= 7 for ended, tail, _ in shown)


async def test_a_stop_lets_what_is_in_flight_end_and_nothing_more_leave() -> None:
    def answer(row: int, time: int) -> Outcome:
        return Failure(FailureAction.STOP_RUN, "invalid_key", "the key") if row == 10 else Completion("a")

    scene = Scene(answer)
    await scene.run(500)
    assert "the key" in str(scene.shutdown.reason)
    assert sum(scene.attempts.values()) <= 10 + 4 + 1
    assert 10 not in scene.outcomes


async def test_a_stopped_model_stops_its_lane_only() -> None:
    scene = Scene(lambda row, time: Failure(FailureAction.STOP_MODEL, "model_retired", "gone"))
    await scene.run(100)
    assert scene.pool.stopped is not None
    assert scene.shutdown.reason is None
    assert not scene.outcomes


async def test_an_interrupt_drains_and_a_second_one_cuts() -> None:
    scene = Scene(lambda row, time: Completion("a"))
    scene.gate.clear()
    running = asyncio.create_task(scene.run(100))
    while scene.in_flight < 4:
        await asyncio.sleep(0)
    scene.shutdown.stop(Interrupted("x", 2))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not running.done()
    scene.shutdown.cutting.set()
    await running
    assert not scene.outcomes
    assert sum(scene.attempts.values()) == 4


async def test_a_retry_in_flight_at_a_stop_gets_the_answer_it_receives() -> None:
    scene = Scene(lambda row, time: RETRY if time == 1 else Completion("a"))
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
        lambda row, time: (
            RETRY if row == 0 else Failure(FailureAction.STOP_RUN, "no_balance", "x") if row > 5 else Completion("a")
        ),
        rules=SendingRules(10_000),
    )
    await scene.run(100)
    assert 0 not in scene.outcomes


async def test_an_error_in_the_log_stops_the_run_and_is_kept() -> None:
    scene = Scene(lambda row, time: Completion("a"))

    def broken(request: Request, exchange: Exchange) -> Outcome:
        raise OSError("the disk")

    scene.received = broken  # type: ignore[method-assign]
    await scene.run(100)
    assert isinstance(scene.shutdown.reason, OSError)


async def test_the_same_rejection_for_the_first_rows_stops_and_leaves_them_open() -> None:
    scene = Scene(lambda row, time: REJECT)
    await scene.run(500)
    assert scene.pool.stopped is not None
    assert "first 20" in scene.pool.stopped.message
    assert sum(scene.attempts.values()) == RepeatedFailures.FIRST
    assert not scene.outcomes


async def test_rejections_of_fewer_rows_are_their_outcomes() -> None:
    scene = Scene(lambda row, time: REJECT)
    await scene.run(RepeatedFailures.FIRST - 1)
    assert scene.outcomes == dict.fromkeys(range(RepeatedFailures.FIRST - 1), REJECT)


@pytest.mark.parametrize("kind", ["content_filter", "context_length"])
async def test_rejections_that_rows_bring_on_themselves_never_stop(kind: str) -> None:
    refusal = Failure(FailureAction.REJECT, kind, "no")
    scene = Scene(lambda row, time: refusal)
    await scene.run(100)
    assert len(scene.outcomes) == 100


async def test_one_answer_refutes_that_the_job_is_wrong() -> None:
    scene = Scene(lambda row, time: Completion("a") if row == 12 else REJECT, concurrency=1)
    await scene.run(100, workers=1)
    assert len(scene.outcomes) == 100
    assert scene.outcomes[12] is None


async def test_the_same_rejection_for_all_that_is_left_stops_and_leaves_it_open() -> None:
    scene = Scene(lambda row, time: Completion("a") if row < 50 else REJECT)
    await scene.run(2000)
    assert scene.pool.stopped is not None
    assert f"the last {RepeatedFailures.LATER} requests were all refused: no" in scene.pool.stopped.message
    assert sum(scene.attempts.values()) <= 50 + RepeatedFailures.LATER + 4
    assert scene.outcomes == dict.fromkeys(range(50))


async def test_rejected_rows_that_stand_together_keep_their_own_outcomes() -> None:
    scene = Scene(lambda row, time: REJECT if 50 <= row < 50 + RepeatedFailures.LATER - 10 else Completion("a"))
    await scene.run(2000)
    assert len(scene.outcomes) == 2000
    assert sum(failure is REJECT for failure in scene.outcomes.values()) == RepeatedFailures.LATER - 10


async def test_a_stop_says_how_much_went_well_before() -> None:
    stop = Failure(FailureAction.STOP_RUN, "invalid_key", "the key")
    scene = Scene(lambda row, time: stop if row == 30 else Completion("a"), concurrency=1)
    await scene.run(100, workers=1)
    assert str(scene.shutdown.reason) == "after 30 answers: the key"


async def test_rejections_with_other_numbers_in_them_are_the_same() -> None:
    scene = Scene(lambda row, time: Failure(FailureAction.REJECT, "rejected", f"no (tid: 2026{row:08d})"))
    await scene.run(500)
    assert scene.pool.stopped is not None


async def test_keep_going_goes_on() -> None:
    scene = Scene(lambda row, time: REJECT, rules=SendingRules(3, keep_going=True))
    await scene.run(100)
    assert len(scene.outcomes) == 100


UNKNOWN = Failure(FailureAction.RETRY, "unknown", "what?", attempts=2)


async def test_an_unknown_error_costs_fewer_attempts_and_then_the_row() -> None:
    scene = Scene(lambda row, time: UNKNOWN if row == 5 else Completion("a"), rules=SendingRules(6))
    await scene.run(30)
    assert scene.attempts[5] == 2
    assert scene.outcomes == {**dict.fromkeys(range(30)), 5: UNKNOWN}


async def test_a_known_error_after_an_unknown_one_has_all_its_attempts() -> None:
    scene = Scene(lambda row, time: UNKNOWN if row == 5 and time == 1 else RETRY if row == 5 else Completion("a"))
    await scene.run(30)
    assert (scene.attempts[5], scene.outcomes[5]) == (3, RETRY)


async def test_the_same_unknown_error_for_the_first_rows_stops_and_leaves_them_open() -> None:
    scene = Scene(lambda row, time: UNKNOWN)
    await scene.run(500)
    assert scene.pool.stopped is not None
    assert "what?" in scene.pool.stopped.message
    assert not scene.outcomes


AT_FIRST = [
    Failure(FailureAction.RETRY, "web_page", "wrong address", early_action=FailureAction.STOP_RUN),
    Failure(FailureAction.RETRY, "model_not_found", "no channel", early_action=FailureAction.STOP_MODEL),
]


@pytest.mark.parametrize("trouble", AT_FIRST)
async def test_what_stops_at_first_is_passing_trouble_after_a_good_answer(trouble: Failure) -> None:
    scene = Scene(lambda row, time: Completion("a") if row < 3 or time > 1 else trouble, concurrency=1)
    await scene.run(20, workers=1)
    assert scene.outcomes == dict.fromkeys(range(20))


@pytest.mark.parametrize("trouble", AT_FIRST)
@pytest.mark.parametrize("rows", [1, 20])
async def test_what_stops_at_first_stops_the_lane_after_a_few_and_leaves_all_rows_open(
    trouble: Failure, rows: int
) -> None:
    scene = Scene(lambda row, time: trouble, concurrency=1)
    await scene.run(rows, workers=1)
    assert scene.attempts.total() == 3
    assert not scene.outcomes
    assert scene.pool.stopped == trouble
    assert scene.shutdown.reason is None


async def test_a_few_bad_replies_at_first_decide_nothing_while_others_are_on_their_way() -> None:
    """Five of the first 64 come from a server behind the address that is broken; the others take longer."""
    scene = Scene(lambda row, time: AT_FIRST[0] if row < 5 and time == 1 else Completion("a"), concurrency=64)
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


async def test_answers_of_another_lane_or_an_earlier_start_speak_for_the_address() -> None:
    rules = SendingRules(3, run_status=RunStatus(lanes=[LaneStatus("other", ok=1)]))
    scene = Scene(lambda row, time: AT_FIRST[0] if time < 3 else Completion("a"), rules=rules)
    await scene.run(8)
    assert scene.outcomes == dict.fromkeys(range(8))


async def test_where_no_reply_ever_came_nothing_is_over() -> None:
    silent = Failure(FailureAction.RETRY, "timeout", "nothing came", maybe_billed=True)
    scene = Scene(lambda row, time: silent, rules=SendingRules(3))
    scene.status = None
    await scene.run(5)
    assert scene.attempts == dict.fromkeys(range(5), 3)
    assert not scene.outcomes
    assert scene.pool.stopped is not None
    assert scene.pool.stopped.message == "the provider never answered: nothing came"


async def test_a_missing_path_stops_its_requests_and_nothing_else() -> None:
    """Every third row goes there; what has left already may come back as it will."""
    gone = Failure(FailureAction.STOP_PATH, "not_offered", "no such endpoint")
    missing = Failure(FailureAction.RETRY, "not_found", "404", attempts=1)
    for failure, most in ((gone, 8), (missing, RepeatedFailures.FIRST + 8)):
        scene = Scene(
            lambda row, time, failure=failure: Completion("a") if row % 3 else failure,  # type: ignore[misc]
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


async def test_a_lane_of_one_path_is_stopped_with_it() -> None:
    scene = Scene(lambda row, time: Failure(FailureAction.STOP_PATH, "not_offered", "no such endpoint"))
    await scene.run(900)
    assert len(scene.order) <= 4
    assert not scene.outcomes
    assert scene.pool.stopped is not None


LONG_S = 50_000.0


async def test_too_long_a_wait_is_tried_once_more_and_then_stops_the_lane() -> None:
    scene = Scene(lambda row, time: PAUSE if row >= 20 else Completion("a"), rules=SendingRules(3, outage_s=0.05))
    scene.retry_after_s = LONG_S
    await scene.run(100)
    assert scene.pool.stopped is not None
    assert "the provider asks to wait 14 h, until 20" in scene.pool.stopped.message
    assert len(scene.order) <= 20 + 2 * 4
    assert len(scene.outcomes) == 20


async def test_one_absurd_wait_holds_nobody_up() -> None:
    """A single row is told to come back in a year, again and again: it ends, and the others go on."""
    scene = Scene(lambda row, time: PAUSE if row == 7 else Completion("a"), rules=SendingRules(3, outage_s=0.05))
    scene.retry_after_s = 3e7
    await scene.run(100)
    assert scene.pool.stopped is None
    assert [row for row, end in scene.outcomes.items() if end] == [7]


async def test_rows_that_wait_and_all_end_at_once_let_the_others_leave() -> None:
    """No new row may leave while twenty wait to be asked again and nothing good has come; then all twenty end."""
    first = RepeatedFailures.FIRST
    rules = SendingRules(3, row_s=0.5)
    scene = Scene(lambda row, time: PAUSE if row < first else Completion("a"), concurrency=64, rules=rules)
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


async def test_a_stop_in_the_turn_in_which_a_retry_began_leaves_nothing_behind(
    recwarn: pytest.WarningsRecorder,
) -> None:
    scene = Scene(lambda row, time: RETRY if row == 0 else Failure(FailureAction.STOP_MODEL, "no_model", "gone"))
    scene.gate.clear()
    running = asyncio.create_task(scene.run(2))
    await until(lambda: scene.in_flight == 2)
    scene.gate.set()
    await running
    assert scene.pool.stopped
    gc.collect()
    assert not recwarn.list
