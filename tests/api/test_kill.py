"""A program that is killed in the middle of `bm.run`: the shell finishes the run from its folder."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pandas
import pytest

import batchmix as bm
from tests.calling import called
from tests.conftest import Provider
from tests.polling import wait_until

SCRIPT = """
import sys
import batchmix as bm
kind, url, out = sys.argv[1:]
rows = [{"id": f"r{n}", "text": f"word {n}", "n": n} for n in range(300)]
if kind == "pandas":
    import pandas
    rows = pandas.DataFrame(rows, index=[n // 2 for n in range(300)])
if kind == "iterator":
    rows = iter(rows)
bm.run(
    rows, "Say {{ text }}", model="m", base_url=url, provider={"api_key_env": ""}, out=out, concurrency=20,
    output={"shard_rows": 50},
)
"""


@pytest.mark.parametrize(
    "kind", [pytest.param("dicts", marks=pytest.mark.slow), pytest.param("iterator", marks=pytest.mark.slow), "pandas"]
)
def test_the_shell_finishes_what_a_killed_program_began(
    kind: str, tmp_path: Path, standin: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    standin.behave("latency=0.05-0.1")
    out = tmp_path / "run"
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, kind, standin.url, str(out)])
    wait_until(lambda: standin.request_count() >= 150)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    before = bm.open(out)
    maybe_twice = before.summary["maybe_billed"]
    assert before.status == "unfinished"
    assert 0 < maybe_twice <= 20

    monkeypatch.chdir(tmp_path)
    done = called(monkeypatch, "resume", "run", "--progress", "none")
    assert (done.returncode, "300 of 300" in done.stdout) == (0, True), done.stderr
    sent = Counter(standin.prompts())
    assert len(sent) == 300
    assert set(sent.values()) <= {1, 2}
    assert sum(count == 2 for count in sent.values()) <= maybe_twice
    assert standin.request_count() <= 300 + maybe_twice

    rows = [{"id": f"r{n}", "text": f"word {n}", "n": n} for n in range(300)]
    table = pandas.DataFrame(rows) if kind == "pandas" else rows
    run = bm.run(table, "Say {{ text }}", model="m", base_url=standin.url, provider={"api_key_env": ""}, out=out)
    assert standin.request_count() == sum(sent.values())
    assert [row["n"] for row in run.join(rows, ["response"]) if row["response"]] == list(range(300))
    assert [result.custom_id for result in run] == [f"r{n}" for n in range(300)]
