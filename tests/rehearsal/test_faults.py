from __future__ import annotations

import asyncio
import json

import aiohttp
import pytest

from batchmix.rehearsal import Behaviour
from tests.polling import WITHIN_S

ERRORS = {"429": 429, "500": 500, "502": 502, "503": 503}


@pytest.mark.parametrize(("share", "status"), ERRORS.items())
async def test_error_shares(calling, share, status):
    async with calling(f"{share}=1&max_faults=2") as caller:
        response = [await caller.send() for _ in range(3)]
        records = caller.rehearsal.records
    assert [one.status for one in response] == [status, status, 200]
    assert [(one.kind, one.answered) for one in records] == [(str(status), False)] * 2 + [("answer", True)]
    assert "(tid: " in response[0].error["message"]
    assert ("Retry-After" in response[0].headers) == (status == 429)


async def test_e503_means_throttled(calling):
    async with calling("503=1") as caller:
        assert (await caller.send()).error["message"].startswith("Rate limited by provider")


async def test_html_and_empty(calling):
    async with calling() as caller:
        page, nothing = await caller.send("[[rehearsal:html]]"), await caller.send("[[rehearsal:empty]]")
    assert (page.status, page.headers["Content-Type"], page.raw[:1]) == (200, "text/html", b"<")
    assert (nothing.status, nothing.raw) == (200, b"")


@pytest.mark.parametrize("kind", ["cut", "drop"])
@pytest.mark.parametrize("how", ["?{}=1&max_faults=1", "[[rehearsal:{}x1]]"])
async def test_broken_connections(calling, kind, how):
    sent = how.format(kind)
    error = aiohttp.ClientPayloadError if kind == "cut" else aiohttp.ClientConnectionError
    async with calling(sent.removeprefix("?") if sent.startswith("?") else "") as caller:
        with pytest.raises(error):
            await caller.send(sent)
        assert (await caller.send(sent)).status == 200
        first, second = caller.rehearsal.records
    assert (first.kind, first.status, first.finished) == (kind, 200 if kind == "cut" else None, None)
    assert second.answered


async def test_cut_sends_half_of_what_it_promises(calling):
    async with calling() as caller:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(caller.url.split(":")[2][:-3]))
        body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "[[rehearsal:cut]]"}]}).encode()
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        head, _, rest = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        await writer.wait_closed()
    promised = int(head.lower().partition(b"content-length: ")[2].split()[0])
    assert len(rest) == promised // 2 > 0


async def _until(caller, count):
    """Return once this many requests have been received and are in flight."""
    async with asyncio.timeout(WITHIN_S):
        while caller.rehearsal.totals["requests"] < count:
            await asyncio.sleep(0)


async def test_hang_lasts_until_the_client_leaves(calling):
    async with calling("concurrency=1") as caller:
        sending = asyncio.create_task(caller.send("[[rehearsal:hang]]"))
        await _until(caller, 1)
        assert (await caller.send()).status == 429
        sending.cancel()
        async with asyncio.timeout(WITHIN_S):
            while (await caller.send()).status == 429:  # until the server has noticed that the client left
                pass
        record = caller.rehearsal.records[0]
    assert (record.kind, record.status, record.finished, record.answered) == ("hang", None, None, False)


async def test_reject_is_by_prompt_on_every_attempt(calling):
    async with calling("reject=0.5&seed=3") as caller:
        by_prompt = {
            str(number): {(await caller.send(str(number), temperature=t)).status for t in (0, 0, 1)}
            for number in range(30)
        }
    assert all(len(statuses) == 1 for statuses in by_prompt.values())
    assert 5 < sum(400 in statuses for statuses in by_prompt.values()) < 25


async def test_faults_follow_from_seed_body_and_attempt(calling):
    async def statuses(behaviour: str) -> list[int]:
        async with calling(behaviour) as caller:
            return [(await caller.send(str(number))).status for number in [*range(20), *range(20)]]

    first = await statuses("500=0.3&429=0.2&seed=1")
    assert first == await statuses("500=0.3&429=0.2&seed=1")
    assert first != await statuses("500=0.3&429=0.2&seed=2")
    assert first[:20] != first[20:]
    assert set(first) == {200, 429, 500}


def test_shares_are_as_given():
    behaviour = Behaviour(faults={"500": 0.1, "hang": 0.05})
    drawn = [behaviour.drawn_kind(str(number), 1) for number in range(4000)]
    assert 0.08 < drawn.count("500") / 4000 < 0.12
    assert 0.035 < drawn.count("hang") / 4000 < 0.065


@pytest.mark.parametrize("kind", ["400", "401", "402", "403", "429", "500", "502", "503", "504"])
async def test_error_markers(calling, kind):
    async with calling() as caller:
        assert [(await caller.send(f"[[rehearsal:{kind}]]")).status for _ in range(2)] == [int(kind)] * 2
        assert [(await caller.send(f"[[rehearsal:{kind}x2]]")).status for _ in range(3)] == [int(kind)] * 2 + [200]
        assert {record.kind for record in caller.rehearsal.records} == {kind, "answer"}


@pytest.mark.parametrize(
    ("kind", "reason", "message"),
    [
        ("filter", "content_filter", {}),
        ("null", "stop", {"content": None}),
        ("refusal", "stop", {"content": None, "refusal": "I can't help with that."}),
        ("echo", "stop", {"content": "[[rehearsal:echo]]  as it is"}),
    ],
)
async def test_answer_markers(calling, kind, reason, message):
    async with calling() as caller:
        body = (await caller.send(f"[[rehearsal:{kind}]]  as it is")).body
        (record,) = caller.rehearsal.records
    assert body["choices"][0]["finish_reason"] == reason
    assert body["choices"][0]["message"].items() >= message.items()
    assert (record.kind, record.answered) == (kind, True)


async def test_tools_and_reasoning(calling):
    async with calling() as caller:
        tools, reasoning = (await caller.send("[[rehearsal:tools]]")).body, await caller.send("[[rehearsal:reasoning]]")
    (call,) = tools["choices"][0]["message"]["tool_calls"]
    assert tools["choices"][0]["finish_reason"] == "tool_calls"
    assert tools["choices"][0]["message"]["content"] is None
    assert json.loads(call["function"]["arguments"])["word"]
    assert reasoning.body["choices"][0]["message"]["reasoning_content"]
    usage = reasoning.body["usage"]
    thought = usage["completion_tokens_details"]["reasoning_tokens"]
    assert usage["completion_tokens"] == thought + len(reasoning.content.split())


async def test_of_several_markers_the_first_that_applies(calling):
    async with calling("502=1") as caller:
        response = [await caller.send("[[rehearsal:500x1]] [[rehearsal:429x2]] [[rehearsal:echo]]") for _ in range(3)]
    assert [one.status for one in response] == [500, 429, 200]


async def test_an_unknown_marker_is_reported(calling):
    async with calling() as caller:
        response = await caller.send("[[rehearsal:fivehundred]]")
    assert response.status == 400
    assert "fivehundred" in response.error["message"]


async def test_only_the_last_user_message_is_marked(calling):
    async with calling() as caller:
        answered = [
            ("user", "[[rehearsal:500]]"),
            ("assistant", "x"),
            ("user", "y"),
            ("assistant", "[[rehearsal:500]]"),
        ]
        response = await caller.send(messages=[{"role": role, "content": text} for role, text in answered])
        assert response.status == 200
        assert caller.rehearsal.records[0].prompt == "y"
