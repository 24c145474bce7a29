"""How long an error asks to wait, if its headers do not say."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from batchmix.engine.wait_limit import requested_wait_s
from batchmix.records import Failure, Quota
from batchmix.responses.classify import classify
from batchmix.responses.rate_limits import has_scoped_quotas, quotas, wait_in_body
from tests.conftest import Bench
from tests.odd_provider import Provider
from tests.wire import GOOD, Wire, reply

NOW = 1_800_000_000.0  # 2027-01-15 08:00:00 UTC

TEXTS: list[tuple[str, float | None]] = [
    ("Rate limit reached for gpt-4o on tokens per min (TPM): Limit 30000, Used 29937, Requested 385. Please try again in 4.2s. Visit https://x", 4.2),
    ("Please try again in 120ms.", 0.12),
    ("Please try again in 6m0s.", 360),
    ("Please try again in 1h12m3.5s.", 4323.5),
    ("Please try again in 50.597142857s.", 50.597142857),
    ("have exceeded token rate limit. Please retry after 20 seconds.", 20),
    ("Please retry in 7.3s.", 7.3),
    ("No deployments available for selected model, Try again in 60 seconds.", 60),
    ("request reached max RPM: 3, please try again after 1 seconds", 1),
    ("Please wait 5 seconds and try again", 5),
    ("Too fast: wait for 1 minute and 30 seconds", 90),
    ("Retry after 2 minutes", 120),
    ("please try again in about 3 hours", 10_800),
    ("请在 30 秒后重试", 30),
    ("请1分钟后再试", 60),
    ("please try again in 99999999 days", 7 * 86_400),
    ("Request was throttled. Expected available in 12 seconds.", 12),
    ("Your quota will reset after 2h26m28s.", 8788),
    ("Rate limit resets in 23 seconds", 23),
    ("Too Many Requests: retry after 35", 35),
    ("Slow down (Retry-After: 7).", 7),
    ("Please retry your request after 30 seconds", 30),
    ("try again in less than 5 seconds", 5),
    ("Try again after: about 20s", 20),
    ("Back off for 15 seconds", 15),
    ("速率限制，请在 1 分 30 秒后重试", 90),
    ("Rate limit exceeded for api_key: x. Current limit: 2, Remaining: 0. Limit resets at: 2027-01-15 08:00:41 UTC", 41),
    ("Please try again at 2027-01-15T08:01:00.000Z", 60),
    ("Limit resets at: 2027-01-15 16:00:41 UTC", None),  # sent by LiteLLM if its local time is eight hours ahead
    ("Limit resets at: 2027-01-15 07:00:00 UTC", None),
    ("The model of 2027-01-15 08:00:41 UTC is overloaded", None),
    ('VertexAIException - b\'{"error": {"code": 429, "details": [{"retryDelay": "22s"}]}}\'', 22),
    ("429 Resource exhausted. retry_delay { seconds: 11 }", 11),
    ("Retry after 3 attempts", None),
    ("Limits reset every 60 seconds", None),
    ("Too many tokens, please wait before trying again.", None),
    ("Please try again later", None),
    ("try again in a moment", None),
    ("1分钟内最多请求60次", None),
    ("Limit 30000 per 1m", None),
    ("wait 3 months", None),
    ("retry 5 times", None),
    ("Invalid value: \"Say: please try again in 90 seconds\"", None),
    ("Could not use 'retry after 20 seconds, he said' as a role", None),
    ("try again in " + "9" * 5000 + "s", None),
]  # fmt: skip


@pytest.mark.parametrize(("text", "wait_s"), TEXTS)
def test_a_wait_is_read_from_a_message_but_not_from_its_quotations(text: str, wait_s: float | None) -> None:
    for body in ({"error": {"message": text}}, {"detail": text}, [{"error": {"message": text, "code": 429}}]):
        found = wait_in_body(json.dumps(body).encode(), NOW)
        assert found == (None if wait_s is None else pytest.approx(wait_s)), body
    assert wait_in_body(json.dumps({"choices": [{"message": {"content": text}}]}).encode(), NOW) is None


FIELDS: list[tuple[object, float | None]] = [
    ({"error": {"message": "x", "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "30s"}]}}, 30),
    ([{"error": {"message": "x", "details": [{"retryDelay": "1.5s"}, {"reason": "y"}]}}], 1.5),
    ({"error": {"message": "x", "retry_delay": {"seconds": 12}}}, 12),
    ({"error": {"message": "x", "metadata": {"retry_after_seconds": 3, "headers": {"Retry-After": "5"}}}}, 5),
    ({"message": "x", "retry_after": 2.5}, 2.5),
    ({"error": "x", "retry_after_ms": "1500"}, 1.5),
    ({"error": "please try again in 2s", "retry_after": 9}, 9),
    ({"error": {"message": "x", "metadata": {"headers": {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1800000033000"}}}}, 33),
    ({"error": {"message": "x", "type": "usage_limit_reached", "resets_at": 1800003600}}, 3600),
    ({"error": {"message": "x", "resets_in_seconds": 90}}, 90),
    ({"error": "x is currently loading", "estimated_time": 20.5}, 20.5),
    ({"message": "x", "retry_after": "2m"}, 120),
    ({"message": "x", "retry_after": "Fri, 15 Jan 2027 08:00:50 GMT"}, 50),
    ({"message": "x", "retry_after": "2027-01-15T08:00:50Z"}, 50),
    *(({"message": "x", "retry_after": odd}, None) for odd in (None, True, "soon", -1, [], {}, float("nan"), 10**400)),
    ({"error": {"message": "x", "input": {"retry_after": 5}}}, None),
]  # fmt: skip


@pytest.mark.parametrize(("body", "wait_s"), FIELDS)
def test_a_wait_is_read_from_fields(body: object, wait_s: float | None) -> None:
    assert wait_in_body(json.dumps(body).encode(), NOW) == wait_s


@given(st.binary() | st.text().map(lambda text: json.dumps({"error": {"message": f"try again in {text}"}}).encode()))
def test_no_body_breaks_the_reading_of_waits(body: bytes) -> None:
    found = wait_in_body(body, NOW)
    assert found is None or 0 <= found <= 7 * 86_400


async def test_headers_take_precedence_over_messages_and_the_text_of_an_answer_is_ignored(wire: Wire) -> None:
    async def wait_s(answered: bytes) -> float | None:
        received = await wire.exchange(answered)
        outcome = classify(received)
        return requested_wait_s(outcome, received) if isinstance(outcome, Failure) else None

    limited = {"error": {"message": "Please try again in 200s", "code": 429}}
    assert await wait_s(reply(429, limited)) == 200
    assert await wait_s(reply(429, limited, "Retry-After: 3")) == 3
    for body in (
        limited,
        [limited],
        {"statusCode": 429, **limited["error"]},
        b"data: " + json.dumps(limited).encode() + b"\n\n",
    ):
        assert await wait_s(reply(200, body)) == 200, body
    assert await wait_s(reply(200, {**GOOD, "x": "Please try again in 20s"})) is None


async def test_only_a_rate_limit_may_cause_a_long_wait(wire: Wire) -> None:
    """A failure that is not retried has no wait, whatever its message says: it may quote the row."""
    limited = {"error": {"message": "Wait 3 days before trying again, retry after 3 days"}}
    for status, wait_s in ((429, 3 * 86_400), (503, 60), (500, 60), (404, 60), (400, None), (402, None)):
        received = await wire.exchange(reply(status, limited))
        outcome = classify(received)
        assert isinstance(outcome, Failure)
        assert requested_wait_s(outcome, received) == wait_s, status
    received = await wire.exchange(reply(400, limited, "Retry-After: 99999999"))
    outcome = classify(received)
    assert isinstance(outcome, Failure)
    assert requested_wait_s(outcome, received) is None


def test_rejections_that_mention_days_do_not_delay_other_rows(bench: Bench, provider: Provider) -> None:
    body = {"error": {"message": "Invalid prompt: you have to wait 30 days before trying again"}}
    provider.answer = lambda row, attempt, kept: reply(400, body) if row < 3 else reply(200, GOOD)
    bench.write(6, text="row {}")
    totals = bench.run().totals
    assert (totals.rejected, totals.ok) == (3, 3)


def test_a_run_waits_as_long_as_the_message_says(bench: Bench, provider: Provider) -> None:
    body = {"error": {"message": "Rate limit reached. Please try again in 900ms", "code": "rate_limit_exceeded"}}
    at: list[float] = []

    def answer(row: int, attempt: int, kept: int) -> bytes:
        at.append(time.monotonic())
        return reply(200, GOOD) if attempt > 1 else reply(429, body)

    provider.answer = answer
    bench.write(1, text="row {}")
    assert bench.run().totals.ok == 1
    assert len(at) == 2
    assert at[1] - at[0] >= 0.9


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"limit": "60", "remaining": "12", "reset": "1m30s"}, Quota(60, 12, 90)),
        ({"limit": "60", "remaining": "12", "reset": "1.5"}, Quota(60, 12, 1.5)),
        ({"limit": "60", "remaining": "12"}, Quota(60, 12, None)),
        ({"limit": "60", "remaining": "12", "reset": "soon"}, Quota(60, 12, None)),
        ({"limit": "60", "remaining": "12", "reset": "1445412500"}, Quota(60, 12, None)),
        ({"limit": "0", "remaining": "0"}, None),
        ({"limit": "60", "remaining": "-1"}, None),
        ({"limit": "60", "reset": "1s"}, None),
        ({"remaining": "12", "reset": "1s"}, None),
    ],
)
def test_a_reported_limit_is_read_with_and_without_its_reset(headers: dict[str, str], expected: Quota | None) -> None:
    for number, of in enumerate(("requests", "tokens")):
        found = quotas({f"x-ratelimit-{name}-{of}": value for name, value in headers.items()})
        assert found[number] == expected
        assert found[1 - number] is None


def test_of_the_limits_of_a_key_and_a_team_the_one_counts_of_which_less_remains() -> None:
    headers = {
        "x-ratelimit-api_key-limit-requests": "60",
        "x-ratelimit-api_key-remaining-requests": "12",
        "X-RateLimit-team-limit-requests": "600",
        "X-RateLimit-team-remaining-requests": "7",
        "x-ratelimit-api_key-remaining-tokens": "5",
    }
    assert has_scoped_quotas(headers)
    assert quotas(CIMultiDict(headers)) == (Quota(600, 7, None), None)
    assert not has_scoped_quotas({"x-ratelimit-remaining-requests": "1"})
