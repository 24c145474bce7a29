"""Every behaviour of a server or network gives one `Exchange`, which states what may have been billed."""

from __future__ import annotations

import asyncio
import gzip
import json
import resource
import socket
import ssl
import threading
import time
import zlib
from pathlib import Path
from typing import Any

import aiohttp.compression_utils
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from batchmix import __version__
from batchmix.errors import JobError
from batchmix.http.client import Client
from batchmix.job import Timeouts
from batchmix.records import Completion, Exchange, Failure, Request
from batchmix.redact import Secrets
from batchmix.responses.classify import classify
from batchmix.responses.rate_limits import retry_after_s
from tests.polling import WITHIN_S, until
from tests.wire import GOOD, KEY, REQUEST, Closing, Early, Reply, Wire, error, reply

BODY = json.dumps(GOOD).encode()


def chunked(*pieces: bytes, end: bool = True) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n" * end


# Requests


async def test_a_request_is_sent_unchanged_with_the_key_and_nothing_else(wire: Wire) -> None:
    wire.replies = [reply(200, GOOD, "Set-Cookie: track=1; Path=/")]
    async with Client(wire.url, Secrets(KEY, {"APP-Code": "discount"}), Timeouts(), 4) as client:
        await client.post(REQUEST)
        await client.post(REQUEST)
    for request in wire.requests:
        head, _, body = request.partition(b"\r\n\r\n")
        first, *fields = head.decode().split("\r\n")
        assert (first, body) == ("POST /v1/chat/completions HTTP/1.1", REQUEST.body)
        assert dict(field.split(": ") for field in fields) == {
            "Host": wire.address,
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Accept-Encoding": "gzip, deflate",
            "User-Agent": f"batchmix/{__version__}",
            "APP-Code": "discount",
            "Authorization": f"Bearer {KEY}",
            "Content-Length": str(len(REQUEST.body)),
        }
    assert wire.connections == 1


async def test_a_large_request_is_sent_whole(wire: Wire) -> None:
    large = Request(0, "m", 0, "h", "/chat/completions", b"x" * 3_000_000, 3, None)
    async with wire.client() as client:
        assert (await client.post(large)).status == 200
    assert wire.requests[0].endswith(b"\r\n\r\n" + large.body)


async def test_more_than_a_hundred_requests_are_in_flight_at_once(wire: Wire) -> None:
    wire.replies = [None]
    async with Client(wire.url, Secrets(), Timeouts(), 150) as client:
        sending = [asyncio.create_task(client.post(REQUEST)) for _ in range(150)]
        await until(lambda: len(wire.requests) == 150)
        assert wire.connections == 150
        wire.hang_up()
        assert {found.fault for found in await asyncio.gather(*sending)} == {"connection"}


