"""Data after a response, or without a request, is given to no request, and no answer is lost to it."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp.http_parser
import msgspec
import pytest

from batchmix.http.body_reader import first_object
from batchmix.http.client import Client
from batchmix.http.connection_pool import CancelledUnsent
from batchmix.job import Timeouts
from batchmix.records import Completion
from batchmix.redact import Secrets
from batchmix.responses.classify import classify
from tests.http.test_client import chunked
from tests.polling import WITHIN_S, until
from tests.streams import PARIS, events
from tests.wire import GOOD, KEY, REQUEST, Closing, Wire, reply

BODY = json.dumps(GOOD).encode()
OTHER = reply(200, {**GOOD, "id": "another's"})
ZIPPED = gzip.compress(BODY)
FORMS = {
    "length": reply(200, BODY),
    "chunked": chunked(BODY[:9], BODY[9:]),
    "trailers": chunked(BODY)[:-2] + b"X-Sum: 1\r\n\r\n",
    "gzip": reply(200, ZIPPED, "Content-Encoding: gzip"),
    "chunked gzip": chunked(ZIPPED).replace(b"Transfer", b"Content-Encoding: gzip\r\nTransfer"),
    "closing": reply(200, BODY, "Connection: close"),
    "after hints": b"HTTP/1.1 103 Early Hints\r\n\r\n" + reply(200, BODY),
}
SURPLUS = {
    "whole": OTHER,
    "two": OTHER * 2,
    "one byte": OTHER[:1],
    "cut in the status": OTHER[:12],
    "cut in a header": OTHER[:40],
    "without its last line feed": OTHER[: OTHER.index(b"\r\n\r\n") + 3],
    "its head": OTHER[: OTHER.index(b"\r\n\r\n") + 4],
    "cut in the body": OTHER[:-9],
    "chunked, cut": chunked(BODY)[:90],
    "hints": b"HTTP/1.1 103 Early Hints\r\n\r\n",
    "hints, cut": b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n",
    "a switch": b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x05hello",
    "JSON": BODY,
    "rubbish": b"\x00\xff\x16\x03 rubbish",
    "rubbish in lines": b"rubbish\r\n\r\nmore\r\n\r\n",
    "TLS alert": b"\x15\x03\x03\x00\x02\x02\x28",
}


@pytest.fixture(params=["C", "Python"])
def parsers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run with each of aiohttp's two parsers; the Python one is used if the C one was not built."""
    if request.param == "Python":
        monkeypatch.setattr("batchmix.http.connection.HttpResponseParser", aiohttp.http_parser.HttpResponseParserPy)
    return str(request.param)


@pytest.mark.usefixtures("parsers")
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
async def test_surplus_data_after_a_response_is_given_to_no_request_and_costs_no_answer(
    wire: Wire, form: bytes
) -> None:
    wire.replies = [sent for surplus in SURPLUS.values() for sent in (form + surplus, reply(200, BODY))]
    async with wire.client(total_s=WITHIN_S) as client:
        for number, name in enumerate(SURPLUS, 1):
            received = [await client.post(REQUEST) for _ in range(2)]
            assert [(found.fault, found.status, found.body) for found in received] == [(None, 200, BODY)] * 2, name
            assert len(wire.requests) == 2 * number
            assert client.surplus_answers == number or form == FORMS["closing"], name
    assert wire.connections == 1 + len(SURPLUS) or form == FORMS["closing"]


@pytest.mark.parametrize("is_read", [False, True])
async def test_surplus_data_on_an_idle_connection_is_given_to_no_request(wire: Wire, is_read: bool) -> None:
    """The loop has read it before the connection is reused, or it is still in the kernel."""
    wire.replies = [reply(200, BODY)]
    async with wire.client(total_s=WITHIN_S) as client:
        for number, (name, surplus) in enumerate(SURPLUS.items(), 1):
            assert (await client.post(REQUEST)).body == BODY, name
            wire.send_unrequested(surplus)
            if is_read:
                await until(lambda: client.surplus_answers == number)  # noqa: B023 - awaited at once
            assert (await client.post(REQUEST)).body == BODY, name
            await until(lambda: client.surplus_answers == number)  # noqa: B023 - awaited at once
            assert wire.connections == 1 + number, name
        assert len(wire.requests) == 2 * len(SURPLUS)


