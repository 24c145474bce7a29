from __future__ import annotations

import asyncio
import contextlib
import json

import pytest

from tests.polling import WITHIN_S


async def _connect(caller):
    return await asyncio.open_connection("127.0.0.1", int(caller.url.split(":")[2][:-3]))


async def _post(caller, prompt, **more):
    reader, writer = await _connect(caller)
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": prompt}], **more}).encode()
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    return reader, writer


async def _close(writer):
    writer.close()
    await writer.wait_closed()


async def test_a_stall_sends_half_and_lasts_until_the_client_leaves(calling):
    async with calling("concurrency=1") as caller:
        reader, writer = await _post(caller, "[[rehearsal:stall]]")
        head = await reader.readuntil(b"\r\n\r\n")
        promised = int(head.partition(b"Content-Length: ")[2].split()[0])
        assert await reader.readexactly(promised // 2)
        assert (await caller.send()).status == 429
        await _close(writer)
        async with asyncio.timeout(WITHIN_S):
            while (await caller.send()).status == 429:  # until the server has noticed that the client left
                pass
        record = caller.rehearsal.records[0]
    assert (record.kind, record.status, record.finished, record.answered) == ("stall", 200, None, False)


async def test_a_stalled_stream_sends_whole_events(calling):
    async with calling() as caller:
        reader, writer = await _post(caller, "[[rehearsal:stall]]", stream=True)
        await reader.readuntil(b"\r\n\r\n")
        first = await reader.readline()
        assert (await reader.readexactly(int(first, 16))).startswith(b'data: {"id"')
        await _close(writer)


async def test_a_drip_comes_in_pieces_and_is_an_answer(calling):
    async with calling("slow_s=0.2") as caller:
        reader, writer = await _post(caller, "[[rehearsal:drip]]")
        head = await reader.readuntil(b"\r\n\r\n")
        promised = int(head.partition(b"Content-Length: ")[2].split()[0])
        pieces = []
        while sum(map(len, pieces)) < promised:
            pieces.append(await reader.read(promised))
        assert json.loads(b"".join(pieces))["choices"]
        await _close(writer)
        (record,) = caller.rehearsal.records
    assert len(pieces) > 5
    assert record.finished - record.begun >= 0.19
    assert record.answered


async def test_a_drip_that_the_client_leaves_is_not_answered(calling, caplog):
    async with calling("slow_s=60&concurrency=1") as caller:
        reader, writer = await _post(caller, "[[rehearsal:drip]]")
        await reader.readuntil(b"\r\n\r\n")
        await _close(writer)
        async with asyncio.timeout(WITHIN_S):
            while (await caller.send()).status == 429:
                pass
        assert not caller.rehearsal.records[0].answered
    assert caplog.records == []


async def test_a_connection_is_kept_after_a_stream(calling):
    async with calling() as caller:
        reader, writer = await _post(caller, "Hello", stream=True)
        await reader.readuntil(b"\r\n0\r\n\r\n")
        writer.write(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        await _close(writer)


@pytest.mark.parametrize("kind", ["hang", "drop"])
async def test_no_reply_comes(calling, kind):
    async with calling() as caller:
        reader, writer = await _post(caller, f"[[rehearsal:{kind}]]")
        if kind == "hang":
            writer.write_eof()
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await reader.readexactly(1)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        assert caller.rehearsal.records[0].status is None
