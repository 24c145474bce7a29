"""Transient and lasting errors: outages, retries, time limits and deadlines, checked with the provider's ledger."""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from batchmix.engine import early_failures, reader, retries
from batchmix.engine.repeated_failures import RepeatedFailures
from batchmix.errors import ProviderStopped, Stopped
from tests.calling import batchmix, called
from tests.conftest import Bench, Provider
from tests.deadlines import deadline_counts_from
from tests.killing import command, fetch, results, status, write_rows
from tests.polling import WITHIN_S, wait_until


def account(standin: Provider) -> dict[str, Any]:
    found: dict[str, Any] = fetch(standin.url, "account")
    return found


@contextlib.contextmanager
def behaving_after(standin: Provider, requests: int, behaviour: str) -> Iterator[None]:
    """Replace the provider's behaviour once it has received so many requests."""

    def behave() -> None:
        wait_until(lambda: standin.request_count() >= requests)
        standin.behave(behaviour)

    with ThreadPoolExecutor(1) as pool:
        replaced = pool.submit(behave)
        yield
    replaced.result()


@pytest.mark.parametrize("how", ["503_down", "refused"])
def test_an_outage_is_waited_out_with_few_requests(bench: Bench, standin: Provider, how: str) -> None:
    bench.settings["limits"]["concurrency"] = 20
    bench.write(400)
    standin.behave("latency=0.1")
    with behaving_after(standin, 60, f"latency=0.1&outage=0.2:2.2:{how}"):
        assert bench.run().totals.ok == 400
    found = account(standin)
    assert found["answered"] == 400
    assert found["again"] == 0
    if how == "503_down":
        assert 20 <= found["faults"]["503_down"] <= 20 + 20 + 4
        down = [record for record in fetch(standin.url, "ledger") if record["kind"] == "503_down"]
        times = sorted(record["begun"] for record in down)
        tried = [at for at in times if at - times[0] > 0.5]
        assert 1 <= len(tried) <= 4, "while it is down, one request is tried now and then"
        assert all(after - before > 0.9 for before, after in itertools.pairwise(tried))


def test_a_lasting_outage_stops_the_run_and_the_next_start_resumes(bench: Bench, standin: Provider) -> None:
    bench.settings["retry"] = {"outage_s": 2}
    bench.write(200)
    standin.behave("latency=0.02&balance=100&broke=503_down")
    with pytest.raises(ProviderStopped, match=r"retry.outage_s.*at last"):
        bench.run()
    assert bench.start()["exit_code"] == 3
    before = account(standin)
    assert before["faults"]["503_down"] <= 8 + 20 + 3
    standin.behave()
    assert bench.run().totals.ok == 200
    assert account(standin)["again"] == 0


def test_retries_are_limited_to_a_share_of_all_requests(bench: Bench, standin: Provider) -> None:
    """Half of the rows fail once at about the same time; retrying each as soon as possible would be a storm."""
    bench.settings["limits"]["concurrency"] = 64
    bench.source.write_text(
        "\n".join(json.dumps({"text": f"{n}{' [[rehearsal:500x1]]' if n % 2 else ''}"}) for n in range(500))
    )
    assert bench.run().totals.ok == 500
    ledger = fetch(standin.url, "ledger")
    began = ledger[0]["begun"]
    firsts = retries = 0
    for record in sorted(ledger, key=lambda record: record["begun"]):
        firsts += record["attempt"] == 1
        retries += record["attempt"] > 1
        assert retries <= 100 + 0.25 * firsts + 10 * (record["begun"] - began + 0.1) + 1
    assert (firsts, retries) == (500, 250)


def test_a_row_is_not_retried_after_its_time_limit(bench: Bench, standin: Provider) -> None:
    bench.settings |= {"retry": {"attempts": 1000}, "timeouts": {"row_s": 1}}
    bench.write(20)
    bench.write(1, first=20, text="word {} [[rehearsal:500]]")
    assert bench.run().totals.ok == 20
    row = bench.rows()[20]
    assert (row["status"], row["error_type"], row["http_status"]) == ("failed", "server_error", 500)
    times = [record["begun"] for record in fetch(standin.url, "ledger") if "[[" in record["prompt"]]
    assert len(times) == row["attempts"] > 1
    assert times[-2] - times[0] < 1


def test_a_repeated_error_fails_a_row_after_its_attempts_and_throttling_uses_none(
    bench: Bench, standin: Provider
) -> None:
    bench.settings["retry"] = {"attempts": 2}
    bench.write(10)
    bench.write(1, first=10, text="word {} [[rehearsal:502]]")
    bench.write(1, first=11, text="word {} [[rehearsal:429_msx2]]")
    assert bench.run().totals.ok == 11
    kinds = Counter(record["kind"] for record in fetch(standin.url, "ledger"))
    assert kinds == {"answer": 11, "502": 2, "429_ms": 2}
    assert [(row["status"], row["attempts"]) for row in bench.rows()[10:]] == [("failed", 2), ("ok", 3)]


def test_throttling_uses_no_attempts_but_is_limited_in_time(
    bench: Bench, standin: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "_MAX_THROTTLED_S", 1.5)
    bench.settings["retry"] = {"attempts": 1}
    bench.write(10)
    bench.write(1, first=10, text="word {} [[rehearsal:429_ms]]")
    assert bench.run().totals.ok == 10
    row = bench.rows()[10]
    assert (row["status"], row["error_type"]) == ("failed", "throttled")
    assert row["attempts"] == 2