async def test_surplus_data_received_before_a_request_is_sent_is_not_its_response(wire: Wire) -> None:
    wire.replies = [reply(200, BODY)]
    async with wire.client(total_s=WITHIN_S) as client:
        for number, (name, surplus) in enumerate(SURPLUS.items(), 1):
            assert (await client.post(REQUEST)).body == BODY, name
            sending = asyncio.create_task(client.post(REQUEST))
            await asyncio.sleep(0)  # it has a connection, and is sent in the next turn of the loop
            wire.send_unrequested(surplus)
            assert (await sending).body == BODY, name
            await until(lambda: client.surplus_answers == number)  # noqa: B023 - awaited at once
            assert (wire.connections, len(wire.requests)) == (1 + number, 2 * number), name


async def test_a_request_whose_connection_closes_before_it_is_sent_uses_another(wire: Wire) -> None:
    wire.replies = [reply(200, BODY)]
    async with wire.client(total_s=WITHIN_S) as client:
        await client.post(REQUEST)
        sending = asyncio.create_task(client.post(REQUEST))
        await asyncio.sleep(0)
        wire.hang_up()
        received = await sending
        assert (received.fault, received.body, wire.connections, len(wire.requests)) == (None, BODY, 2, 2)


async def test_a_response_sent_before_the_request_arrived_is_not_its_response(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server stops reading, so it acknowledges nothing of the second request, but sends a response."""
    monkeypatch.setattr("batchmix.http.acknowledgement.is_loopback", lambda host: False)
    again, over = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(reply(200, BODY))
        await again.wait()
        writer.write(OTHER)
        await over.wait()
        writer.transport.abort()

    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    server = await asyncio.start_server(serve, sock=listener, limit=4096)
    long = msgspec.structs.replace(REQUEST, body=b" " * 8_000_000 + REQUEST.body)
    url = "http://127.0.0.1:{1}/v1".format(*listener.getsockname())
    async with server, Client(url, Secrets(KEY), Timeouts(total_s=WITHIN_S), 4) as client:
        assert (await client.post(long)).body == BODY
        sending = asyncio.create_task(client.post(REQUEST))
        for _ in range(9):  # until it is sent
            await asyncio.sleep(0)
        again.set()
        received = await sending
        over.set()
        assert (received.fault, received.status, received.maybe_billed) == ("connection", None, True)
        assert "it belongs to another one" in received.fault_message
        assert client.surplus_answers == 1


async def test_a_request_that_is_cancelled_before_sending_is_not_sent(wire: Wire) -> None:
    wire.replies = [reply(200, BODY)]
    async with wire.client(total_s=WITHIN_S) as client:
        await client.post(REQUEST)
        sending = asyncio.create_task(client.post(REQUEST))
        await asyncio.sleep(0)
        sending.cancel()
        with pytest.raises(CancelledUnsent):
            await sending
        assert (await client.post(REQUEST)).body == BODY
        assert (wire.connections, len(wire.requests)) == (2, 2)


@pytest.mark.usefixtures("parsers")
async def test_an_answer_in_several_pieces_is_kept_when_surplus_data_follows(wire: Wire) -> None:
    """Wherever the answer is cut, the surplus data comes with its rest."""
    for form in (FORMS["length"], FORMS["chunked"], FORMS["after hints"]):
        for cut in range(1, len(form), 23):
            wire.replies = [b""]
            async with wire.client(total_s=WITHIN_S) as client:
                sending = asyncio.create_task(client.post(REQUEST))
                before = len(wire.requests)
                await until(lambda: len(wire.requests) > before)  # noqa: B023 - awaited at once
                wire.send_unrequested(form[:cut])
                for _ in range(4):
                    await asyncio.sleep(0)
                wire.send_unrequested(form[cut:] + b"rubbish\r\n\r\n")
                received = await sending
                assert (received.fault, received.body, client.surplus_answers) == (None, BODY, 1)


@pytest.mark.usefixtures("parsers")
@pytest.mark.parametrize("rubbish", [b"zz\r\n", b"rubbish\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"])
async def test_a_whole_answer_is_kept_when_its_chunked_body_ends_wrongly(wire: Wire, rubbish: bytes) -> None:
    """Other bytes replace the end of the chunked body, in one piece with the answer."""
    streamed = msgspec.structs.replace(REQUEST, streamed_choices=1)
    for request, body in ((REQUEST, BODY), (streamed, events(*PARIS))):
        wire.replies = [chunked(body, end=False) + rubbish]
        async with wire.client(total_s=WITHIN_S) as client:
            assert isinstance(classify(await client.post(request)), Completion)


async def test_an_answer_without_a_length_is_kept_when_surplus_data_follows(wire: Wire) -> None:
    """Only its JSON shows where it ends."""
    for rubbish in (b"\r\n\r\n", b"rubbish", OTHER, BODY, b"\x00\xff", b"<html>"):
        received = await wire.exchange(Closing(b"HTTP/1.0 200 OK\r\n\r\n" + BODY + rubbish))
        assert isinstance(classify(received), Completion)


@pytest.mark.usefixtures("parsers")
async def test_a_broken_body_is_no_answer_and_holds_up_no_request(wire: Wire) -> None:
    """A chunk without a size, after the head: the client does not wait for the rest."""
    wire.replies = [b"", reply(200, BODY)]
    async with wire.client(total_s=WITHIN_S) as client:
        sending = asyncio.create_task(client.post(REQUEST))
        await until(lambda: wire.requests)
        wire.send_unrequested(chunked(BODY[:20], end=False))
        for _ in range(4):
            await asyncio.sleep(0)
        wire.send_unrequested(b"no size\r\n")
        assert (await sending).fault == "cut_off"
        assert client.surplus_answers == 0
        assert (await client.post(REQUEST)).body == BODY


@pytest.mark.parametrize("goodbye", [reply(408, b"too slow"), b"HTTP/1.0 408 Request Time-out\r\n\r\n"])
async def test_an_idle_connection_closed_with_a_408_costs_no_failure(wire: Wire, goodbye: bytes) -> None:
    wire.replies = [reply(200, BODY)]
    async with wire.client() as client:
        assert (await client.post(REQUEST)).body == BODY
        wire.send_unrequested(goodbye)
        assert (await client.post(REQUEST)).body == BODY
        assert client.surplus_answers == 0
    assert wire.connections == 2


@pytest.fixture
def tls(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A TLS context of a server that the client trusts."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@pytest.fixture
async def secure(tls: ssl.SSLContext) -> AsyncIterator[Wire]:
    async with Wire().listening(tls) as wire:
        yield wire


async def test_surplus_data_buffered_by_tls_is_given_to_no_request(secure: Wire) -> None:
    """TLS may buffer data that the kernel no longer has, if it arrived faster than it was read."""
    large = json.dumps({**GOOD, "padding": "x" * 900_000}).encode()
    secure.replies = [reply(200, large) + OTHER, reply(200, BODY) + OTHER[:40], reply(200, large), reply(200, BODY)]
    timeouts = Timeouts(total_s=WITHIN_S)
    async with Client(f"https://{secure.address}/v1", Secrets(KEY), timeouts, 4, max_answer_bytes=2**20) as client:
        bodies = [(await client.post(REQUEST)).body for _ in range(4)]
        assert [body == sent for body, sent in zip(bodies, (large, BODY, large, BODY), strict=True)] == [True] * 4
        assert client.surplus_answers == 2


async def test_data_sent_before_any_request_is_no_response() -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OTHER)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    async with (
        server,
        Client(
            "http://127.0.0.1:{1}/v1".format(*server.sockets[0].getsockname()),
            Secrets(KEY),
            Timeouts(total_s=WITHIN_S),
            4,
        ) as client,
    ):
        received = await client.post(REQUEST)
        assert (received.fault, received.body, received.maybe_billed) == ("connection", b"", False)
        assert client.surplus_answers == 1


async def test_a_switch_of_protocols_is_no_response(wire: Wire) -> None:
    received = await wire.exchange(SURPLUS["a switch"], total_s=WITHIN_S)
    assert (received.fault, received.status) == ("bad_answer", None)


@pytest.mark.parametrize("body", [b"[" * 50_000, b'{"a":' * 50_000, b'{"a":' + b"[" * 2_000 + b"]" * 2_000 + b"}x"])
def test_a_deeply_nested_body_is_taken_unchanged(body: bytes) -> None:
    assert body.startswith(first_object(body))
