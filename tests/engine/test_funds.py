"""A plan above the balance is warned of; a balance that nobody tells stops nobody."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from batchmix.engine.funds import shortage
from batchmix.prices.balance import get_balance
from batchmix.redact import Secrets
from tests.calling import batchmix
from tests.gateway import ADDRESS, Gateway

KEY = "sk-balance-marker-1234567890"


def call(gateway: Gateway, tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Give a command for ten rows of 1,100 tokens, at 0.00021 USD each."""
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(json.dumps({"prompt": f"{number} " * 400}) + "\n" for number in range(10)))
    settings = ["--model", "gpt-4o-mini", "--base-url", ADDRESS, "--out", str(tmp_path / "run")]
    settings += ["--set", "params.max_tokens=100"]
    environ = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "AIHUBMIX_API_KEY": KEY, "http_proxy": gateway.url}
    environ |= {"no_proxy": "", "NO_PROXY": ""}
    return batchmix(*words[:1], str(source), *settings, *words[1:], **environ)


@pytest.mark.parametrize("words", [("run", "--progress", "none"), ("plan",)], ids=lambda words: words[0])
def test_a_plan_above_the_balance_is_warned_of_and_goes_on(
    gateway: Gateway, tmp_path: Path, words: tuple[str, ...]
) -> None:
    gateway.limit_usd = 1.5001
    found = call(gateway, tmp_path, *words)
    assert found.returncode == 0
    assert "the balance is $0.0001, and what is left to send costs about $0." in found.stderr
    assert gateway.keys == {f"Bearer {KEY}"}
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert KEY not in found.stdout + found.stderr + kept.decode("utf-8", "replace")


@pytest.mark.parametrize("limit", [100.0, 100_000_000.0, None], ids=["enough", "no bound", "not told"])
def test_nothing_is_said_where_it_will_do_or_nobody_tells(
    gateway: Gateway, tmp_path: Path, limit: float | None
) -> None:
    gateway.limit_usd = limit
    found = call(gateway, tmp_path, "run", "--progress", "none")
    assert found.returncode == 0
    assert "balance" not in found.stderr


def test_the_stand_in_tells_it_where_it_has_one(tmp_path: Path, gateway: Gateway) -> None:
    prices = ["--set", 'prices."gpt-4o-mini"={input=1000.0, output=1000.0}']
    found = call(gateway, tmp_path, "plan", "--base-url", "rehearsal:?balance_usd=0.5", *prices)
    assert "the balance is $0.5000" in found.stderr
    found = call(gateway, tmp_path, "plan", "--base-url", "rehearsal:", *prices)
    assert "balance" not in found.stderr + found.stdout


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"<html>",
        b'{"hard_limit_usd": "much"}',
        b'{"hard_limit_usd": 1e999}',
        b'{"hard_limit_usd": NaN}',
        b'{"hard_limit_usd": %b}' % (b"9" * 400),
        b'{"hard_limit_usd": %b}' % (b"9" * 5000),
        b"[" * 20_000,
    ],
)
def test_odd_answers_are_no_balance(body: bytes) -> None:
    with _saying(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body)) as url:
        assert get_balance(url, Secrets(KEY), 5.0) is None


def test_silence_is_waited_for_no_longer_than_asked() -> None:
    with _saying(b"") as url:
        began = time.monotonic()
        assert get_balance(url, Secrets(KEY), 0.2) is None
        assert time.monotonic() - began < 2


def test_a_cap_of_the_jobs_own_is_what_a_run_can_cost() -> None:
    assert shortage(1.0, (2.0, 4.0), None)
    assert not shortage(1.0, (2.0, 4.0), 0.9)
    assert not shortage(1.0, (None, None), None)
    assert "$2.0000 and more" in shortage(1.0, (2.0, None), None)


@contextlib.contextmanager
def _saying(reply: bytes) -> Iterator[str]:
    """Answer each connection with some bytes, or with silence where there are none."""
    held: list[socket.socket] = []

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = server.accept()
                held.append(connection)
                if reply:
                    connection.recv(65536)
                    connection.sendall(reply)
                    connection.close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}/v1"
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in held:
                connection.close()