async def test_the_limit_of_file_descriptors_is_raised_for_many_connections(wire: Wire) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
        async with Client(wire.url, Secrets(), Timeouts(), 500):
            assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= min(564, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_netrc_is_never_read(wire: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    await wire.exchange()
    assert f"authorization: bearer {KEY}".encode() in wire.requests[0].lower()


# Responses


async def test_an_exchange_holds_the_response_and_its_times(wire: Wire) -> None:
    began = time.perf_counter()
    received = await wire.exchange(reply(200, GOOD, "x-aihubmix-request-id: rid-7", "X-Aihubmix-Model: billed"))
    took_s = time.perf_counter() - began
    assert received == Exchange(
        received.sent_at_ms,
        received.finished_at_ms,
        received.latency_s,
        200,
        BODY,
        "application/json",
        "rid-7",
        "billed",
    )
    assert 1.6e12 < received.sent_at_ms <= received.finished_at_ms
    assert 0 < received.latency_s <= took_s
    assert abs(received.finished_at_ms - received.sent_at_ms - received.latency_s * 1000) <= 1


@pytest.mark.parametrize(
    "answer",
    [
        reply(200, gzip.compress(BODY), "Content-Encoding: gzip"),
        reply(200, zlib.compress(BODY), "Content-Encoding: deflate"),
        chunked(BODY[:7], BODY[7:]),
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + reply(200, BODY),
        Closing(b"HTTP/1.0 200 OK\r\n\r\n" + BODY),
        reply(200, BODY, f"X-Policy: {'x' * 60_000}"),
    ],
    ids=["gzip", "deflate", "chunked", "after hints", "up to the end", "large headers"],
)
async def test_a_body_is_received_whole_in_every_transfer_form(wire: Wire, answer: Reply) -> None:
    received = await wire.exchange(answer)
    assert (received.fault, received.status, received.body) == (None, 200, BODY)


async def test_an_answer_of_five_megabytes_is_received_whole(wire: Wire) -> None:
    body = json.dumps({**GOOD, "padding": "x" * 5_000_000}).encode()
    wire.replies = [reply(200, body), reply(200, gzip.compress(body), "Content-Encoding: gzip")]
    async with wire.client(max_answer_bytes=6_000_000) as client:
        for _ in range(2):
            received = await client.post(REQUEST)
            assert (received.fault, received.body == body) == (None, True)
    assert wire.connections == 1


@pytest.mark.parametrize("status", [204, 304])
async def test_a_response_without_a_body_is_received(wire: Wire, status: int) -> None:
    received = await wire.exchange(f"HTTP/1.1 {status} X\r\n\r\n".encode())
    assert (received.fault, received.status, received.body) == (None, status, b"")


async def test_a_redirect_is_not_followed(wire: Wire) -> None:
    received = await wire.exchange(reply(301, b"", "Location: https://elsewhere.example/v1"))
    assert (received.status, received.fault, received.fault_message) == (301, None, "https://elsewhere.example/v1")
    assert len(wire.requests) == 1


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (reply(200, GOOD, "x-aihubmix-request-id: a", "X-Request-Id: b"), "a"),
        (reply(200, GOOD, "X-Request-Id: b"), "b"),
        (reply(500, error("trouble"), "X-Request-Id: b"), "2026112300000001"),
        (reply(200, error("trouble")), "2026112300000001"),
        (reply(500, {"error": {"message": "(request id: 77-a)"}}), "77-a"),
        (reply(200, {**GOOD, "id": "(tid: 5)"}), None),
        (reply(500, b""), None),
        (reply(500, b"", f"X-Request-Id: {'9' * 5000}"), "9" * 200),
        (reply(500, b"", "X-Request-Id: a\x1b[31m\xe9".encode("latin-1").decode("latin-1")), "a?[31mé"),
    ],
)
async def test_the_trace_id_is_read_and_printable(wire: Wire, answer: bytes, expected: str | None) -> None:
    assert (await wire.exchange(answer)).request_id == expected


async def test_the_billed_model_is_read_from_the_gateways_or_the_routers_header(wire: Wire) -> None:
    routed = await wire.exchange(reply(200, GOOD, "X-Aihubmix-Router-Resolved-Model: routed"))
    assert (routed.served_model, (await wire.exchange(reply(200, GOOD))).served_model) == ("routed", None)


# Faults


