"""How long a row waits between its attempts, and the queue in which it waits."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchmix.engine.retries import OpenRequest, RetryBucket, RetryQueue, RowAttempts, next_wait
from batchmix.engine.run_status import LaneStatus
from batchmix.errors import FailureAction
from batchmix.records import Exchange, Failure, Request

RETRY = Failure(FailureAction.RETRY, "server_error", "again")
PAUSE = Failure(FailureAction.PAUSE, "throttled", "slower")


def waits(failure: Failure, times: int, retry_after_s: float | None = None) -> list[float]:
    """Return the waits of a row that fails this many times."""
    attempts, waited = RowAttempts(1000), list[float]()
    for _ in range(times):
        attempts.count(failure, Exchange(0, 0, 0.1, 503, retry_after_s=retry_after_s))
        wait_s = next_wait(attempts, failure, sum(waited))
        assert wait_s is not None
        attempts.count_wait(failure, wait_s)
        waited.append(wait_s)
    return waited


def test_waits_after_errors_grow_up_to_a_minute() -> None:
    found = waits(RETRY, 300)
    assert found[0] <= 0.5
    assert 50 < max(found) <= 60
    assert min(found) >= 0.25


def test_a_throttled_row_waits_as_long_as_its_retry_after() -> None:
    assert waits(PAUSE, 20, retry_after_s=7.5) == [7.5] * 20


def test_a_throttled_row_without_a_retry_after_waits_at_most_five_seconds() -> None:
    """However often it was throttled: the governor paces the requests."""
    assert 3 < max(waits(PAUSE, 200)) <= 5


@pytest.mark.parametrize("requested", [0.01, 30.0])
def test_an_error_with_a_retry_after_waits_at_least_that_long(requested: float) -> None:
    assert min(waits(RETRY, 20, retry_after_s=requested)) >= requested


def test_a_row_is_given_up_after_its_attempts_its_time_or_an_hour_of_throttling() -> None:
    def attempts_until_given_up(attempts: RowAttempts, failure: Failure, each_s: float = 1.0) -> int:
        for count in range(1, 1000):
            attempts.count(failure, Exchange(0, 0, 0.1, 503, retry_after_s=400.0 if failure is PAUSE else None))
            wait_s = next_wait(attempts, failure, count * each_s)
            if wait_s is None:
                return count
            attempts.count_wait(failure, wait_s)
        raise AssertionError("never given up")

    assert attempts_until_given_up(RowAttempts(6), RETRY) == 6
    assert attempts_until_given_up(RowAttempts(6, until=3.0), RETRY) == 3
    assert attempts_until_given_up(RowAttempts(1), PAUSE) == 9
    assert attempts_until_given_up(RowAttempts(6, longest_s=300.0), PAUSE) == 2, "each wait is too long"


def test_deciding_on_a_wait_changes_nothing() -> None:
    """The wait is counted once the row is queued for it."""
    attempts = RowAttempts(6)
    attempts.count(PAUSE, Exchange(0, 0, 0.1, 429, retry_after_s=7.0))
    assert [next_wait(attempts, PAUSE, 0.0) for _ in range(3)] == [7.0] * 3
    assert attempts.throttled_s == 0
    attempts.count_wait(PAUSE, 7.0)
    attempts.count_wait(RETRY, 5.0)
    assert attempts.throttled_s == 7.0


class Queue:
    """A queue with failed rows, and when each became due."""

    def __init__(self) -> None:
        self.status = LaneStatus("m")
        self.due_at: list[tuple[int, float]] = []
        self.retries = RetryQueue(self.status, self.take)

    def take(self) -> None:
        now = asyncio.get_running_loop().time()
        while self.retries.due:
            self.due_at.append((self.retries.due.popleft().request.row, now))

    def fail(self, row: int, after_s: float, *, path: str = "/p", failure: Failure = PAUSE) -> OpenRequest:
        item = OpenRequest(Request(row, "m", 0, "h", path, b"", 1, None))
        item.attempts = RowAttempts(3)
        item.attempts.count(failure, Exchange(0, 0, 0.1, 503, retry_after_s=after_s))
        assert self.retries.add(item, failure, 0)
        return item


@pytest.mark.virtual_time
async def test_rows_become_due_in_the_order_of_their_times() -> None:
    queue = Queue()
    for row, after_s in enumerate((30.0, 10.0, 20.0, 10.0)):
        queue.fail(row, after_s)
    assert queue.status.retrying == 4
    assert queue.retries.reasons == ["503"] * 4
    await asyncio.sleep(15.0)
    queue.fail(4, 1.0)
    await asyncio.sleep(100.0)
    assert queue.due_at == [(1, 10.0), (3, 10.0), (4, 16.0), (2, 20.0), (0, 30.0)]
    assert queue.status.retrying == 5, "they have no outcome yet"
    assert queue.retries.reasons == []


@pytest.mark.virtual_time
async def test_dropping_a_path_removes_its_waiting_and_due_rows_only() -> None:
    queue = Queue()
    queue.retries._on_due = lambda: None
    for row, (after_s, path) in enumerate(((1.0, "/a"), (1.0, "/b"), (5.0, "/a"), (6.0, "/b"))):
        queue.fail(row, after_s, path=path)
    await asyncio.sleep(2.0)
    assert sorted(request.row for request in queue.retries.drop("/a")) == [0, 2]
    assert queue.status.retrying == 2
    await asyncio.sleep(10.0)
    assert [item.request.row for item in queue.retries.due] == [1, 3]


@pytest.mark.virtual_time
async def test_clear_removes_all_rows_and_remove_only_one() -> None:
    queue = Queue()
    item = queue.fail(0, 1.0)
    queue.fail(1, 1.0)
    queue.retries.remove(item)
    assert queue.status.retrying == 1
    queue.retries.clear()
    await asyncio.sleep(10.0)
    assert (queue.due_at, queue.status.retrying) == ([], 0)


@pytest.mark.virtual_time
async def test_the_retry_bucket_spreads_retries_after_errors_but_not_throttled_ones() -> None:
    for failure, last in ((RETRY, 20.0), (PAUSE, 1.0)):
        queue, begun = Queue(), asyncio.get_running_loop().time()
        for row in range(300):
            queue.fail(row, 1.0, failure=failure)
        await asyncio.sleep(100.0)
        assert len(queue.due_at) == 300
        assert queue.due_at[-1][1] - begun == pytest.approx(last)


@given(st.lists(st.floats(0, 0.5), max_size=300))
def test_the_retry_bucket_allows_a_quarter_of_all_requests_and_ten_a_second(gaps: list[float]) -> None:
    bucket, now = RetryBucket(0.0), 0.0
    sent_at = []
    for sent, gap in enumerate(gaps):
        now += gap
        sent_at.append(now + bucket.wait_s(now, sent + 1))
    for at in sent_at:
        assert sum(earlier <= at for earlier in sent_at) <= 100 + 10 * at + 0.25 * len(sent_at) + 1
