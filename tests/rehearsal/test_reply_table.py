from __future__ import annotations

import dataclasses
import email.utils
import json
import re
import time
from pathlib import Path

import pytest

from batchmix.rehearsal import Behaviour
from batchmix.rehearsal.reply_kind import ErrorBody, ReplyGroup
from batchmix.rehearsal.reply_table import REPLY_KINDS, by_group

DOCS = Path(__file__).parents[2] / "jobs" / "rehearsal.md"
ERRORS = {
    name: kind
    for name, kind in REPLY_KINDS.items()
    if isinstance(kind.body, ErrorBody) and kind.group is not ReplyGroup.AUTOMATIC
}


def test_docs_have_the_table_of_kinds():
    tables = "\n\n".join(
        f"**{group.value}.**\n\n| kind | what comes |\n|---|---|\n"
        + "\n".join(f"| `{name}` | {doc} |" for name, doc in kinds.items())
        for group, kinds in by_group().items()
    )
    assert tables in DOCS.read_text()


def test_docs_have_every_option():
    named = set(re.findall(r"^\| `(\w+)=", DOCS.read_text(), re.MULTILINE))
    assert named == {field.name for field in dataclasses.fields(Behaviour)} - {"faults", "own"}


def test_a_kind_whose_name_begins_with_a_status_has_that_status():
    wrong = {name for name, kind in REPLY_KINDS.items() if name[:3].isdigit() and kind.status != int(name[:3])}
    assert wrong == set()


@pytest.mark.parametrize("name", ERRORS)
async def test_each_error_has_its_status_and_the_envelope(calling, name):
    error = ERRORS[name].body
    async with calling("successor=newer") as caller:
        schema = {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "object"}}}}
        parameters = {"400_max_tokens": {"max_tokens": 5}, "400_schema": schema}.get(name, {})
        response = await caller.send(f"[[rehearsal:{name}x1]]", key="sk-secret", model="old", **parameters)
        again = await caller.send(f"[[rehearsal:{name}x1]]", key="sk-secret", model="old", **parameters)
    message = error.message.format(key="sk-secret", model="old", successor="newer", detail="")
    assert response.status == ERRORS[name].status
    assert response.error["message"].startswith(message)
    assert response.error.get("code") == error.code
    assert response.error.get("param", "") == error.param
    assert set(response.error) == ({"message"} if error.bare else {"message", "type", "param", "code"})
    assert (again.status, "choices" in again.body) == (200, True)


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("401", "invalid_api_key", "sk-secret"),
        ("403", "insufficient_user_quota", "balance is insufficient"),
        ("403_balance", None, "balance is insufficient"),
        ("402", None, "balance is insufficient"),
        ("429_quota", "insufficient_quota", "current quota"),
        ("429_credit", "credit_balance_exhausted", "credit balance"),
        ("401_model", "model_access_denied", "Model access denied"),
        ("403_access", "model_not_found", "does not exist or you do not have access"),
        ("403_model", None, "not authorized to access the requested model"),
        ("404_retired", "model_retired", "please use rehearsal-2 instead"),
        ("400_model", None, "Incorrect model ID"),
        ("503_model", None, "Incorrect model ID"),
        ("400_channel", "no_available_channel", "No available channel"),
        ("503_channel", None, "No available channel"),
        ("503", "server_is_overloaded", "Rate limited by provider"),
        ("429_slow_down", "slow_down", ""),
        ("500_code", 500, ""),
        ("200_throttled", 429, "Rate limited by provider"),
        ("200_quota", "insufficient_user_quota", "balance is insufficient"),
        ("403_suspended", None, "suspended"),
        ("403_ip", None, "IP is not allowed"),
    ],
)
async def test_errors_say_what_the_gateway_says(calling, name, code, words):
    async with calling() as caller:
        response = await caller.send(f"[[rehearsal:{name}]]", key="sk-secret")
    assert response.error.get("code") == code
    assert words in response.error["message"]


@pytest.mark.parametrize(
    ("name", "headers"),
    [
        ("429", {"retry-after": "1", "retry-after-ms": "1000"}),
        ("429_seconds", {"retry-after": "1"}),
        ("429_ms", {"retry-after-ms": "1000"}),
        ("429_litellm", {"llm_provider-retry-after": "1"}),
        ("429_bare", {}),
    ],
)
async def test_the_wait_is_sent_in_each_form(calling, name, headers):
    async with calling() as caller:
        response = await caller.send(f"[[rehearsal:{name}]]")
    assert {key.lower(): value for key, value in response.headers.items() if "retry" in key.lower()} == headers


async def test_the_wait_is_sent_as_a_date(calling):
    before = time.time()
    async with calling() as caller:
        response = await caller.send("[[rehearsal:429_date]]")
    after = time.time()
    at = email.utils.parsedate_to_datetime(response.headers["Retry-After"]).timestamp()
    assert before + 1 <= at <= after + 2, "a second later, rounded up"


async def test_trace_ids_are_in_the_message_or_in_a_header_or_in_both(calling):
    async with calling() as caller:
        both, message, header = [await caller.send(f"[[rehearsal:{n}]]") for n in ("500", "500_bare", "500_trace")]
    assert both.headers["x-aihubmix-request-id"] in both.error["message"]
    assert "(request id: " in message.error["message"]
    assert not [name for name in message.headers if "request-id" in name.lower()]
    assert "(" not in header.error["message"]
    assert header.headers["X-Request-Id"]


async def test_pages_and_redirects(calling):
    async with calling() as caller:
        page = await caller.send("[[rehearsal:404_html]]")
        body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "[[rehearsal:307]]"}]})
        redirect = await caller.fetch("POST", "/chat/completions", data=body, allow_redirects=False)
    assert (page.status, page.headers["Content-Type"], page.raw[:1]) == (404, "text/html", b"<")
    assert (redirect.status, redirect.headers["Location"]) == (307, "/elsewhere/v1/chat/completions")


async def test_every_kind_can_be_drawn_and_odd_answers_too(calling):
    async with calling("nan=1") as caller:
        assert "NaN" in (await caller.send()).raw.decode()
        assert caller.rehearsal.records[0].answered


async def test_refusals_are_unlimited_and_transient_faults_are_limited(calling):
    async with calling("402=1&max_faults=1") as caller:
        assert [(await caller.send()).status for _ in range(3)] == [402, 402, 402]
    async with calling("409=1&max_faults=1") as caller:
        assert [(await caller.send()).status for _ in range(3)] == [409, 200, 200]


async def test_a_kind_that_does_not_apply_to_a_request_gives_a_plain_answer(calling):
    async with calling("stream_error=0.5&no_usage=0.5") as caller:
        vectors = await caller.send(path="/embeddings", messages=None, input="[[rehearsal:no_choices]]")
        plain = await caller.send("[[rehearsal:stream_error]]")
        assert vectors.body["usage"]["total_tokens"]
        assert plain.content
        assert [record.kind for record in caller.rehearsal.records] == ["answer", "answer"]