@pytest.mark.parametrize(
    ("answer", "timeouts", "fault", "billed", "status", "body"),
    [
        (None, {"total_s": 0.3}, "timeout", True, None, b""),
        (reply(200, BODY)[:-20], {"total_s": 0.3}, "timeout", True, 200, BODY[:-20]),
        (Closing(b""), {}, "connection", True, None, b""),
        (Closing(b"", reset=True), {}, "connection", True, None, b""),
        (Closing(reply(200, BODY)[:20]), {}, "connection", True, None, b""),
        (Closing(reply(200, BODY)[:-20]), {}, "cut_off", True, 200, BODY[:-20]),
        (Closing(chunked(BODY[:50], end=False)), {}, "cut_off", True, 200, BODY[:50]),
        (Closing(reply(429, error("Too many requests"))[:-5]), {}, "cut_off", False, 429, None),
        (reply(200, b"nonsense", "Content-Encoding: gzip"), {}, "bad_answer", True, 200, b""),
        (Closing(reply(200, gzip.compress(BODY), "Content-Encoding: gzip")[:-40]), {}, "cut_off", True, 200, None),
        (reply(200, b"x" * 100_001), {}, "too_large", True, 200, b""),
        (reply(200, gzip.compress(b"x" * 5_000_000), "Content-Encoding: gzip"), {}, "too_large", True, 200, b""),
        (b"SSH-2.0-OpenSSH\r\n\r\n", {}, "bad_answer", True, None, b""),
        (reply(200, GOOD, f"X-Policy: {'x' * 200_000}"), {}, "bad_answer", True, None, b""),
    ],
    ids=[
        "no answer in time", "not whole in time", "closed", "reset", "cut in the headers", "cut in the body",
        "cut between chunks", "a refusal cut", "bad gzip", "gzip cut", "too large", "too large when unpacked",
        "not HTTP", "endless headers",
    ],
)  # fmt: skip
@pytest.mark.virtual_time(sockets=True)
async def test_each_broken_response_gives_an_exchange_with_its_fault(
    wire: Wire,
    answer: Reply,
    timeouts: dict[str, float],
    fault: str,
    billed: bool,
    status: int | None,
    body: bytes | None,
) -> None:
    received = await wire.exchange(answer, **timeouts)
    assert (received.fault, received.maybe_billed, received.status) == (fault, billed, status)
    assert body is None or received.body == body
    assert wire.address in received.fault_message
    assert len(wire.requests) == 1
    assert isinstance(classify(received), Failure)


async def test_a_whole_answer_counts_although_its_connection_broke(wire: Wire) -> None:
    longer = reply(200, BODY).replace(b"Content-Length: ", b"Content-Length: 1")
    for broken in (Closing(longer), Closing(chunked(BODY, end=False))):
        received = await wire.exchange(broken)
        assert (received.fault, received.body) == ("cut_off", BODY)
        assert isinstance(classify(received), Completion)


@pytest.mark.virtual_time(sockets=True)
async def test_a_request_after_a_broken_connection_gets_a_new_one(wire: Wire) -> None:
    wire.replies = [reply(200, b"x" * 200_000), reply(200, BODY), None]
    async with wire.client(total_s=0.5) as client:
        assert [(await client.post(REQUEST)).fault for _ in range(3)] == ["too_large", None, "timeout"]
    assert wire.connections == 2


async def test_an_error_response_sent_before_the_request_ended_is_received(wire: Wire) -> None:
    wire.replies = [Early(reply(413, error("Request too large"), "Connection: close"))]
    large = Request(0, "m", 0, "h", "/chat/completions", b"x" * 20_000_000, 3, None)
    async with wire.client() as client:
        received = await client.post(large)
    assert (received.status, received.fault, received.maybe_billed) == (413, None, False)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


async def test_a_request_that_reaches_no_server_counts_as_unsent() -> None:
    async with Client(f"http://127.0.0.1:{free_port()}/v1", Secrets(), Timeouts(), 4) as client:
        received = await client.post(REQUEST)
    assert (received.fault, received.maybe_billed, received.status) == ("connection", False, None)
    assert "refused" in received.fault_message.lower()


@pytest.mark.parametrize("host", ["nowhere.invalid", "a" * 64 + ".invalid"])
async def test_a_request_to_an_unresolvable_host_counts_as_unsent(host: str) -> None:
    async with Client(f"http://{host}/v1", Secrets(), Timeouts(), 4) as client:
        received = await client.post(REQUEST)
    assert (received.fault, received.maybe_billed) == ("connection", False)
    assert host in received.fault_message


@pytest.mark.parametrize("timeouts", [Timeouts(connect_s=0.1), Timeouts(total_s=0.1)])
async def test_a_request_whose_connection_is_never_made_counts_as_unsent(timeouts: Timeouts) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        crowd = [socket.socket() for _ in range(8)]
        for one in crowd:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        async with Client("http://127.0.0.1:{1}/v1".format(*full.getsockname()), Secrets(), timeouts, 4) as client:
            received = await client.post(REQUEST)
        for one in crowd:
            one.close()
    assert (received.fault, received.maybe_billed) == ("timeout", False)
    assert "no connection" in received.fault_message


# Kept connections


