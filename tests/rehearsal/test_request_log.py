from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import json
import time

import aiohttp
import pytest

from batchmix.rehearsal import Behaviour
from tests.polling import WITHIN_S, until


async def test_records(calling):
    async with calling("latency=0.02") as caller:
        before = time.monotonic()
        data = b'{"model":"m","messages":[{"role":"system","content":"s"},{"role":"user","content":"Hi"}]}'
        for _ in range(2):
            await caller.send(data=data)
        await caller.send("[[rehearsal:500]]")
        after = time.monotonic()
        records = await caller.control("ledger")
    assert [record["prompt"] for record in records] == ["Hi", "Hi", "[[rehearsal:500]]"]
    assert records[0]["digest"] == records[1]["digest"] == hashlib.sha256(data).hexdigest()
    assert [record["attempt"] for record in records] == [1, 2, 1]
    assert [record["model"] for record in records] == ["m", "m", "m"]
    assert [record["status"] for record in records] == [200, 200, 500]
    assert [record["kind"] for record in records] == ["answer", "answer", "500"]
    assert [record["answered"] for record in records] == [True, True, False]
    times = [at for record in records for at in (record["begun"], record["finished"])]
    assert times == sorted(times)
    assert before <= times[0]
    assert times[-1] <= after
    assert all(record["finished"] - record["begun"] >= 0.019 for record in records)


async def test_records_say_what_was_asked(calling):
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    said = [("system", f"JSON Schema: {json.dumps(schema)}"), ("user", "Hi"), ("assistant", "no"), ("user", "Again")]
    turns = [{"role": role, "content": text} for role, text in said]
    asked = {"response_format": {"type": "json_schema", "json_schema": {"schema": schema}}}
    async with calling("structured_outputs=false") as caller:
        await caller.send("Hi")
        await caller.send("Hi", max_tokens=7, **asked)
        await caller.send(messages=turns)
        await caller.send(path="/responses", messages=None, input="Hi", max_output_tokens=9)
        await caller.send(data=b"{oops")
        records = await caller.control("ledger")
    assert [(record["turns"], record["asked"], record["max_tokens"]) for record in records] == [
        (1, "", None),
        (1, "response_format", 7),
        (2, "prompt", None),
        (1, "", 9),
        (1, "", None),
    ]
    assert [(record["opening"], record["prompt"]) for record in records[1:3]] == [("", "Hi"), ("Hi", "Again")]


async def test_the_prompt_of_a_malformed_request_is_its_body(calling):
    async with calling() as caller:
        await caller.send(data=b"{oops")
        assert caller.rehearsal.records[0].prompt == "{oops"
        assert caller.rehearsal.records[0].model == ""


async def test_totals_reset_and_behaviour(calling):
    async with calling("seed=4&balance=1") as caller:
        assert [(await caller.send(p)).status for p in ("a", "[[rehearsal:500]]", "a")] == [200, 403, 403]
        assert await caller.control("totals") == {"requests": 3, "answered": 1, "answer": 1, "403": 2}
        assert await caller.control("reset", "") == {}
        assert await caller.control("ledger") == []
        assert (await caller.send("a")).status == 200
        assert caller.rehearsal.records[0].attempt == 1
        await caller.control("behaviour", "502=1")
        assert caller.rehearsal.behaviour == Behaviour(faults={"502": 1.0})
        assert (await caller.send("a")).status == 502
        assert "did you mean" in (await caller.control("behaviour", "latncy=1"))["error"]["message"]
        assert caller.rehearsal.behaviour == Behaviour(faults={"502": 1.0})
        assert "not found" in (await caller.control("nothing"))["error"]["message"]