def test_a_run_stops_when_all_remaining_rows_are_refused_alike(
    bench: Bench, standin: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RepeatedFailures, "LATER", 30)
    bench.write(100)
    bench.write(500, first=100, text="word {} [[rehearsal:400]]")
    with pytest.raises(ProviderStopped, match="the last 30 requests were all refused: Invalid"):
        bench.run()
    assert standin.request_count() <= 100 + 8 + 30 + 8, "those beside the last answers break the streak once more"
    assert status(bench.out)["unanswered"] == 500


def test_a_run_stops_at_its_deadline_and_the_next_start_resumes(
    tmp_path: Path, standin: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After some answers all requests hang, so that the run lasts until then."""
    write_rows(tmp_path / "rows.jsonl", 150)
    standin.behave("latency=0.1-0.2&balance=50&broke=hang")
    call = (
        "run", str(tmp_path / "rows.jsonl"), "--model", "m", "--prompt", "Say {{ text }}", "--base-url", standin.url,
        "--out", str(tmp_path / "out"), "--concurrency", "8", "--progress", "none", "--set", "provider.api_key_env=",
    )  # fmt: skip
    with monkeypatch.context() as patched:
        out = tmp_path / "out"
        deadline_counts_from(
            patched, lambda: fetch(standin.url, "totals").get("hang") and reader.look(out).totals.ok == 50
        )
        done = called(patched, *call, "--deadline", "0.5")
    assert done.returncode == 3
    assert "the deadline of 0.5 s (timeouts.job_s) has come" in done.stderr
    record = status(tmp_path / "out")
    assert record["ok"] == 50
    assert record["failed"] == record["rejected"] == 0
    assert record["ok"] + record["unanswered"] == 150
    standin.behave()
    assert batchmix(*call).returncode == 0
    assert account(standin)["again"] == 0


def test_the_deadline_counts_from_the_start(tmp_path: Path, standin: Provider) -> None:
    """Nothing is ever answered, so only the deadline ends the run, before or after it has sent something."""
    write_rows(tmp_path / "rows.jsonl", 10)
    standin.behave("hang=1")
    done = batchmix(*command(standin.url, tmp_path / "rows.jsonl", tmp_path / "out", "--deadline", "2")[3:])
    assert done.returncode == 3
    assert "the deadline of 2 s (timeouts.job_s) has come" in done.stderr


def test_a_deadline_cancels_hanging_requests_and_counts_them(
    bench: Bench, standin: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.settings["timeouts"] = {"job_s": 1}
    bench.write(10)
    bench.write(2, first=10, text="word {} [[rehearsal:hangx1]]")
    with monkeypatch.context() as patched:
        deadline_counts_from(patched, lambda: bench.run_status.ok == 10 and standin.request_count() == 12)
        with pytest.raises(Stopped, match="deadline"):
            bench.run()
    record = status(bench.out)
    assert (record["ok"], record["unanswered"], record["maybe_billed"]) == (10, 2, 2)
    assert [entry["row"] for entry in record["maybe_billed_requests"]] == [10, 11]
    bench.settings["timeouts"] = {}
    assert bench.run().totals.ok == 12
    assert [row["maybe_billed"] for row in bench.rows()] == [0] * 10 + [1] * 2


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_timeouts_and_broken_responses_are_counted_as_maybe_billed_everywhere(
    tmp_path: Path, standin: Provider, streamed: bool
) -> None:
    """Only a sent request can have been billed; a refusal, a throttle or a 500 was not."""
    kinds = ["hang", "stall", "drop", "cut", "500", "429_ms", "answer"]
    rows = [json.dumps({"text": f"{kind} [[rehearsal:{kind}x1]]"}) for kind in kinds]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    more = ("params.stream=true", "timeouts.idle_s=5") if streamed else ("timeouts.total_s=5",)
    began = time.monotonic()
    done = batchmix(
        "run", str(tmp_path / "rows.jsonl"), "--model", "m", "--prompt", "{{ text }}", "--base-url", standin.url, "--out",
        str(tmp_path / "out"), "--set", "provider.api_key_env=", *(part for one in more for part in ("--set", one)),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began < 2 * WITHIN_S, "each silence ends after 5 s, not after ten minutes"
    assert results(tmp_path / "out")["status"].to_pylist() == ["ok"] * len(kinds)
    columns = pq.read_table(tmp_path / "out/data", columns=["attempts", "maybe_billed"]).to_pydict()
    assert columns == {"attempts": [2, 2, 2, 2, 2, 2, 1], "maybe_billed": [1, 1, 1, 1, 0, 0, 0]}
    assert json.loads((tmp_path / "out/summary.json").read_text())["maybe_billed"] == 4
    assert "maybe billed 4 attempts without a response" in done.stdout


def test_a_connection_that_is_never_made_was_not_billed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(early_failures, "_NO_REPLY_S", 0.3)
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        others = [socket.socket() for _ in range(3)]
        for other in others:
            other.setblocking(False)
            other.connect_ex(full.getsockname())
        bench.settings["provider"]["base_url"] = "http://127.0.0.1:{1}/v1".format(*full.getsockname())
        bench.settings |= {"timeouts": {"connect_s": 0.2}, "retry": {"attempts": 2}}
        bench.write(3)
        with pytest.raises(ProviderStopped, match="no connection to 127"):
            bench.run()
        for other in others:
            other.close()
    record = status(bench.out)
    assert (record["unanswered"], record["maybe_billed"]) == (3, 0)
