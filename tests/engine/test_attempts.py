"""How long a row waits between its attempts."""

from __future__ import annotations

import pytest

from batchmix.engine.attempts import Outcome, RowAttempts, retried
from batchmix.errors import FailureAction
from batchmix.records import Completion, Exchange, Failure

RETRY = Failure(FailureAction.RETRY, "server_error", "again")
PAUSE = Failure(FailureAction.PAUSE, "throttled", "slower")


async def waits(failure: Failure, times: int, retry_after_s: float | None = None) -> list[float]:
    """Return how long a row waits that fails so often before it is answered."""
    tries, waited = RowAttempts(1000), list[float]()

    def fail() -> Failure:
        tries.note(failure, Exchange(0, 0, 0.1, 503, retry_after_s=retry_after_s))
        return failure

    async def again() -> Outcome:
        return Completion("a") if len(waited) == times else fail()

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    assert await retried(fail(), again, tries, sleep) == Completion("a")
    return waited


async def test_after_trouble_the_waits_grow_up_to_a_minute() -> None:
    found = await waits(RETRY, 300)
    assert found[0] <= 0.5
    assert 50 < max(found) <= 60
    assert min(found) >= 0.25


async def test_a_throttled_row_waits_for_as_long_as_it_was_asked_to() -> None:
    assert await waits(PAUSE, 20, retry_after_s=7.5) == [7.5] * 20


async def test_a_throttled_row_that_was_told_nothing_does_not_outlast_the_pause_of_all() -> None:
    """However often it was refused: who paces the requests is the governor."""
    assert 3 < max(await waits(PAUSE, 200)) <= 5


@pytest.mark.parametrize("asked", [0.01, 30.0])
async def test_trouble_that_says_when_to_come_back_waits_at_least_so_long(asked: float) -> None:
    assert min(await waits(RETRY, 20, retry_after_s=asked)) >= asked
