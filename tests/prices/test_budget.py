"""A budget is used, and exceeded only by what the requests in flight were underestimated."""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import AsyncIterator

import msgspec
import pytest

from batchmix.engine.outcomes import SendingRules
from batchmix.engine.pool import Pool
from batchmix.engine.run_status import LaneStatus
from batchmix.engine.shutdown import Shutdown
from batchmix.errors import BudgetSpent, FailureAction
from batchmix.job import Budget, Limits, Price
from batchmix.prices.budget import LaneBudget, RunBudget
from batchmix.prices.cost import Prices
from batchmix.records import Completion, Exchange, Failure, Outcome, Request, Usage
from tests.polling import WITHIN_S

PRICES = Prices({"m": Price(1.0, 4.0)}, ())
HEARD = Exchange(0, 0, 0.0, 200)


def request(row: int, prompt: int = 100, most: int | None = None) -> Request:
    return Request(row, "m", 0, "h", "/p", b"", prompt, most)


def answer(prompt: int, completion: int) -> Completion:
    return Completion("a", usage=Usage(prompt, completion, prompt + completion))


class Stops:
    """Records why it was stopped."""

    def __init__(self) -> None:
        self.reason: BudgetSpent | None = None

    def __call__(self, reason: BudgetSpent) -> None:
        self.reason = self.reason or reason


def test_cache_writes_are_reserved_at_their_price_until_answers_report_them() -> None:
    lane = LaneBudget(RunBudget(Budget(), (0.0, 0.0), Stops()), "m", Prices({"m": Price(1, 0, cache_write=1.25)}, ()))
    item = request(0, 1000, 10)
    assert lane.estimate(item)[0] == pytest.approx(1000 * 1.25 / 1e6)
    for row in range(200):
        earlier = request(row, 1000, 10)
        assert lane.admits(earlier, lambda: None)
        lane.settle(earlier, HEARD, Completion(usage=Usage(1000, 1, 1001)))
    assert lane.estimate(item)[0] == pytest.approx(1000 / 1e6, rel=0.02)


def simulate(budget: Budget, seed: int, most: int | None) -> tuple[RunBudget, float, float]:
    """Send until the budget stops it, 500 at a time.

    Returns the budget, and by how many USD and tokens those in flight after the last admission were underestimated.
    """
    rng = random.Random(seed)
    sigma = rng.uniform(0.3, 1.5)
    stops = Stops()
    budget = RunBudget(budget, (0.0, 0.0), stops)
    lane = LaneBudget(budget, "m", PRICES)
    flying: list[tuple[float, int, Request, int, float, float]] = []
    under_usd = under_tokens = 0.0
    at_last = (0.0, 0.0)
    now, row = 0.0, 0
    while stops.reason is None:
        while len(flying) < 500:
            item = request(row, rng.randint(50, 400), most)
            held_usd, held_tokens = lane.estimate(item)
            if not lane.admits(item, lambda: None):
                break
            completion_tokens = max(1, int(rng.lognormvariate(5, sigma)))
            completion_tokens = completion_tokens if most is None else min(completion_tokens, most)
            prompt = int(item.prompt_tokens * 1.1)
            less_usd = max(0.0, (prompt * 1.0 + completion_tokens * 4.0) / 1e6 - held_usd)
            less_tokens = max(0.0, prompt + completion_tokens - held_tokens)
            heapq.heappush(
                flying, (now + 0.1 + completion_tokens * 0.015, row, item, completion_tokens, less_usd, less_tokens)
            )
            under_usd, under_tokens = under_usd + less_usd, under_tokens + less_tokens
            at_last = (under_usd, under_tokens)
            row += 1
        if flying:
            now, _, item, completion_tokens, less_usd, less_tokens = heapq.heappop(flying)
            under_usd, under_tokens = under_usd - less_usd, under_tokens - less_tokens
            lane.settle(item, HEARD, answer(int(item.prompt_tokens * 1.1), completion_tokens))
    assert not flying
    return budget, *at_last