async def test_connections_that_the_server_closes_between_requests_cost_no_failures(wire: Wire) -> None:
    wire.replies = [Closing(reply(200, BODY))]
    async with wire.client() as client:
        for _ in range(10):
            received = await asyncio.gather(*(client.post(REQUEST) for _ in range(20)))
            assert {(found.status, found.fault, found.maybe_billed) for found in received} == {(200, None, False)}
            _, writer = await asyncio.open_connection(
                *wire.address.split(":")
            )  # gives the loop time to notice the close
            writer.close()
            await writer.wait_closed()
    assert len(wire.requests) == 200


async def test_many_connections_that_are_closed_at_once_cost_no_failures(wire: Wire) -> None:
    """All idle connections are closed, and all are reused before the loop has noticed."""
    async with wire.client() as client:
        await asyncio.gather(*(client.post(REQUEST) for _ in range(50)))
        wire.hang_up()
        await asyncio.sleep(0)
        received = await asyncio.gather(*(client.post(REQUEST) for _ in range(50)))
    assert {(found.status, found.fault, found.maybe_billed) for found in received} == {(200, None, False)}
    assert len(wire.requests) == 100


async def test_the_client_closes_an_idle_connection_before_the_server_does(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Servers keep idle connections for 5 s or longer."""
    started = time.monotonic()
    async with wire.client() as client:
        for at_s, connections in [(0.0, 1), (3.9, 1), (8.0, 2)]:
            monkeypatch.setattr("batchmix.http.connection_pool.monotonic", lambda now=started + at_s: now)
            assert (await client.post(REQUEST)).fault is None
            assert wire.connections == connections


class Shop:
    """A server in a thread that closes its first connection on request."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = "http://127.0.0.1:{1}/v1".format(*self.listener.getsockname())
        self.requests = 0
        self._close, self._closed = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        for _ in range(2):
            connection, _ = self.listener.accept()
            with connection:
                if connection.recv(65536):
                    self.requests += 1
                    connection.sendall(reply(200, BODY))
                self._close.wait(5)
            self._closed.set()

    def close_first(self) -> None:
        self._close.set()
        self._closed.wait(5)

    def end(self) -> None:
        self._close.set()
        socket.create_connection(self.listener.getsockname()).close()  # wakes an accept that still waits
        self._thread.join()
        self.listener.close()


@pytest.mark.parametrize("seen", [True, False])
async def test_an_idle_connection_that_was_closed_costs_no_failure(seen: bool) -> None:
    """The close is still in the kernel when the request is made, or the loop has already noticed it."""
    shop = Shop()
    async with Client(shop.url, Secrets(), Timeouts(), 4) as client:
        assert (await client.post(REQUEST)).status == 200
        shop.close_first()
        for _ in range(3 * seen):  # turns of the loop: one reads the close, another closes the transport
            await asyncio.sleep(0)
        received = await client.post(REQUEST)
    shop.end()
    assert (received.status, received.fault, received.maybe_billed, shop.requests) == (200, None, False, 2)


async def test_one_connection_carries_responses_of_every_form(wire: Wire) -> None:
    """One parser reads them all, so one response must not affect the next."""
    chunked = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
    pieces = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (BODY[:7], BODY[7:])) + b"0\r\n\r\n"
    zipped = gzip.compress(BODY)
    sent_zipped = chunked + b"Content-Encoding: gzip\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(zipped), zipped)
    forms = [
        (reply(200, zipped, "Content-Encoding: gzip"), 200, BODY),
        (reply(200, BODY), 200, BODY),
        (chunked + b"\r\n" + pieces, 200, BODY),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + reply(429, b"later"), 429, b"later"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        (sent_zipped, 200, BODY),
        (reply(500), 500, b""),
        (reply(200, BODY * 50), 200, BODY * 50),
    ]
    forms *= 3
    wire.replies = [form[0] for form in forms]
    async with wire.client() as client:
        for _, status, body in forms:
            received = await client.post(REQUEST)
            assert (received.status, received.body, received.fault) == (status, body, None)
    assert wire.connections == 1


