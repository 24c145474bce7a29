from __future__ import annotations

import asyncio

import pytest

from batchmix.rehearsal import Behaviour
from batchmix.rehearsal.limits import RehearsalLimits, duration


def test_requests_bucket():
    limits = RehearsalLimits(Behaviour(rpm=60, burst_s=3), 0.0)
    assert [limits.admit(1, 0.0) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert limits.admit(1, 0.25) == pytest.approx(0.75)
    assert limits.admit(1, 1.0) == 0.0
    assert limits.admit(1, 1.0) == pytest.approx(1.0)
    assert [limits.admit(1, 100.0) == 0.0 for _ in range(4)] == [True, True, True, False]


def test_tokens_bucket_and_what_is_refused_takes_nothing():
    limits = RehearsalLimits(Behaviour(rpm=600, tpm=6000, burst_s=1), 0.0)
    assert limits.admit(80, 0.0) == 0.0
    assert limits.admit(50, 0.0) == pytest.approx(0.3)
    assert dict(limits.headers(0.0))["x-ratelimit-remaining-requests"] == "9"
    assert limits.admit(20, 0.0) == 0.0


def test_more_than_a_whole_bucket_waits_for_a_full_one():
    limits = RehearsalLimits(Behaviour(tpm=6000, burst_s=1), 0.0)
    assert limits.admit(10, 0.0) == 0.0
    assert limits.admit(5000, 0.0) == pytest.approx(0.1)
    assert limits.admit(5000, 0.1) == 0.0


def test_without_limits_nothing_is_throttled():
    limits = RehearsalLimits(Behaviour(), 0.0)
    assert limits.admit(10**9, 0.0) == 0.0
    assert limits.headers(0.0) == []


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0ms"), (0.012, "12ms"), (1, "1s"), (1.5, "1.5s"), (360, "6m0s"), (3661, "1h1m1s")]
)
def test_durations_are_as_go_writes_them(seconds, text):
    assert duration(seconds) == text


async def test_throttled(calling):
    async with calling("rpm=6&burst_s=20") as caller:
        response = [await caller.send() for _ in range(3)]
        kinds = [record.kind for record in caller.rehearsal.records]
    assert [one.status for one in response] == [200, 200, 429]
    assert kinds == ["answer", "answer", "throttled"]
    headers = response[2].headers
    assert headers["Retry-After"] == "10"
    assert 9000 < int(headers["retry-after-ms"]) <= 10_000
    assert headers["x-ratelimit-limit-requests"] == "6"
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert response[0].headers["x-ratelimit-remaining-requests"] == "1"
    assert response[2].error["message"].startswith("Too many requests")


@pytest.mark.parametrize("n", [1, 3])
async def test_tpm_charges_prompt_and_cap_or_the_answer_for_each_choice(calling, n):
    async with calling("tpm=1&burst_s=60000&words=40") as caller:  # room for 1,000, and almost no refill
        capped = await caller.send("Hello", max_tokens=200, n=n)
        answered = await caller.send("Hello", n=n)
        vectors = await caller.send(path="/embeddings", messages=None, input="x")
    left = [int(response.headers["x-ratelimit-remaining-tokens"]) for response in (capped, answered, vectors)]
    assert left[0] == 1000 - 9 - 200 * n
    assert left[1] == left[0] - answered.body["usage"]["total_tokens"]
    assert left[2] == left[1] - vectors.body["usage"]["total_tokens"]


async def test_rate_headers_may_be_left_out(calling):
    async with calling("rpm=1&burst_s=60&rate_headers=false") as caller:
        response = [await caller.send() for _ in range(2)]
    assert response[1].status == 429
    assert not [
        name for one in response for name in one.headers if "ratelimit" in name.lower() or "retry" in name.lower()
    ]


@pytest.mark.virtual_time(sockets=True)
async def test_concurrency(calling):
    async with calling("concurrency=3&latency=0.2") as caller:
        response = await asyncio.gather(*(caller.send(str(number)) for number in range(5)))
        assert sorted(one.status for one in response) == [200, 200, 200, 429, 429]
        assert (await caller.send()).status == 200


async def test_balance(calling):
    async with calling("balance=2&500=1&max_faults=1") as caller:
        assert [(await caller.send()).status for _ in range(4)] == [500, 200, 200, 403]
        assert (await caller.send()).error["code"] == "insufficient_user_quota"


async def test_a_balance_may_end_in_any_refusal(calling):
    async with calling("balance=1&broke=unfunded") as caller:
        response = [await caller.send() for _ in range(3)]
        records = caller.rehearsal.records
    assert [one.status for one in response] == [200, 200, 200]
    assert ["recharged" in one.content for one in response] == [False, True, True]
    assert [record.answered for record in records] == [True, False, False]
