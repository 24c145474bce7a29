"""Whole runs over a faulty network: the cause is reported at once, and a single reply never stops a run."""

from __future__ import annotations

import contextlib
import json
import re
import resource
import shlex
import socket
import socketserver
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from batchmix.cli.run import _warn_of_plain_http
from batchmix.engine import bottlenecks, early_failures
from batchmix.engine.run_status import LaneStatus, Phase, RunStatus
from batchmix.errors import ProviderStopped
from batchmix.progress.lines import summary_line
from batchmix.records import Bottleneck
from tests.calling import batchmix
from tests.conftest import Bench
from tests.polling import WITHIN_S, wait_until
from tests.streams import DONE, chunk, content_chunks, events, usage
from tests.wire import CERTIFICATE, EXPIRED, GOOD, PAGE, error, page, reply

Answer = Callable[[str, dict[str, Any], int], bytes]
"""Returns the response to a path, a body, and the number of times that this body was sent."""


class Server(socketserver.ThreadingTCPServer):
    """Sends the responses that `answer` returns."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.address = "127.0.0.1:{1}".format(*self.server_address)
        self.answer: Answer = lambda path, body, attempt: reply(200, GOOD)
        self.requests: list[tuple[str, dict[str, Any]]] = []

    def handle_error(self, *_: object) -> None:
        """Ignore a client that disconnects."""


class _Connection(socketserver.StreamRequestHandler):
    server: Server

    def handle(self) -> None:
        while True:
            head = b""
            if self.rfile.peek(1)[:1] == b"\x16":  # the client speaks TLS
                self.wfile.write(reply(400, b"what?"))
                return
            while (line := self.rfile.readline()) not in {b"\r\n", b""}:
                head += line
            if not head:
                return
            length = re.search(rb"content-length: (\d+)", head.lower())
            text = self.rfile.read(int(length[1]) if length else 0)
            body = json.loads(text) if text else {}
            path = head.split(b" ", 2)[1].decode()
            self.server.requests.append((path, body))
            times = sum(
                json.dumps(earlier.get("messages")) == json.dumps(body.get("messages"))
                for _, earlier in self.server.requests
            )
            self.wfile.write(self.server.answer(path, body, times))


def running(server: Server) -> Iterator[Server]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def server(bench: Bench) -> Iterator[Server]:
    found = Server()
    bench.settings["provider"]["base_url"] = f"http://{found.address}/v1"
    yield from running(found)


@pytest.fixture
def secure(bench: Bench, certificate: Path) -> Iterator[Server]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    found = Server(context)
    bench.settings["provider"]["base_url"] = f"https://{found.address}/v1"
    yield from running(found)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    path = tmp_path / "certificate.pem"
    path.write_text(CERTIFICATE)
    return path


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up an unreachable host at once, not after ten seconds."""
    monkeypatch.setattr(early_failures, "_NO_REPLY_S", 0.1)
    monkeypatch.setattr(early_failures, "_NO_REPLY_EVERY_S", 0.05)


def stopped(bench: Bench) -> str:
    """Return why a run stops; check that it sent little and left each row for the next start."""
    began = time.monotonic()
    with pytest.raises(ProviderStopped) as found:
        bench.run()
    assert time.monotonic() - began < WITHIN_S, "it stops in seconds, and waits for no outage to pass"
    assert bench.start()["exit_code"] == 3
    assert json.loads((bench.out / "summary.json").read_text())["unanswered"] == len(
        bench.source.read_text().splitlines()
    )
    return str(found.value)


# Causes