@pytest.mark.parametrize("late", [False, True])
async def test_surplus_data_is_not_taken_as_the_next_response(wire: Wire, late: bool) -> None:
    """Some servers close an idle connection with a 408, even if it is in use by then."""
    unrequested = reply(408, b"too slow")
    wire.replies = [reply(200, BODY) + (b"" if late else unrequested), reply(200, BODY)]
    async with wire.client() as client:
        assert (await client.post(REQUEST)).body == BODY
        if late:
            wire.send_unrequested(unrequested)
            await until(lambda: not wire.is_connected)  # the client has read it, and closed the connection
        assert (await client.post(REQUEST)).body == BODY
    assert wire.connections == 2


async def test_a_cancellation_propagates_and_spoils_no_connection(wire: Wire) -> None:
    wire.replies = [None, reply(200, BODY)]
    async with wire.client() as client:
        cancelled = asyncio.create_task(client.post(REQUEST))
        await until(lambda: wire.requests)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        assert (await client.post(REQUEST)).body == BODY
    assert wire.connections == 2


@pytest.mark.virtual_time(sockets=True)
async def test_a_timeout_leaves_the_task_uncancelled(wire: Wire) -> None:
    task = asyncio.current_task()
    assert task
    received = await wire.exchange(None, total_s=0.05)
    assert (received.fault, task.cancelling()) == ("timeout", 0)


async def test_each_request_has_its_full_timeout(wire: Wire) -> None:
    """All requests share one timer; the end of one must not move it for the others."""
    wire.replies = [None, reply(200, BODY), None]
    async with wire.client(total_s=0.2) as client:
        first = asyncio.create_task(client.post(REQUEST))
        await until(lambda: wire.requests)
        assert (await client.post(REQUEST)).status == 200
        ends = [await client.post(REQUEST), await first]
    assert [found.fault for found in ends] == ["timeout", "timeout"]
    assert all(0.19 < found.latency_s < WITHIN_S for found in ends)


# Secrets


async def test_the_key_is_removed_from_body_and_headers(wire: Wire) -> None:
    escaped = KEY.replace("/", "\\/")
    headers = [f"{name}: {KEY}" for name in ("x-aihubmix-request-id", "X-Aihubmix-Model", "Location")]
    for status in (401, 301, 200):
        body = f'{{"error": {{"message": "bad key {KEY} or {escaped}"}}}}'.encode()
        received = await wire.exchange(reply(status, body, *headers, kind=f"application/json; {KEY}"))
        shown = repr(received) + repr(classify(received))
        assert KEY not in shown
        assert escaped not in shown
        assert received.body.count(b"***") == 2


async def test_no_fault_message_contains_the_key(wire: Wire) -> None:
    for broken in (
        Closing(b""),
        Closing(reply(200, BODY)[:-5]),
        b"SSH-2.0-OpenSSH\r\n\r\n",
        Closing(f"{KEY} x\r\n".encode()),
    ):
        assert KEY not in repr(await wire.exchange(broken))


# TLS and proxies


