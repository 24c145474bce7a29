"""Kill a run repeatedly, and check its results and the provider's ledger against what batchmix promises."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests import forking
from tests.polling import first_line, wait_until

if TYPE_CHECKING:
    import pyarrow as pa

GRACE_S = 0.025
"""In seconds. An answer whose last byte was sent this long before a kill must never be requested again."""
VARYING = ["sent_at", "finished_at", "latency_s", "attempts", "maybe_billed", "request_id", "run"]


@contextlib.contextmanager
def provider(behaviour: str) -> Iterator[str]:
    """Run a rehearsal provider in its own process, and yield its base URL."""
    process = subprocess.Popen(
        [sys.executable, "-m", "batchmix.rehearsal", behaviour], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield first_line(process.stdout).strip()
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def fetch(url: str, what: str, data: str | None = None) -> Any:
    """Return what the rehearsal provider replies at `/rehearsal/WHAT`. `data` is posted to it, if given."""
    request = urllib.request.Request(
        url.removesuffix("/v1") + f"/rehearsal/{what}", data=data.encode() if data is not None else None
    )
    with urllib.request.urlopen(request) as response:
        return json.load(response)


def words(size: int) -> str:
    """Return text of about so many bytes."""
    return " word" * (size // 5)


def write_rows(path: Path, count: int, first: int = 0, *, prompt_bytes: int = 0) -> None:
    """Write rows with different prompts, `prompt_bytes` longer than a few words.

    If `first` is not 0, append them to the file.
    """
    with path.open("a" if first else "w") as file:
        for number in range(first, first + count):
            text = f"question {number}{words(prompt_bytes)}"
            file.write(json.dumps({"id": f"r{number}", "text": text, "n": number}) + "\n")


def command(url: str, source: Path, out: Path, *more: str) -> list[str]:
    """Return the command line that starts or resumes a run."""
    settings = [
        "--model",
        "m",
        "--prompt",
        "Say {{ text }}",
        "--base-url",
        url,
        "--out",
        str(out),
        "--progress",
        "none",
    ]
    return [sys.executable, "-m", "batchmix", "run", str(source), *settings, "--set", "provider.api_key_env=", *more]


def status(out: Path) -> dict[str, Any]:
    """Return the output of `batchmix status --json`."""
    found = forking.run([sys.executable, "-m", "batchmix", "status", str(out), "--json"])
    found.check_returncode()
    record: dict[str, Any] = json.loads(found.stdout)
    return record


def results(out: Path) -> pa.Table:
    """Return a run's results without the columns that vary from run to run."""
    import pyarrow.parquet as pq  # imported here: a child process's peak memory starts at what its parent had loaded

    table = pq.read_table(out / "data")
    return table.drop_columns(VARYING)


@dataclasses.dataclass
class Outcome:
    """The findings of a series of kills."""

    kills: int = 0
    late: int = 0
    """The number of answers requested again whose last byte was sent less than the grace period before a kill."""
    repeated: list[str] = dataclasses.field(default_factory=list)
    """The answers requested again although their last byte was sent earlier than that. There must be none."""
    unnamed: list[int] = dataclasses.field(default_factory=list)
    """The rows that were in flight at a kill, that `status` did not list, and that were requested again.

    One that was not requested again was stored: the provider was slow to note that its answer had left.
    """
    named: int = 0


def kill_until_done(
    calls: list[list[str]],
    url: str,
    out: Path,
    seed: int,
    *,
    number: int = signal.SIGKILL,
    wait: tuple[float, float] = (0.2, 1.2),
) -> Outcome:
    """Run each command again and again, and signal it after a random delay, until it exits with 0 by itself.

    `wait` is the range of the delay in seconds. It grows by a tenth with each kill, so a start lives long enough even on a
    slow machine.
    """
    rng = random.Random(seed)
    outcome = Outcome()
    kills: list[float] = []
    unlisted: list[dict[str, Any]] = []
    for call in calls:
        for kill in itertools.count():
            process = forking.Fork(call)
            try:
                code = process.wait(rng.uniform(*wait) * 1.1**kill)
            except subprocess.TimeoutExpired:
                os.kill(process.pid, number)
                kills.append(time.monotonic())
                code = process.wait()
                if code not in (-number, 128 + number, 0):
                    raise AssertionError(f"exit code {code} after signal {number}") from None
                if number == signal.SIGKILL:
                    unlisted += _compare_status(outcome, url, out, kills[-1])
                if code == 0:
                    break
                continue
            assert code == 0, f"exit code {code}"
            break
    _judge(outcome, url, kills, unlisted)
    return outcome


def kill_after(
    call: list[str], url: str, out: Path, requests: tuple[int, ...], number: int = signal.SIGKILL
) -> Outcome:
    """Signal a run whenever the provider has received so many requests in all, and then let it finish."""
    outcome, kills = Outcome(), []
    unlisted: list[dict[str, Any]] = []
    for received in requests:
        process = forking.Fork(call)
        wait_until(functools.partial(_has_received, received, process, url))
        assert process.poll() is None, "it ended too early"
        os.kill(process.pid, number)
        kills.append(time.monotonic())
        assert process.wait() in (-number, 128 + number)
        unlisted += _compare_status(outcome, url, out, kills[-1])
    done = forking.run(call)
    assert done.returncode == 0, done.stderr
    _judge(outcome, url, kills, unlisted)
    return outcome


def _has_received(requests: int, process: forking.Fork, url: str) -> bool:
    return process.poll() is not None or fetch(url, "totals").get("requests", 0) >= requests


def _judge(outcome: Outcome, url: str, kills: list[float], unlisted: list[dict[str, Any]]) -> None:
    outcome.kills = len(kills)
    compare_ledger(outcome, url, kills)
    last = {record["digest"]: record["begun"] for record in fetch(url, "ledger")}
    outcome.unnamed = [_row(record) for record in unlisted if last[record["digest"]] > record["begun"]]


def _row(record: dict[str, Any]) -> int:
    """Return the row of a request. One that asks for a repair begins with the prompt of its row."""
    return int((record["opening"] or record["prompt"]).rsplit(" ", 1)[1])


def _compare_status(outcome: Outcome, url: str, out: Path, killed_at: float) -> list[dict[str, Any]]:
    """Return the provider's records of the requests that were in flight at a kill and that `status` does not list."""
    if not (out / "run.json").exists():
        return []
    named = {entry["row"] for entry in status(out)["maybe_billed_requests"]}
    outcome.named += len(named)
    return [
        record
        for record in fetch(url, "ledger")
        if record["begun"] < killed_at
        and (record["finished"] is None or record["finished"] > killed_at)
        and _row(record) not in named
    ]


def compare_ledger(outcome: Outcome, url: str, kills: list[float], grace_s: float = GRACE_S) -> None:
    """Record which answers were requested again, and which of them were sent too shortly before a kill to be stored."""
    by_digest: dict[str, list[dict[str, Any]]] = {}
    for record in fetch(url, "ledger"):
        by_digest.setdefault(record["digest"], []).append(record)
    for records in by_digest.values():
        for record in records[:-1]:
            if not record["answered"] or record["finished"] is None:
                continue
            next_kill = min(
                (at for at in kills if at >= record["begun"]), default=None
            )  # the kill that ended the client
            if next_kill is None or next_kill - record["finished"] >= grace_s:
                late = "no kill" if next_kill is None else f"{(next_kill - record['finished']) * 1000:.1f} ms"
                outcome.repeated.append(f"{record['prompt']} ({late})")
            else:
                outcome.late += next_kill >= record["finished"]