def test_an_untrusted_certificate_is_reported_at_once(
    bench: Bench, secure: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.write(3)
    assert re.search("certificate is not accepted: self.signed.*SSL_CERT_FILE", stopped(bench))
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/ca.pem")
    assert "SSL_CERT_FILE names /nowhere/ca.pem, which does not exist" in stopped(bench)


def test_an_expired_certificate_is_reported_with_this_machines_clock(
    bench: Bench, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate.write_text(EXPIRED)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    found = Server(context)
    bench.settings["provider"]["base_url"] = f"https://{found.address}/v1"
    bench.write(3)
    for _ in running(found):
        why = stopped(bench)
        assert "certificate has expired; it has to be renewed there, unless this machine's clock is wrong: 20" in why
        assert "SSL_CERT_FILE" not in why


def test_a_certificate_for_another_name_is_reported_at_once(
    bench: Bench, secure: Server, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    bench.write(3)
    bench.settings["provider"]["base_url"] = f"https://localhost:{secure.server_address[1]}/v1"
    assert re.search("certificate is not accepted: Hostname mismatch.*'localhost'; provider.base_url", stopped(bench))
    bench.settings["provider"]["base_url"] = f"https://{secure.address}/v1"
    assert bench.run().totals.ok == 3


def test_tls_in_place_of_plain_http_and_the_reverse_are_reported(
    bench: Bench, secure: Server, server: Server, hasty: None
) -> None:
    bench.write(3)
    bench.settings["provider"]["base_url"] = f"https://{server.address}/v1"
    assert "it answers without TLS" in stopped(bench)
    bench.settings["provider"]["base_url"] = f"http://{secure.address}/v1"
    assert "must begin with https://" in stopped(bench)
    bench.settings["provider"]["base_url"] = f"http://{server.address}/v1"
    said_by = (
        b"<html><center>The plain HTTP request was sent to HTTPS port</center></html>",
        b"Client sent an HTTP request to an HTTPS server.\n",
        b"\x15\x03\x01\x00\x02\x02\x46",
    )
    for words in said_by:
        server.answer = lambda path, body, attempt, words=words: (
            words if words[0] < 32 else reply(400, words, kind="text/html")
        )  # type: ignore[misc]
        assert "https://" in stopped(bench)


def squid(status: int, name: str) -> bytes:
    return reply(status, PAGE, f"X-Squid-Error: {name} 0", "Server: squid/6.6", kind="text/html")


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxys_own_errors_are_reported_by_name(
    bench: Bench, server: Server, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(f"{scheme}_proxy", f"http://{server.address}")
    bench.settings["provider"]["base_url"] = f"{scheme}://provider.invalid/v1"
    bench.write(2)
    for status, name in ((403, "ERR_ACCESS_DENIED"), (407, "ERR_CACHE_ACCESS_DENIED"), (503, "ERR_DNS_FAIL")):
        server.answer = lambda path, body, attempt, status=status, name=name: squid(status, name)  # type: ignore[misc]
        why = stopped(bench)
        assert f"the proxy {server.address} answered {status} ({name})" in why
        assert ("a user name and a password" in why) == (status == 407)
    if scheme == "http":  # in the middle of a run it is transient
        server.answer = lambda path, body, attempt: (
            squid(503, "ERR_CONNECT_FAIL") if attempt == 1 and "1" in json.dumps(body["messages"]) else reply(200, GOOD)
        )
        bench.settings["limits"]["concurrency"] = 1
        assert bench.run().totals.ok == 2


def test_a_missing_host_stops_a_run_of_few_rows_and_leaves_them_to_the_next_start(
    bench: Bench, server: Server, hasty: None
) -> None:
    bench.write(3)
    bench.settings["retry"] = {"attempts": 2}
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = "127.0.0.1:{1}".format(*taken.getsockname())
        bench.settings["provider"]["base_url"] = f"http://{address}/v1"
        assert f"can't connect to {address}: Connection refused" in stopped(bench)
        bench.settings["provider"]["base_url"] = "http://nowhere.invalid/v1"
        assert "can't connect to nowhere.invalid" in stopped(bench)
    bench.settings["provider"]["base_url"] = f"http://{server.address}/v1"
    assert bench.run().totals.ok == 3


def test_a_host_that_disappears_leaves_the_last_rows_to_the_next_start(bench: Bench, server: Server) -> None:
    bench.settings["limits"]["concurrency"] = 1
    bench.settings["retry"] = {"attempts": 2}
    bench.write(5)

    def answer(path: str, body: dict[str, Any], attempt: int) -> bytes:
        if len(server.requests) == 3:
            server.socket.close()
        return reply(200, GOOD, "Connection: close")

    server.answer = answer
    with pytest.raises(ProviderStopped, match=r"the provider can't be reached any more: can't connect to .*refused"):
        bench.run()
    summary = json.loads((bench.out / "summary.json").read_text())
    assert (summary["ok"], summary["failed"], summary["unanswered"]) == (3, 0, 2)


def test_rows_stay_open_if_no_reply_was_ever_received(bench: Bench, server: Server) -> None:
    """They were sent and may have been billed; the provider failed, not the rows."""
    silence = threading.Event()

    def answer(path: str, body: dict[str, Any], attempt: int) -> bytes:
        silence.wait(WITHIN_S)
        return b""

    server.answer = answer
    bench.write(2)
    bench.settings |= {"retry": {"attempts": 2}, "timeouts": {"total_s": 1}}
    assert "the provider never answered: no whole answer from" in stopped(bench)
    silence.set()


def test_a_restart_of_the_server_is_waited_out(bench: Bench, server: Server, hasty: None) -> None:
    bench.settings["limits"]["concurrency"] = 1
    bench.write(6)
    server.answer = lambda path, body, attempt: b"" if len(server.requests) in range(3, 8) else reply(200, GOOD)
    first = server.answer

    def answer(path: str, body: dict[str, Any], attempt: int) -> bytes:
        if (response := first(path, body, attempt)) == b"":
            raise ConnectionResetError
        return response

    server.answer = answer
    assert bench.run().totals.ok == 6


def _connections(listener: socket.socket) -> int:
    """Return the number of connections that wait to be accepted."""
    listener.setblocking(False)
    found = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            listener.accept()[0].close()
            found += 1
    return found


def test_a_host_that_hangs_before_tls_stops_the_run_after_its_first_connections(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three connections have waited as long as an unreachable host is tried, which is enough."""
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it accepts, and sends nothing
        bench.settings["provider"]["base_url"] = "https://127.0.0.1:{1}/v1".format(*silent.getsockname())
        bench.settings["timeouts"] = {"connect_s": 0.7}
        monkeypatch.setattr(early_failures, "_NO_REPLY_S", 0.5)
        bench.write(3)
        assert "no connection to 127.0.0.1" in stopped(bench)
        assert _connections(silent) == 3, "nobody was tried twice"


# A stop is never wider than the error


def test_one_web_page_among_the_first_replies_stops_nothing(bench: Bench, server: Server) -> None:
    server.answer = lambda path, body, attempt: page(200) if len(server.requests) < 3 else reply(200, GOOD)
    bench.settings["limits"]["concurrency"] = 64
    bench.write(200)
    assert bench.run().totals.ok == 200


def test_answers_of_an_earlier_start_confirm_the_address(bench: Bench, server: Server) -> None:
    bench.write(10)
    assert bench.run().totals.ok == 10
    bench.write(20, first=10)
    server.answer = lambda path, body, attempt: page(200) if attempt == 1 else reply(200, GOOD)
    assert bench.run().totals.ok == 30


def test_answers_of_another_model_confirm_the_address(bench: Bench, server: Server) -> None:
    """What remains is a transient error of that model's rows, which uses up their attempts."""
    bench.settings["models"] = [{"id": "good"}, {"id": "bad"}]
    del bench.settings["model"]

    def answer(path: str, body: dict[str, Any], attempt: int) -> bytes:
        if body["model"] == "good":
            return reply(200, GOOD)
        wait_until(lambda: bench.run_status.ok)  # until its answer is counted
        return page(200)

    server.answer = answer
    bench.settings["retry"] = {"attempts": 2}
    bench.write(4)
    assert bench.run().totals.models == {"good": {"ok": 4}, "bad": {"failed": 4}}


def two_paths(bench: Bench, rows: int) -> None:
    """Write Batch lines, every third of them for embeddings."""
    lines = []
    for number in range(rows):
        path = "/v1/embeddings" if number % 3 == 0 else "/v1/chat/completions"
        body = {"model": "m", "messages": [{"role": "user", "content": f"row {number}"}], "input": f"row {number}"}
        lines.append({"custom_id": f"r{number}", "method": "POST", "url": path, "body": body})
    bench.source.write_text("\n".join(map(json.dumps, lines)))
    bench.settings.pop("model", None)
    bench.settings["input"].pop("prompt", None)


VECTOR = {"data": [{"index": 0, "embedding": [0.5]}], "usage": {"prompt_tokens": 1, "total_tokens": 1}}


@pytest.mark.parametrize(
    ("refusal", "why"),
    [
        (reply(501, error("API not implemented")), "API not implemented"),
        (reply(404, {"detail": "Not Found"}), "Not Found"),
        (page(404), "HTTP 404 with a web page"),
        (page(200), "a web page"),
        (reply(405, b""), "HTTP 405 without a message"),
        (reply(308, b"", "Location: /v2/embeddings"), "redirects to /v2/embeddings"),
    ],
    ids=["501", "404", "404 page", "200 page", "405", "308"],
)
def test_a_missing_path_stops_the_requests_to_it_and_no_others(
    bench: Bench, server: Server, refusal: bytes, why: str
) -> None:
    two_paths(bench, 60)
    server.answer = lambda path, body, attempt: refusal if "embeddings" in path else reply(200, GOOD)
    with pytest.raises(ProviderStopped, match=f"/embeddings: .*{why}"):
        bench.run()
    sent = Counter(path for path, _ in server.requests)
    assert sent["/v1/chat/completions"] == 40
    assert 3 <= sent["/v1/embeddings"] <= 8, "not decided by a single reply, and nothing more is sent once it is"
    assert Counter((row["status"], row["error_type"]) for row in bench.rows()) == {
        ("ok", None): 40,
        ("failed", "model_stopped"): 20,
    }
    server.answer = lambda path, body, attempt: reply(200, VECTOR)
    assert bench.run().totals.ok == 60


def test_a_path_with_answers_is_not_stopped_by_one_404(bench: Bench, server: Server) -> None:
    two_paths(bench, 60)
    bench.settings["limits"]["concurrency"] = 1
    odd = {"row 30": reply(501, error("no such feature")), "row 33": reply(404, b""), "row 36": page(200)}
    server.answer = lambda path, body, attempt: odd.get(body["input"], reply(200, VECTOR if "embed" in path else GOOD))
    bench.settings["retry"] = {"attempts": 2}
    totals = bench.run().totals
    assert (totals.ok, totals.failed) == (57, 3)


def test_a_missing_path_is_reported_for_few_rows_too(bench: Bench, server: Server) -> None:
    server.answer = lambda path, body, attempt: reply(404, {"detail": "Not Found"})
    bench.write(2)
    assert "Not Found; look at provider.base_url" in stopped(bench)
    assert len(server.requests) in {3, 4}, "three replies decide; the other row's retry may be in flight by then"
    assert bench.run(keep_going=True).totals.failed == 2


def test_a_hanging_request_does_not_delay_the_stop(
    bench: Bench, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(early_failures, "_STUCK_S", 0.2)
    bench.settings["timeouts"] = {"drain_s": 0.2}
    hanging = threading.Event()

    def answer(path: str, body: dict[str, Any], attempt: int) -> bytes:
        if "word 0" in json.dumps(body):
            hanging.wait(WITHIN_S)
        return page(200)

    server.answer = answer
    bench.write(12)
    assert "a web page" in stopped(bench)
    assert len(server.requests) <= 9
    hanging.set()


def test_a_model_waits_for_other_models_before_it_reports_a_wrong_address(
    bench: Bench, server: Server, hasty: None
) -> None:
    bench.settings["models"] = [{"id": "slow"}, {"id": "fast"}]
    del bench.settings["model"]
    fast: list[int] = []

    def answer(path: str, body: dict[str, Any], attempt: int) -> bytes:
        if body["model"] == "slow":
            time.sleep(0.5)
            return reply(200, GOOD)
        fast.append(attempt)
        return page(200) if len(fast) <= 4 else reply(200, GOOD)

    server.answer = answer
    bench.settings["limits"]["concurrency"] = 4
    bench.write(4)
    assert bench.run().totals.models == {"slow": {"ok": 4}, "fast": {"ok": 4}}


# Streams that lack their end


@pytest.mark.parametrize("last", [[usage(), DONE], [usage()]], ids=["done", "usage"])
def test_a_stream_without_a_finish_reason_is_requested_once_more_without_streaming(
    bench: Bench, server: Server, last: list[object]
) -> None:
    """As some gateways stream n = 2: only the first choice ever gets a finish_reason."""
    stream = events(*content_chunks("a"), *content_chunks("b", index=1), chunk(finish="stop"), *last)

    def answer(path: str, body: dict[str, Any], attempt: int) -> bytes:
        return reply(200, stream, kind="text/event-stream") if body.get("stream") else reply(200, GOOD)

    server.answer = answer
    bench.settings |= {"params": {"n": 2, "max_tokens": 9000}, "retry": {"attempts": 1}}
    bench.settings["limits"]["concurrency"] = 4
    bench.write(40)
    totals = bench.run().totals
    streamed = sum("stream" in body for _, body in server.requests)
    assert (totals.ok, totals.maybe_billed) == (40, 0)
    assert 1 <= streamed <= 4, "then that model is no longer streamed unasked"
    assert totals.billed_retries == streamed
    assert len(server.requests) == 40 + streamed
    assert all("stream_options" not in body for _, body in server.requests if "stream" not in body)
    server.requests.clear()
    bench.write(5, first=40)
    assert bench.run().totals.ok == 45
    assert not any("stream" in body for _, body in server.requests), "nor in the next start"
    server.requests.clear()
    bench.write(5, first=45)
    bench.settings["params"]["stream"] = True
    assert bench.run().totals.ok == 50
    assert [body.get("stream") for _, body in server.requests].count(True) == 5, "unless the job asks for it"


def test_findings_about_a_provider_are_stored_during_the_run(
    bench: Bench, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So findings survive a kill: unrequested responses, and streams without their end."""
    monkeypatch.setattr(bottlenecks, "_FIRST_S", 0.0)
    monkeypatch.setattr(bottlenecks, "_EVERY_S", 0.0)
    stream = events(*content_chunks("a"), usage(), DONE)
    seen: list[dict[str, Any]] = []
    plain: list[int] = []

    def answer(path: str, body: dict[str, Any], attempt: int) -> bytes:
        if body.get("stream"):
            return reply(200, stream, kind="text/event-stream")
        until = time.monotonic() + WITHIN_S
        plain.append(attempt)
        while len(plain) == 2 and not seen and time.monotonic() < until:
            time.sleep(0.05)
            seen.extend(filter(lambda start: start.get("surplus_answers"), [bench.start()]))
        return reply(200, GOOD) + b"HTTP/1."

    server.answer = answer
    bench.settings["params"] = {"max_tokens": 9000}
    bench.settings["limits"]["concurrency"] = 1
    bench.write(2)
    bench.run()
    assert [(start["surplus_answers"], start["unstreamed"], start["ended_at"]) for start in seen] == [(1, ["m"], None)]


# Waits and file descriptors


@pytest.mark.parametrize("header", ["Retry-After: 99999999", "Retry-After: Fri, 31 Dec 2099 23:59:59 GMT", "retry-after-ms: 99999999999"])  # fmt: skip
@pytest.mark.parametrize(("rows", "status"), [(1, 429), (9, 503)])
def test_an_endless_retry_after_stops_the_run_and_is_reported(
    bench: Bench, server: Server, header: str, rows: int, status: int
) -> None:
    server.answer = lambda path, body, attempt: reply(status, error("Too many requests"), header)
    bench.settings["retry"] = {"outage_s": 0.2}
    bench.write(rows)
    assert re.search(
        r"the provider asks to wait 7 days, until 20\d\d-\d\d-\d\d \d\d:\d\d; start again then", stopped(bench)
    )


@pytest.mark.parametrize("header", ["retry-after-ms: 100", "X-None: 1"])
def test_repeated_short_waits_stop_the_run_too(bench: Bench, server: Server, header: str) -> None:
    server.answer = lambda path, body, attempt: reply(429, error("Too many requests"), header)
    bench.settings["retry"] = {"outage_s": 1.0}
    bench.write(8)
    assert re.search(r"nothing else came for \d s \(retry.outage_s\): Too many requests", stopped(bench))


def test_an_endless_retry_after_for_all_requests_at_once_is_tried_once_more(bench: Bench, server: Server) -> None:
    """As with a maintenance page that is gone a moment later."""
    server.answer = lambda path, body, attempt: (
        reply(503, PAGE, "Retry-After: 99999999") if attempt == 1 else reply(200, GOOD)
    )
    bench.settings["retry"] = {"outage_s": 0.5}
    bench.write(8)
    assert bench.run().totals.ok == 8


@pytest.mark.parametrize("status", [503, 529])
def test_a_page_without_a_reason_between_answers_costs_no_attempt(bench: Bench, server: Server, status: int) -> None:
    """As nginx's `limit_req` sends it: a web page with 503, because requests come too fast."""
    server.answer = lambda path, body, attempt: (
        page(status) if attempt <= 2 and "word 9" in json.dumps(body["messages"]) else reply(200, GOOD)
    )
    bench.settings["retry"] = {"attempts": 1}
    bench.write(20)
    assert bench.run().totals.ok == 20


def test_the_bar_shows_until_when_the_provider_asks_to_wait() -> None:
    at = time.time() + 500
    lane = LaneStatus("m", limited_by=Bottleneck.PAUSE, paused_until=at)
    line = summary_line(RunStatus(Phase.SENDING, results=9, lanes=[lane]), [])
    assert f"requested by the provider until {time.strftime('%H:%M:%S', time.localtime(at))}" in line


def test_a_low_limit_of_open_files_gives_a_smaller_pool(bench: Bench, server: Server) -> None:
    bench.write(300)
    call = [
        sys.executable, "-m", "batchmix", "run", str(bench.source), "--model", "m", "--prompt", "{{ text }}", "--base-url",
        f"http://{server.address}/v1", "--out", str(bench.out), "--set", "provider.api_key_env=", "--progress", "none",
    ]  # fmt: skip
    done = subprocess.run(
        ["sh", "-c", f"ulimit -n 64; exec {shlex.join(call)}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"no more than \d+ requests are sent at once, not 300: .*ulimit -n", done.stderr)
    assert "Traceback" not in done.stderr
    assert len(server.requests) == 300


def test_a_lack_of_free_file_descriptors_is_waited_out(bench: Bench, server: Server) -> None:
    """Other code in the process takes all descriptors, and releases them again."""
    hoard: list[socket.socket] = []
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)

    def answer(path: str, body: dict[str, Any], attempt: int) -> bytes:
        if len(server.requests) == 5:
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
            threading.Timer(0.3, resource.setrlimit, (resource.RLIMIT_NOFILE, limits)).start()
        return reply(200, GOOD, "Connection: close")

    server.answer = answer
    bench.settings |= {"retry": {"attempts": 1}, "output": {**bench.settings["output"], "shard_rows": 1000}}
    bench.settings["limits"]["concurrency"] = 2
    bench.write(30)
    try:
        assert bench.run().totals.ok == 30
    finally:
        hoard.clear()
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


# In clear text


@pytest.mark.parametrize(
    "host",
    ["127.evil.invalid", "localhost.evil.com", "127.0.0.1.evil.com", "evil.com", "10.0.0.1", "[::2]", "LOCALHOST.evil.com",
     "[::ffff:10.0.0.1]", "126.1", "localhost@evil.com", "[fe80::1]"],
)  # fmt: skip
def test_sending_a_key_in_clear_text_gives_a_warning(host: str, capsys: pytest.CaptureFixture[str]) -> None:
    _warn_of_plain_http(f"http://{host}:8000/v1")
    assert "unencrypted" in capsys.readouterr().err


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.1", "localhost", "LocalHost", "localhost.", "[::1]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]",
     "0.0.0.0", "[::]", "127.200.3.4", "0x7f.1"],
)  # fmt: skip
def test_plain_http_to_this_machine_gives_no_warning(host: str, capsys: pytest.CaptureFixture[str]) -> None:
    for url in (f"http://{host}:8000/v1", f"http://{host}/v1", "https://evil.com/v1"):
        _warn_of_plain_http(url)
    assert capsys.readouterr().err == ""


def test_plain_http_to_a_host_named_like_this_machine_gives_a_warning(bench: Bench) -> None:
    bench.write(1)
    call = ("plan", "run")[1:]
    done = batchmix(
        *call, str(bench.source), "--model", "m", "--prompt", "{{ text }}", "--base-url", "http://127.evil.invalid/v1",
        "--out", str(bench.out), "--deadline", "0.5", AIHUBMIX_API_KEY="sk-1234567890",
    )  # fmt: skip
    assert done.returncode == 3
    assert "unencrypted" in done.stderr