def server_context(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


async def test_tls_is_verified_against_the_systems_certificate_authorities(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ask(wire: Wire) -> Exchange:
        async with Client(f"https://{wire.address}/v1", Secrets(KEY), Timeouts(), 4) as client:
            return await client.post(REQUEST)

    async with Wire().listening(server_context(certificate)) as wire:
        refused = await ask(wire)
        assert (refused.fault, refused.maybe_billed, wire.requests) == ("tls", False, [])
        assert f"no secure connection to {wire.address}: " in refused.fault_message
        assert "SSL_CERT_FILE" in refused.fault_message
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert (await ask(wire)).body == BODY


async def test_plain_http_from_a_server_on_a_tls_address_is_reported() -> None:
    shop = Shop()
    async with Client(shop.url.replace("http", "https"), Secrets(KEY), Timeouts(), 4) as client:
        received = await client.post(REQUEST)
    shop.end()
    assert (received.fault, received.maybe_billed) == ("tls", False)
    assert "no secure connection" in received.fault_message
    assert "wrong version" in received.fault_message


@pytest.fixture
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


async def ask_elsewhere(url: str = "http://provider.invalid/v1") -> Exchange:
    async with Client(url, Secrets(KEY), Timeouts(), 4) as client:
        return await client.post(REQUEST)


@pytest.mark.parametrize(("name", "user"), [("http_proxy", "u:p@"), ("HTTP_PROXY", ""), ("all_proxy", "")])
async def test_the_proxy_of_the_environment_is_used(
    wire: Wire, no_proxies: pytest.MonkeyPatch, name: str, user: str
) -> None:
    no_proxies.setenv(name, f"http://{user}{wire.address}" if user else wire.address)
    assert (await ask_elsewhere()).body == BODY
    assert wire.requests[0].startswith(b"POST http://provider.invalid/v1/chat/completions HTTP/1.1\r\n")
    assert (b"Proxy-Authorization: Basic dTpw\r\n" in wire.requests[0]) == bool(user)


@pytest.mark.parametrize("user", ["u:p@", ""])
async def test_a_proxy_before_a_tls_server_does_not_receive_the_key(
    wire: Wire, no_proxies: pytest.MonkeyPatch, user: str
) -> None:
    """aiohttp would send the session's Authorization with CONNECT as Proxy-Authorization."""
    no_proxies.setenv("HTTPS_PROXY", f"http://{user}{wire.address}")
    wire.replies = [Closing(b"HTTP/1.1 403 No\r\n\r\n")]
    received = await ask_elsewhere("https://provider.invalid/v1")
    assert wire.requests[0].startswith(b"CONNECT provider.invalid:443 HTTP/1.1\r\n")
    assert KEY.encode() not in wire.requests[0]
    assert (b"Proxy-Authorization: Basic dTpw\r\n" in wire.requests[0]) == bool(user)
    assert (received.fault, received.maybe_billed) == ("proxy", False)
    assert f"the proxy {wire.address} answered 403" in received.fault_message


async def test_hosts_in_no_proxy_and_this_machine_bypass_the_proxy(wire: Wire, no_proxies: pytest.MonkeyPatch) -> None:
    no_proxies.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    assert (await wire.exchange()).body == BODY
    received = await ask_elsewhere()
    assert (received.fault, received.maybe_billed) == ("connection", False)
    no_proxies.setenv("no_proxy", "other.example,.invalid")
    assert "provider.invalid" in (await ask_elsewhere()).fault_message


def test_a_proxy_that_does_not_speak_http_is_refused_before_anything_is_sent(no_proxies: pytest.MonkeyPatch) -> None:
    no_proxies.setenv("all_proxy", "socks5://127.0.0.1:1080")
    with pytest.raises(JobError, match="socks5 proxy"):
        Client("https://provider.invalid/v1", Secrets(), Timeouts(), 4)


# Retry-After


@pytest.mark.parametrize(
    ("headers", "status", "expected"),
    [
        ({"Retry-After": "2"}, 429, 2.0),
        ({"Retry-After": " 0.5 "}, 429, 0.5),
        ({"Retry-After": "0"}, 500, 0.0),
        ({"Retry-After": "-1"}, 429, None),
        ({"Retry-After": "soon"}, 429, None),
        ({"Retry-After": "nan"}, 429, None),
        ({"Retry-After": "1_0"}, 429, None),
        ({"Retry-After": ""}, 429, None),
        ({"Retry-After": "9" * 400}, 429, None),
        ({"Retry-After": "999999999"}, 429, 604_800.0),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:10 GMT"}, 429, 10.0),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:10 -0000"}, 429, 10.0),
        ({"Retry-After": "Wed, 21 Oct 2015 07:27:00 GMT"}, 429, 0.0),
        ({"Retry-After": "Wed, 99 Oct 2015 07:27:00 GMT"}, 429, None),
        ({"retry-after-ms": "1500", "Retry-After": "9"}, 429, 1.5),
        ({"retry-after-ms": "soon", "Retry-After": "9"}, 429, 9.0),
        ({"llm_provider-retry-after": "3"}, 429, 3.0),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s"}, 429, 360.0),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "12ms"}, 503, 0.012),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "7"}, 429, 7.0),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "-1"}, 429, None),
        ({"x-ratelimit-remaining-tokens": "5", "x-ratelimit-reset-tokens": "1s"}, 429, None),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1s"}, 500, None),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1h2x"}, 429, None),
        ({"ratelimit-remaining": "0", "ratelimit-reset": "4"}, 429, 4.0),
        ({"Retry-After": "30s"}, 429, 30.0),
        ({"Retry-After": "1445412500"}, 429, 20.0),
        ({"Retry-After": "2015-10-21T07:28:50Z"}, 429, 50.0),
        ({"x-ms-retry-after-ms": "1500"}, 429, 1.5),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1445412500"}, 429, 20.0),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1445412500000"}, 429, 20.0),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "99999999s"}, 429, 604_800.0),
        ({"llm_provider-x-ratelimit-remaining-tokens": "0", "llm_provider-x-ratelimit-reset-tokens": "9s"}, 429, 9.0),
        (
            {"anthropic-ratelimit-tokens-remaining": "0", "anthropic-ratelimit-tokens-reset": "2015-10-21T07:28:09Z"},
            429,
            9.0,
        ),
        ({"RateLimit": '"default";r=0;t=50'}, 429, 50.0),
        ({"RateLimit": "limit=10, remaining=0, reset=50"}, 429, 50.0),
        ({"RateLimit": '"default";r=10;t=50'}, 429, None),
        ({}, 429, None),
    ],
)
def test_retry_after_is_read_in_all_its_forms(headers: dict[str, str], status: int, expected: float | None) -> None:
    found = retry_after_s(status, CIMultiDict(headers), 1445412480.0)  # 2015-10-21 07:28:00
    assert found == expected


