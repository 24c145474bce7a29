"""A plan above the balance gives a warning; the use of a run is counted, and kept within its budget."""

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

from batchmix.engine import reader
from batchmix.engine.account import shortage, used_so_far
from batchmix.errors import BudgetSpent
from batchmix.prices.balance import get_balance
from batchmix.redact import Secrets
from batchmix.store.shard import Shard
from tests.calling import batchmix
from tests.conftest import Bench
from tests.gateway import ADDRESS, Gateway
from tests.polling import WITHIN_S

KEY = "sk-balance-marker-1234567890"


def call(gateway: Gateway, tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Call a command for ten rows of 1,100 tokens, at 0.00021 USD each."""
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(json.dumps({"prompt": f"{number} " * 400}) + "\n" for number in range(10)))
    settings = ["--model", "gpt-4o-mini", "--base-url", ADDRESS, "--out", str(tmp_path / "run")]
    settings += ["--set", "params.max_tokens=100"]
    environ = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "AIHUBMIX_API_KEY": KEY, "http_proxy": gateway.url}
    environ |= {"no_proxy": "", "NO_PROXY": ""}
    return batchmix(*words[:1], str(source), *settings, *words[1:], **environ)


@pytest.mark.parametrize("words", [("run", "--progress", "none"), ("plan",)], ids=lambda words: words[0])
def test_a_plan_above_the_balance_is_warned_about_and_continues(
    gateway: Gateway, tmp_path: Path, words: tuple[str, ...]
) -> None:
    gateway.limit_usd = 1.5001
    found = call(gateway, tmp_path, *words)
    assert found.returncode == 0
    assert "the balance is $0.0001, and what is left to send costs about $0." in found.stderr
    assert gateway.keys == {f"Bearer {KEY}"}
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert KEY not in found.stdout + found.stderr + kept.decode("utf-8", "replace")


@pytest.mark.parametrize("limit", [100.0, 100_000_000.0, None], ids=["enough", "no bound", "unknown"])
def test_there_is_no_warning_when_the_balance_suffices_or_is_unknown(
    gateway: Gateway, tmp_path: Path, limit: float | None
) -> None:
    gateway.limit_usd = limit
    found = call(gateway, tmp_path, "run", "--progress", "none")
    assert found.returncode == 0
    assert "balance" not in found.stderr


def test_the_rehearsal_provider_reports_a_balance_if_it_has_one(tmp_path: Path, gateway: Gateway) -> None:
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


def test_a_silent_server_is_not_waited_for_beyond_the_timeout() -> None:
    with _saying(b"") as url:
        began = time.monotonic()
        assert get_balance(url, Secrets(KEY), 0.2) is None
        assert time.monotonic() - began < WITHIN_S


def test_a_budget_bounds_the_cost_compared_with_the_balance() -> None:
    assert shortage(1.0, (2.0, 4.0), None)
    assert not shortage(1.0, (2.0, 4.0), 0.9)
    assert not shortage(1.0, (None, None), None)
    assert "$2.0000 and more" in shortage(1.0, (2.0, None), None)


def test_attempts_that_may_have_been_billed_are_in_the_account(bench: Bench) -> None:
    bench.source.write_text('{"text": "[[rehearsal:cutx2]]"}\n{"text": "plain"}\n')
    bench.settings["prices"] = {"m": {"input": 1, "output": 1}}
    view = bench.run()
    lost = {row["maybe_billed"]: row["cost_usd"] for row in bench.rows()}
    assert set(lost) == {0, 2}
    assert view.totals.maybe_billed_usd == pytest.approx(2 * lost[2])


def test_an_incomplete_answer_may_have_been_billed(bench: Bench) -> None:
    bench.source.write_text('{"text": "[[rehearsal:halfx2]]"}\n{"text": "[[rehearsal:500x2]]"}\n')
    bench.settings["prices"] = {"m": {"input": 1, "output": 1}}
    view = bench.run()
    rows = bench.rows()
    assert [row["maybe_billed"] for row in rows] == [2, 0]
    assert view.totals.maybe_billed_usd == pytest.approx(2 * rows[0]["cost_usd"])
    assert view.totals.billed_retries_usd == 0
    assert json.loads((bench.out / "summary.json").read_text())["maybe_billed_usd"] == view.totals.maybe_billed_usd


@pytest.mark.parametrize("kind", ["no_choices", "empty_choices"])
def test_a_retried_response_with_usage_is_billed_and_counted_separately(bench: Bench, kind: str) -> None:
    bench.source.write_text(f'{{"text": "[[rehearsal:{kind}x2]]"}}\n{{"text": "[[rehearsal:cutx2]]"}}\n')
    bench.settings["prices"] = {"m": {"input": 1, "output": 2}}
    view = bench.run()
    first, second = bench.rows()
    assert [(row["attempts"], row["maybe_billed"]) for row in (first, second)] == [(3, 0), (3, 2)]
    found = json.loads((bench.out / "summary.json").read_text())
    assert (found["billed_retries"], found["maybe_billed"]) == (2, 2)
    assert found["billed_retries_usd"] == pytest.approx(2 * first["cost_usd"])
    assert found["maybe_billed_usd"] == pytest.approx(2 * second["cost_usd"])
    assert found["costs"]["m"]["billed_retries_usd"] == found["billed_retries_usd"]
    each = first["total_tokens"] + second["total_tokens"]
    account = used_so_far(view, reader.prices_of(view.run))
    assert account[1] == pytest.approx(each + 2 * first["total_tokens"] + 2 * each / 2)
    assert account[0] == pytest.approx(sum(found[f"{name}_usd"] for name in ("cost", "billed_retries", "maybe_billed")))


@pytest.mark.parametrize("killed", [False, True], ids=["", "killed before its journals were removed"])
def test_billed_retries_stay_in_the_account_when_their_rows_are_sent_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    """They are in no row; a part that is opened again passes them on once."""
    journals: dict[Path, bytes] = {}
    remove = Shard.remove_journals

    def removing(shard: Shard) -> None:
        journals.update({path: path.read_bytes() for path in (bench.out / "journal").glob("*.jsonl")})
        remove(shard)

    monkeypatch.setattr(Shard, "remove_journals", removing)
    bench.settings |= {"prices": {"m": {"input": 1, "output": 2}}, "retry": {"attempts": 2}}
    bench.source.write_text('{"text": "[[rehearsal:no_choicesx3]]"}\n{"text": "plain"}\n')
    first = bench.run()
    assert (first.totals.failed, first.totals.billed_retries) == (1, 2)
    assert not list((bench.out / "journal").iterdir())
    assert journals
    for path, text in journals.items() if killed else ():
        path.write_bytes(text)
    assert reader.look(bench.out).summary() == first.summary()
    again = bench.run()
    assert (again.totals.ok, again.totals.billed_retries, again.totals.maybe_billed) == (2, 3, 0)
    assert again.totals.billed_retries_usd == pytest.approx(1.5 * (first.totals.billed_retries_usd or 0))
    assert reader.look(bench.out).summary() == again.summary()


def test_reused_answers_do_not_make_an_unknown_cost_known(bench: Bench) -> None:
    """If no paid answer has a price, the cost is unknown, although reused answers cost nothing."""
    bench.settings["reuse"] = {"dedupe": True}
    bench.write(5, text="same")
    view = bench.run()
    assert (view.totals.reused, view.totals.unpriced) == (4, 1)
    assert view.summary()["cost_usd"] is None


def test_lost_attempts_of_rows_without_an_answer_count_as_average_answers(bench: Bench) -> None:
    bench.settings["retry"] = {"attempts": 1}
    bench.source.write_text('{"text": "[[rehearsal:cut]]"}\n{"text": "plain"}\n')
    bench.settings["prices"] = {"m": {"input": 1, "output": 1}}
    view = bench.run()
    assert view.totals.maybe_billed_usd == pytest.approx(view.totals.cost_usd)


def test_a_run_stops_at_its_budget_and_resumes_with_a_higher_one(bench: Bench) -> None:
    bench.write(60)
    bench.standin.behave("latency=0.001")
    bench.settings["params"] = {"max_tokens": 40}
    bench.settings["budget"] = {"max_tokens": 600}
    with pytest.raises(BudgetSpent, match=r"budget\.max_tokens"):
        bench.run()
    view = reader.look(bench.out)
    assert 0 < view.totals.ok < 60
    assert 0.8 * 600 < view.totals.total_tokens <= 600 + 8 * 40
    assert bench.start()["exit_code"] == 3
    with pytest.raises(BudgetSpent):
        bench.run()
    assert bench.standin.request_count() == view.totals.ok
    bench.settings["budget"] = {"max_tokens": 100_000}
    assert bench.run().totals.ok == 60
    assert bench.standin.request_count() == 60


@contextlib.contextmanager
def _saying(reply: bytes) -> Iterator[str]:
    """Answer each connection with these bytes; with none, never answer."""
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