@pytest.mark.parametrize("seed", range(20))
def test_a_budget_in_usd_is_used_and_kept(seed: int) -> None:
    budget, under_usd, _ = simulate(Budget(max_usd=5.0), seed, (None, 4096, 500)[seed % 3])
    assert 0.9 * 5.0 <= budget.spent[0] <= 5.0 + under_usd + 1e-9


@pytest.mark.parametrize("seed", range(20))
def test_a_budget_in_tokens_is_used_and_kept(seed: int) -> None:
    budget, _, under_tokens = simulate(Budget(max_tokens=2_000_000), seed, (None, 4096, 500)[seed % 3])
    assert 0.9 * 2e6 <= budget.spent[1] <= 2e6 + under_tokens + 1e-6


def test_maybe_billed_attempts_count_at_their_estimate_usage_at_its_price_and_refusals_at_nothing() -> None:
    budget = RunBudget(Budget(max_usd=1.0), (0.0, 0.0), Stops())
    lane = LaneBudget(budget, "m", PRICES)
    lost = msgspec.structs.replace(HEARD, status=None, maybe_billed=True)
    trouble = Failure(FailureAction.RETRY, "timeout", "x")
    billed = Failure(FailureAction.RETRY, "bad_answer", "x", usage=Usage(50, 5))
    for row, (exchange, outcome) in enumerate([(lost, trouble), (None, None), (HEARD, trouble), (HEARD, billed)]):
        lane.admits(request(row, 100, 10), lambda: None)
        lane.settle(request(row, 100, 10), exchange, outcome)
    assert budget.spent == pytest.approx((2 * 140e-6 + 70e-6, 2 * 110.0 + 55.0))
    assert budget.reserved == (0.0, 0.0)


def test_a_request_that_does_not_fit_waits_for_what_is_in_flight() -> None:
    stops = Stops()
    woken: list[str] = []
    budget = RunBudget(Budget(max_tokens=150), (0.0, 0.0), stops)
    one, other = LaneBudget(budget, "m", PRICES), LaneBudget(budget, "n", PRICES)
    assert one.admits(request(0, 50, 50), lambda: None)
    assert not other.admits(request(1, 50, 50), lambda: woken.append("other"))
    assert not woken
    one.settle(request(0, 50, 50), HEARD, answer(50, 10))
    assert woken == ["other"]
    assert not other.admits(request(1, 50, 50), lambda: None)
    assert stops.reason is not None
    assert "60 of 150 tokens" in str(stops.reason)


class Answers:
    """A provider in memory with a log of its requests."""

    def __init__(self) -> None:
        self.received_rows: list[int] = []

    async def post(self, request: Request) -> Exchange:
        await asyncio.sleep(0)
        return HEARD

    def sent(self, request: Request, at_ms: int) -> None:
        pass

    def received(self, request: Request, exchange: Exchange) -> Outcome:
        self.received_rows.append(request.row)
        return answer(100, 50)

    def finished(self, request: Request, failure: Failure | None) -> None:
        pass


async def _feed(rows: int) -> AsyncIterator[list[Request]]:
    for row in range(rows):
        yield [request(row, 100, 50)]


async def test_pools_share_a_budget_and_stop_when_it_is_spent() -> None:
    shutdown = Shutdown(5.0)
    budget = RunBudget(Budget(max_tokens=15_000), (0.0, 0.0), shutdown.stop)
    logs = [Answers(), Answers()]
    pools = []
    for log in logs:
        rules = SendingRules(3, Limits(concurrency=16), budget=LaneBudget(budget, "m", PRICES))
        pools.append(Pool(log, log, shutdown, LaneStatus("m"), rules).run(_feed(90), 16))
    async with asyncio.timeout(WITHIN_S):
        await asyncio.gather(*pools)
    assert isinstance(shutdown.reason, BudgetSpent)
    assert sum(len(log.received_rows) for log in logs) == 100