NAMES = {"br": "brotli", "zstd": "zstandard"}
KNOWN = ["gzip", "deflate", "br", *["zstd"] * hasattr(aiohttp.compression_utils, "HAS_ZSTD")]
"""By this version of aiohttp; before 3.13 it ignores the last one and returns the body unchanged."""


@pytest.mark.parametrize("encoding", KNOWN)
async def test_an_undecodable_content_encoding_is_reported_by_name(wire: Wire, encoding: str) -> None:
    """An encoding that was not accepted, or that the body does not have."""
    received = await wire.exchange(reply(200, b"}{ no such thing", f"Content-Encoding: {encoding}"))
    assert received.fault == "bad_answer"
    messages = (
        f"says that it answers in {name}, which can't be read" for name in (encoding, NAMES.get(encoding, encoding))
    )
    assert any(words in received.fault_message for words in messages)


async def test_retry_after_is_read_from_error_responses_only(wire: Wire) -> None:
    waits = [(await wire.exchange(reply(status, error("x"), "Retry-After: 3"))).retry_after_s for status in (429, 200)]
    assert waits == [3.0, None]


# Arbitrary bytes


headers = st.lists(st.sampled_from([b"Content-Length: 5", b"Content-Length: -1", b"Content-Length: 99999999999999999999", b"Transfer-Encoding: chunked", b"Content-Encoding: br", b"Content-Encoding: gzip", b"Content-Encoding: zstd", b"Content-Type: \xff;;=", b"Connection: upgrade\r\nUpgrade: websocket", b"Set-Cookie: \x00=;", b"Location: //[", b"Retry-After: \xb2"]), max_size=4)  # fmt: skip
heads = st.builds(lambda status, lines: b"\r\n".join([b"HTTP/1.1 %d X" % status, *lines]) + b"\r\n\r\n", st.sampled_from([100, 101, 103, 200, 204, 302, 429, 500, 999]), headers)  # fmt: skip
streams = st.lists(st.one_of(heads, st.binary(max_size=30), st.just(reply(200, GOOD)), st.sampled_from([b"5\r\nhello\r\n", b"0\r\n\r\n", b"ffffffffffffffffffff\r\n"])), max_size=4).map(b"".join)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(streams, st.booleans())
def test_no_bytes_break_the_client(stream: bytes, reset: bool) -> None:
    async def ask() -> Exchange:
        async with Wire().listening() as wire:
            return await wire.exchange(Closing(stream, reset), total_s=20)

    received: Any = asyncio.run(ask())
    assert isinstance(received, Exchange)
    assert isinstance(classify(received), Completion | Failure)
    assert received.fault != "timeout"
