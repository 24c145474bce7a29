from __future__ import annotations

import asyncio

import pytest

from batchmix.rehearsal import Behaviour
from batchmix.rehearsal.limits import RehearsalLimits, duration
from batchmix.rehearsal.option_values import Limit


def admitted(limits, now, **charges):
    """Charge a request: one request, and tokens."""
    return limits.admit(now, lambda unit: {"requests": 1, **charges}[unit])


def test_requests_bucket():
    limits = RehearsalLimits(Behaviour(rpm=60, burst_s=3), 0.0)
    assert [admitted(limits, 0.0, tokens=1) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert admitted(limits, 0.25, tokens=1) == pytest.approx(0.75)
    assert admitted(limits, 1.0, tokens=1) == 0.0
    assert admitted(limits, 1.0, tokens=1) == pytest.approx(1.0)
    assert [admitted(limits, 100.0, tokens=1) == 0.0 for _ in range(4)] == [True, True, True, False]


def test_tokens_bucket_and_what_is_refused_takes_nothing():
    limits = RehearsalLimits(Behaviour(rpm=600, tpm=6000, burst_s=1), 0.0)
    assert admitted(limits, 0.0, tokens=80) == 0.0
    assert admitted(limits, 0.0, tokens=50) == pytest.approx(0.3)
    assert dict(limits.headers(0.0))["x-ratelimit-remaining-requests"] == "9"
    assert admitted(limits, 0.0, tokens=20) == 0.0


def test_more_than_a_whole_bucket_waits_for_a_full_one():
    limits = RehearsalLimits(Behaviour(tpm=6000, burst_s=1), 0.0)
    assert admitted(limits, 0.0, tokens=10) == 0.0
    assert admitted(limits, 0.0, tokens=5000) == pytest.approx(0.1)
    assert admitted(limits, 0.1, tokens=5000) == 0.0


def test_without_limits_nothing_is_throttled():
    limits = RehearsalLimits(Behaviour(), 0.0)
    assert admitted(limits, 0.0, tokens=10**9) == 0.0
    assert limits.headers(0.0) == []


@pytest.mark.parametrize(
    ("window", "waits"),
    [
        ("bucket", [(0, 0), (0, 0), (0, 0), (1, 4), (6, 0), (6, 4)]),
        ("fixed", [(2, 0), (3, 0), (4, 0), (12, 3), (15, 0), (40, 0), (40, 0), (40, 0), (41, 4)]),
        ("first", [(2, 0), (3, 0), (4, 0), (12, 5), (18, 0), (18, 0), (18, 0), (20, 13)]),
        ("sliding", [(2, 0), (3, 0), (4, 0), (12, 5), (17, 0), (17, 1), (18, 0), (18, 1)]),
    ],
)
def test_three_requests_in_fifteen_seconds_by_each_kind_of_window(window, waits):
    limits = RehearsalLimits(Behaviour(limit=(Limit(3, "requests", 15, window),)), 0.0)
    assert [(now, admitted(limits, now)) for now, _ in waits] == [(now, pytest.approx(wait)) for now, wait in waits]


def test_several_limits_at_once_and_what_one_refuses_takes_nothing_from_the_others():
    limits = RehearsalLimits(Behaviour.parse("limit=2:requests:1:sliding,100:input_tokens:60:fixed"), 0.0)
    assert admitted(limits, 0.0, input_tokens=60) == 0
    assert admitted(limits, 0.5, input_tokens=60) == pytest.approx(59.5)
    assert admitted(limits, 0.5, input_tokens=30) == 0
    assert admitted(limits, 0.5, input_tokens=5) == pytest.approx(0.5)
    assert admitted(limits, 1.0, input_tokens=5) == 0
    assert limits.headers(60.0) == [
        ("x-ratelimit-limit-requests", "2"), ("x-ratelimit-remaining-requests", "2"), ("x-ratelimit-reset-requests", "0ms"),
        ("x-ratelimit-limit-input-tokens", "100"), ("x-ratelimit-remaining-input-tokens", "100"), ("x-ratelimit-reset-input-tokens", "1m0s"),
    ]  # fmt: skip


@pytest.mark.parametrize(("unit", "charged"), [("tokens", 9 + 100), ("used_tokens", 9 + 100), ("input_tokens", 9)])
async def test_units_of_tokens(calling, unit, charged):
    async with calling(f"limit=1000:{unit}:86400&words=2000") as caller:
        response = await caller.send("Hello", max_tokens=100)
        name = unit.removeprefix("used_").replace("_", "-")
        assert int(response.headers[f"x-ratelimit-remaining-{name}"]) == 1000 - charged


async def test_max_tokens_count_only_where_they_are_reserved(calling):
    async with calling("limit=1000:tokens:86400,5000:used_tokens:86400&words=2") as caller:
        headers = (await caller.send("Hello", max_tokens=900)).headers
        assert int(headers["x-ratelimit-remaining-tokens"]) == 1000 - 9 - 900
        refused = await caller.send("Hello", max_tokens=900)
        assert (refused.status, (await caller.send("Hello", max_tokens=10)).status) == (429, 200)


async def test_limit_headers_without_a_reset(calling):
    async with calling("limit=2:requests:60:fixed&reset_headers=false") as caller:
        headers = (await caller.send()).headers
    assert headers["x-ratelimit-remaining-requests"] == "1"
    assert "x-ratelimit-reset-requests" not in headers


@pytest.mark.parametrize(
    ("refusal", "status", "waits"),
    [
        ("throttled", 429, {"Retry-After": "10", "retry-after-ms": "10000"}),
        ("429_seconds", 429, {"Retry-After": "10"}),
        ("429_ms", 429, {"retry-after-ms": "10000"}),
        ("429_bare", 429, {}),
        ("503_page", 503, {}),
    ],
)
@pytest.mark.virtual_time(sockets=True)
async def test_a_limit_refuses_with_any_kind_of_reply_and_at_once(calling, refusal, status, waits):
    async with calling(f"limit=1:requests:10:first&latency=5&refuse_with={refusal}") as caller:
        response = [await caller.send()]
        answered_at = asyncio.get_running_loop().time()
        response.append(await caller.send())
        assert asyncio.get_running_loop().time() < answered_at + 1
        records = caller.rehearsal.records
    assert [one.status for one in response] == [200, status]
    assert records[1].kind == refusal
    found = {
        name: response[1].headers[name] for name in ("Retry-After", "retry-after-ms") if name in response[1].headers
    }
    assert found.keys() == waits.keys()
    assert all(int(found[name]) <= int(wait) for name, wait in waits.items())


@pytest.mark.virtual_time(sockets=True)
async def test_requests_wait_in_the_queue_for_a_place(calling):
    loop = asyncio.get_running_loop()

    async def send(number):
        status = (await caller.send(str(number))).status
        return status, round(loop.time() - began)

    async with calling("concurrency=2&queue=3&latency=10&refuse_with=503_page") as caller:
        began = loop.time()
        ends = await asyncio.gather(*(send(number) for number in range(7)))
        assert sorted(ends) == [(200, 10), (200, 10), (200, 20), (200, 20), (200, 30), (503, 0), (503, 0)]
        assert (await caller.send()).status == 200


@pytest.mark.virtual_time(sockets=True)
async def test_a_request_is_refused_if_it_waits_too_long_for_a_place(calling):
    async with calling("concurrency=1&queue=9&queue_s=1.5&latency=1&refuse_with=503_page") as caller:
        response = await asyncio.gather(*(caller.send(str(number)) for number in range(4)))
        assert sorted(one.status for one in response) == [200, 200, 503, 503]
        assert caller.rehearsal.totals["503_page"] == 2
        assert (await caller.send()).status == 200


async def test_limits_of_each_connection(calling):
    async with calling("limit=2:requests:60:fixed&limit_by=connection&latency=0.05") as caller:
        assert [one.status for one in await asyncio.gather(*(caller.send() for _ in range(4)))] == [200] * 4
    async with calling("limit=2:requests:60:fixed&latency=0.05") as caller:
        assert sorted(one.status for one in await asyncio.gather(*(caller.send() for _ in range(4)))) == [
            200,
            200,
            429,
            429,
        ]


@pytest.mark.parametrize(
    "text", ["limit=5", "limit=5:rows:60", "limit=5:requests:0", "limit=0:requests:60", "limit=5:requests:60:week",
             "limit_by=key", "refuse_with=no", "queue=-1"]
)  # fmt: skip
def test_wrong_limits_are_refused(text):
    with pytest.raises(ValueError, match="rehearsal"):
        Behaviour.parse(text)


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