async def test_the_account_counts_repeated_requests_and_faults(calling):
    async with calling() as caller:
        for prompt in ["[[rehearsal:500x1]] [[rehearsal:dropx2]]"] * 3 + ["[[rehearsal:400]]"] + ["a"] * 3:
            with contextlib.suppress(aiohttp.ClientConnectionError):
                await caller.send(prompt)
        account = await caller.control("account")
        bodies = await caller.control("bodies")
    assert account == {
        "requests": 7, "bodies": 3, "answered": 4, "again": 2, "retries": 2, "faults": {"500": 1, "drop": 1, "400": 1},
    }  # fmt: skip
    assert [(body["asked"], body["answered"], body["again"], body["faults"]) for body in bodies] == [
        (3, 1, 0, {"500": 1, "drop": 1}),
        (1, 0, 0, {"400": 1}),
        (3, 3, 2, {}),
    ]
    assert bodies[2]["prompt"] == "a"
    assert bodies[2]["model"] == "m"
    assert len(bodies[2]["digest"]) == 64


@pytest.mark.virtual_time(sockets=True)
async def test_requests_in_flight_together_are_not_repeated_ones(calling):
    async with calling("latency=0.05") as caller:
        await asyncio.gather(*(caller.send() for _ in range(3)))
        account = await caller.control("account")
    assert (account["answered"], account["again"], account["retries"]) == (3, 0, 2)


async def test_the_ledger_can_be_switched_off(calling):
    async with calling("ledger=false&500=1&max_faults=1") as caller:
        assert [(await caller.send()).status for _ in range(2)] == [500, 200]
        assert await caller.control("ledger") == []
        assert (await caller.control("totals"))["requests"] == 2


async def test_an_answer_that_the_client_does_not_wait_for_is_not_answered(calling):
    async with calling("latency=30") as caller:
        sending = asyncio.create_task(caller.send())
        await until(lambda: caller.rehearsal.records)
        sending.cancel()
        await asyncio.wait([sending])
    (record,) = caller.rehearsal.records
    assert (record.kind, record.status, record.finished, record.answered) == ("answer", None, None, False)


@contextlib.asynccontextmanager
async def _request_for_more_than_the_kernel_takes(url, header=b""):
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.split(":")[2][:-3]), limit=1024)
    text = b"[[rehearsal:echo]]" + b"x" * 20_000_000
    body = b'{"model":"m","messages":[{"role":"user","content":"%s"}]}' % text
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n%sContent-Length: %d\r\n\r\n" % (header, len(body))
    writer.write(head + body)
    await reader.readline()
    yield reader, writer
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


@pytest.mark.parametrize("header", [b"", b"Connection: close\r\n"])
async def test_an_answer_is_finished_once_it_has_been_read(calling, header):
    async with calling() as caller, _request_for_more_than_the_kernel_takes(caller.url, header) as (reader, _):
        (record,) = caller.rehearsal.records
        assert (record.status, record.finished, record.answered) == (200, None, False)
        async with asyncio.timeout(WITHIN_S):
            while not record.answered:
                assert await reader.read(1 << 20) or record.answered
        assert record.finished is not None


async def test_an_answer_that_is_lost_halfway_is_never_finished(calling, caplog):
    async with calling("concurrency=1") as caller:
        async with _request_for_more_than_the_kernel_takes(caller.url) as (_, writer):
            writer.transport.abort()
        async with asyncio.timeout(WITHIN_S):
            while (await caller.send()).status == 429:  # until the server has noticed that the client left
                pass
        record = caller.rehearsal.records[0]
        assert (record.status, record.finished, record.answered) == (200, None, False)
        assert caller.rehearsal.totals["answered"] == 1
    assert caplog.records == []


def test_latency_follows_from_seed_body_and_attempt():
    behaviour = Behaviour.parse("latency=0.05-0.2&seed=1")
    drawn = [behaviour.latency_s(str(body), attempt) for body, attempt in itertools.product(range(100), (1, 2))]
    assert len(set(drawn)) == 200
    assert all(0.05 <= at <= 0.2 for at in drawn)
    assert sum(drawn) / 200 == pytest.approx(0.125, abs=0.01)
    assert behaviour.latency_s("0", 1) == drawn[0]
