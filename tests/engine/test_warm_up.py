"""The first request with a long prefix is sent alone, and the others once its answer has ended. Time is simulated."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import msgspec
import pytest

from batchmix.engine.outcomes import SendingRules
from batchmix.engine.prefixes import PrefixTree
from batchmix.engine.retries import OpenRequest
from batchmix.engine.warm_up import WarmUp
from batchmix.errors import FailureAction, Interrupted
from batchmix.job import Cache as CacheSettings
from batchmix.records import Bottleneck, Completion, Exchange, Failure, InvalidAnswer, Outcome, Request, Usage
from tests.engine.test_pool import Scene
from tests.virtual_time import until

pytestmark = [pytest.mark.virtual_time, pytest.mark.usefixtures("all_at_once")]
BLOCK = 5000
PREFIXES = [bytes([letter]) * BLOCK for letter in b"abcdefghijklmnopqrstuvwxyz"]
REFUSED = Failure(FailureAction.REJECT, "rejected", "no")
AGAIN = Failure(FailureAction.RETRY, "server_error", "again")


class Cache(Scene):
    """A pool whose provider has a prompt cache: a prefix can be read once an answer to a request with it has ended.

    It is read in blocks of 5,000 bytes.
    """

    def __init__(
        self,
        *,
        prefix_of: Callable[[int], bytes] = lambda row: PREFIXES[0],
        outcome: Callable[[int, int, Usage], Outcome] = lambda row, attempt, usage: Completion("a", usage=usage),
        wait_s: float = 8.0,
        latency_s: Callable[[int], float] = lambda row: 1.0,
        in_flight: int = 64,
        lag_s: float = 0.0,
    ) -> None:
        rules = SendingRules(3, prefixes=PrefixTree("m"), cache=CacheSettings(wait_s=wait_s))
        super().__init__(
            lambda row, attempt: outcome(row, attempt, self.usage(row)), concurrency=in_flight, rules=rules
        )
        self._latency_s = latency_s
        self.prefix_of = prefix_of
        self.lag_s = lag_s
        self.reads: dict[int, bool] = {}
        """By row, whether its last request could read its prefix from the cache when it was sent."""
        self.sent_at: dict[int, float] = {}
        self.ended_at = 0.0
        self._cached: dict[bytes, float] = {}
        self._read: dict[int, int] = {}

    def usage(self, row: int) -> Usage:
        """Return the usage that reports what was read from the cache."""
        tokens = len(self.prefix_of(row)) // 4 + 50
        return Usage(tokens, 10, tokens + 10, cached_tokens=self._read[row] // 4)

    @property
    def misses(self) -> int:
        """How many rows paid the full price."""
        return list(self.reads.values()).count(False)

    async def post(self, request: Request) -> Exchange:
        self.latency_s = self._latency_s(request.row)
        now, prefix = asyncio.get_running_loop().time(), self.prefix_of(request.row)
        self.sent_at.setdefault(request.row, now)
        blocks = [prefix[:end] for end in range(BLOCK, len(prefix) + 1, BLOCK)]
        read = max((len(block) for block in blocks if self._cached.get(block, now + 1) <= now), default=0)
        self._read[request.row] = read
        self.reads[request.row] = bool(blocks) and read == len(blocks[-1])
        exchange = await super().post(request)
        self.ended_at = asyncio.get_running_loop().time()
        if isinstance(self._last_outcomes[request.row], Completion | InvalidAnswer):
            for block in blocks:
                self._cached.setdefault(block, self.ended_at + self.lag_s)
        return exchange

    async def feed(self, rows: int):  # type: ignore[no-untyped-def]
        async for batch in super().feed(rows):
            yield [
                msgspec.structs.replace(one, body=self.prefix_of(one.row) + b"question %d" % one.row) for one in batch
            ]

    async def run(self, rows: int, workers: int = 64) -> None:
        await super().run(rows, workers)


async def test_one_row_pays_for_the_prefix_and_all_others_read_it() -> None:
    scene = Cache()
    await scene.run(500)
    assert scene.outcomes == dict.fromkeys(range(500))
    assert scene.misses == 1
    at_once = Cache(wait_s=0)
    await at_once.run(500)
    assert at_once.misses == 64
    assert scene.ended_at - at_once.ended_at < 2.5


async def test_each_group_of_rows_has_its_own_first() -> None:
    scene = Cache(prefix_of=lambda row: PREFIXES[row % 10])
    await scene.run(500)
    assert scene.outcomes == dict.fromkeys(range(500))
    assert scene.misses == 10
    assert scene.ended_at < 11


async def test_groups_in_blocks_keep_all_places_busy() -> None:
    scene = Cache(prefix_of=lambda row: PREFIXES[row // 100])
    await scene.run(2000)
    assert scene.misses == 20
    assert scene.ended_at < 2000 / 64 + 6


async def test_many_places_are_busy_although_most_rows_that_are_read_wait() -> None:
    draw = random.Random(0)
    groups = Cache(
        prefix_of=lambda row: PREFIXES[row // 120], in_flight=256, latency_s=lambda row: draw.uniform(0.6, 1.4)
    )
    await groups.run(3000, workers=256)
    assert groups.misses == 25
    assert groups.ended_at < 3000 / 256 + 5


async def test_a_lane_that_often_has_nothing_else_to_send_does_not_wait_for_each_answer() -> None:
    began, times = 0.0, []
    for wait_s in (8.0, 0.0):
        scene = Cache(
            prefix_of=lambda row: PREFIXES[row // 200],
            wait_s=wait_s,
            latency_s=lambda row: 4.0 if row % 200 == 0 else 0.1,
        )
        await scene.run(200 * 26)
        times.append(scene.ended_at - began)
        began = scene.ended_at
    assert times[0] - times[1] < 10


async def test_each_level_of_prefixes_is_waited_for() -> None:
    scene = Cache(prefix_of=lambda row: PREFIXES[0] + PREFIXES[1 + row % 3])
    await scene.run(63)
    waves = [sorted(row for row in range(63) if scene.sent_at[row] == pytest.approx(second)) for second in range(4)]
    second_document = list(range(4, 63, 3))  # its first row was the second to read the prefix of all documents
    assert waves == [[0], [1], sorted([2, 3, *second_document]), sorted({*range(5, 63)} - {*second_document})]


async def test_short_prompts_do_not_wait() -> None:
    scene = Cache(prefix_of=lambda row: b"short")
    await scene.run(500)
    assert scene.sent_at[63] == 0


async def test_a_cache_that_lags_is_waited_for() -> None:
    scene = Cache(lag_s=0.5, prefix_of=lambda row: PREFIXES[row // 250])
    await scene.run(500)
    assert scene.misses == 4


async def test_nothing_waits_once_answers_show_no_cache() -> None:
    def outcome(row: int, attempt: int, usage: Usage) -> Outcome:
        return Completion("a", usage=msgspec.structs.replace(usage, cached_tokens=0))

    scene = Cache(outcome=outcome, prefix_of=lambda row: PREFIXES[row // 100])
    await scene.run(500)
    assert scene.ended_at < 3 + 500 / 64 + 2


async def test_nothing_waits_after_an_answer_that_does_not_report_cached_tokens() -> None:
    scene = Cache(outcome=lambda row, attempt, _: Completion("a", usage=Usage(1300, 10, 1310)))
    await scene.run(200)
    assert scene.sent_at[1] == pytest.approx(1.0)
    assert scene.sent_at[64] == pytest.approx(1.0)


async def test_no_row_waits_longer_than_it_may() -> None:
    scene = Cache(latency_s=lambda row: 100.0)
    await scene.run(64)
    assert max(scene.sent_at.values()) == pytest.approx(8.0)
    scene, began = (
        Cache(latency_s=lambda row: 5.0),
        scene.ended_at,
    )  # the first answer comes in time, and the second does not
    await scene.run(64)
    assert max(scene.sent_at.values()) == pytest.approx(began + 8.0)
    assert scene.misses == 1


async def test_after_a_first_row_that_fails_the_next_one_leads() -> None:
    scene = Cache(outcome=lambda row, attempt, usage: REFUSED if row < 2 else Completion("a", usage=usage))
    await scene.run(200)
    assert scene.outcomes == {**dict.fromkeys(range(200)), 0: REFUSED, 1: REFUSED}
    assert scene.misses == 3
    assert max(scene.sent_at[row] for row in range(60)) == pytest.approx(4.0)


async def test_rows_that_all_fail_are_not_sent_one_after_another() -> None:
    scene = Cache(outcome=lambda row, attempt, usage: AGAIN)
    await scene.run(60)
    assert max(scene.sent_at.values()) < 20
    assert all(scene.attempts[row] >= 1 for row in range(60)) or scene.pool.stopped


async def test_a_row_that_is_sent_again_can_lead() -> None:
    scene = Cache(
        outcome=lambda row, attempt, usage: AGAIN if attempt == 1 and row < 5 else Completion("a", usage=usage)
    )
    await scene.run(200)
    assert scene.outcomes == dict.fromkeys(range(200))
    assert scene.misses < 6


async def test_an_expired_prefix_is_warmed_again() -> None:
    scene = Cache(wait_s=8.0)
    running = asyncio.create_task(scene.run(64 * 8, workers=64))
    await until(lambda: len(scene.outcomes) >= 64)
    scene.gate.clear()  # the provider hangs for an hour
    await asyncio.sleep(3600)
    scene._cached.clear()
    before = scene.misses
    scene.gate.set()
    await running
    assert scene.misses - before <= 1


async def test_an_interrupt_while_rows_wait_ends_the_run() -> None:
    scene = Cache(latency_s=lambda row: 3.0)
    running = asyncio.create_task(scene.run(500))
    await until(lambda: scene.in_flight == 1)
    assert scene.lane.limited_by is Bottleneck.CACHE
    scene.shutdown.stop(Interrupted("stop", 2))
    await running
    assert len(scene.outcomes) == 1


async def test_more_samples_than_places_wait_without_reading_the_whole_input() -> None:
    scene = Cache(prefix_of=lambda row: b"%08d" % (row // 8) * 700)
    await scene.run(4000)
    assert scene.misses == 500
    assert scene.ended_at < 4000 / 64 * 1.15 + 4


async def test_a_row_that_is_held_back_again_still_leaves_in_time() -> None:
    released: list[OpenRequest] = []
    loop, warm_up, tree = asyncio.get_running_loop(), WarmUp(8.0, released.extend), PrefixTree("m")
    items = [OpenRequest(Request(row, "m", 0, "h", "/p", PREFIXES[0] + b"%d" % row, 1, None)) for row in range(4)]
    for item in items:
        item.prefix = tree.add(item.request.body)
    first, second, third, fourth = items
    warm_up.sent(loop.time(), first)
    assert warm_up.holds(loop.time(), second)
    await asyncio.sleep(1)
    assert warm_up.holds(loop.time(), third)
    await asyncio.sleep(6.5)
    usage = Usage(1300, 1, 1301, cached_tokens=0)
    assert warm_up.returned(loop.time(), first, Completion("a", usage=usage)) == [second, third]
    await asyncio.sleep(0.7)  # both wait for a place, while the time of the second one has come
    assert not warm_up.holds(loop.time(), second)
    warm_up.sent(loop.time(), fourth)
    assert warm_up.holds(loop.time(), third)
    await asyncio.sleep(1)
    assert released == [third]
    assert warm_up.held == 0
