"""A run goes on from its folder alone, wherever that is, with what was recorded there."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.calling import batchmix, refused
from tests.conftest import Bench, Provider
from tests.killing import Outcome, compare_ledger, write_rows
from tests.polling import wait_until

ROWS = 120


def write_input(folder: Path, kind: str) -> Path:
    """Write the rows, and return the file that a run reads or that is piped into it."""
    write_rows(folder / "rows.jsonl", ROWS)
    if kind != "csv":
        return folder / "rows.jsonl"
    with (folder / "rows.csv").open("w") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text"])
        writer.writerows([f"r{number}", f"question {number}"] for number in range(ROWS))
    return folder / "rows.csv"


@pytest.mark.parametrize(
    "kind", [pytest.param("file", marks=pytest.mark.slow), pytest.param("csv", marks=pytest.mark.slow), "stdin"]
)
def test_a_killed_run_goes_on_from_its_moved_folder_and_pays_for_nothing_twice(
    kind: str, tmp_path: Path, standin: Provider
) -> None:
    standin.behave("latency=0.1-0.3")
    source = write_input(tmp_path, kind)
    call = [
        sys.executable, "-m", "batchmix", "run", "-" if kind == "stdin" else source.name, "--model", "m", "--prompt",
        "Say {{ text }}", "--base-url", standin.url, "--out", "runs/first", "--concurrency", "10", "--set",
        "provider.api_key_env=", "--set", "output.shard_rows=20", "--progress", "none",
    ]  # fmt: skip
    with source.open() as rows, subprocess.Popen(call, stdin=rows, stderr=subprocess.DEVNULL, cwd=tmp_path) as process:
        wait_until(lambda: standin.request_count() >= 50)
        process.send_signal(signal.SIGKILL)
        killed = time.monotonic()
    (tmp_path / "runs" / "first").rename(tmp_path / "moved")
    (tmp_path / "elsewhere").mkdir()
    done = batchmix("resume", "../moved", "--json", stdin='{"text": "not these"}\n', cwd=tmp_path / "elsewhere")
    assert done.returncode == 0, done.stderr
    assert (json.loads(done.stdout)["ok"], list((tmp_path / "elsewhere").iterdir())) == (ROWS, [])
    table = pq.read_table(tmp_path / "moved" / "data")
    assert table.column("custom_id").to_pylist() == [f"r{number}" for number in range(ROWS)]
    outcome = Outcome()
    compare_ledger(outcome, standin.url, [killed])
    assert outcome.repeated == []
    assert ROWS <= standin.request_count() <= ROWS + 10  # at most those in flight are sent again
    again = batchmix("resume", str(tmp_path / "moved"))
    assert again.returncode == 0
    assert standin.request_count() <= ROWS + 10


@pytest.fixture
def run(bench: Bench) -> Path:
    """A finished run of five rows."""
    bench.write(5)
    bench.run()
    return bench.out


def test_rows_from_memory_are_read_from_the_folders_copy(bench: Bench, standin: Provider) -> None:
    bench.write(20)
    bench.settings["input"]["path"] = "memory:jsonl"
    bench.run(rows=io.BytesIO(bench.source.read_bytes()), canary=4)
    bench.source.unlink()
    assert batchmix("resume", str(bench.out), stdin="{}\n").returncode == 0
    assert [row["status"] for row in bench.rows()] == ["ok"] * 20
    assert standin.request_count() == 20


def test_the_limit_and_the_rejection_of_bad_rows_are_kept_unless_given(bench: Bench, standin: Provider) -> None:
    bench.write(10)
    with bench.source.open("a") as file:
        file.write("not JSON\n")
    bench.write(10, first=10)
    bench.settings["timeouts"] = {"job_s": 0.000001}
    with pytest.raises(Exception, match="deadline"):
        bench.run(limit=12, reject_bad_rows=True)
    bench.settings["timeouts"] = {}
    bench.run(limit=12, reject_bad_rows=True, canary=3)
    batchmix("resume", str(bench.out))
    assert [row["status"] for row in bench.rows()] == ["ok"] * 10 + ["rejected", "ok"]
    assert batchmix("resume", str(bench.out), "--limit", "21").returncode == 1
    assert len(bench.rows()) == 21
    assert standin.request_count() == 20


def test_a_finished_run_sends_nothing_more(run: Path, standin: Provider) -> None:
    before = standin.request_count()
    assert batchmix("resume", str(run)).returncode == 0
    assert standin.request_count() == before == 5


def test_a_changed_setting_is_as_of_run(run: Path, standin: Provider) -> None:
    refused(batchmix("resume", str(run), "--set", "params.seed=1"), "5 existing answers", "--update")
    assert standin.request_count() == 5
    assert batchmix("resume", str(run), "--set", "params.seed=1", "--update").returncode == 0
    assert standin.request_count() == 10
    assert batchmix("resume", str(run), "--concurrency", "3").returncode == 0  # the seed has been recorded
    recorded = json.loads((run / "run.json").read_text())["job"]
    assert (recorded["params"], recorded["limits"]["concurrency"]) == ({"seed": 1}, 3)
    assert standin.request_count() == 10


def test_the_schema_of_the_answers_is_recorded_and_its_file_not_needed(bench: Bench, tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"token": {"enum": ["a", None], "default": None}}}
    file = tmp_path / "schema.json"
    file.write_text(json.dumps(schema))
    bench.write(5)
    bench.settings["answer"] = {"schema": str(file), "on_invalid": "keep"}
    bench.run()
    file.unlink()
    resumed = batchmix("resume", str(bench.out), "--set", "answer.repair=2")
    assert resumed.returncode in {0, 1}, resumed.stderr
    recorded = json.loads((bench.out / "run.json").read_text())["job"]["answer"]
    assert (recorded["schema"], recorded["repair"], recorded["on_invalid"]) == (schema, 2, "keep")


def test_a_folder_that_is_no_run_or_is_damaged_is_refused(run: Path, standin: Provider, tmp_path: Path) -> None:
    refused(batchmix("resume", str(run.parent / "ran")), "is not a run folder", f"did you mean {run}?")
    refused(batchmix("resume", str(run), "--set", "output.path=x"), "output.path: is ", "the run that goes on")
    text = (run / "run.json").read_text()
    (run / "run.json").write_text(text.replace("Say {{ text }}", "Pay {{ text }}"))
    refused(batchmix("resume", str(run)), "its checksum does not hold", "give the run's command again")
    (run / "run.json").write_text(text[:100])
    refused(batchmix("resume", str(run)), "run.json", "can't be read")
    assert standin.request_count() == 5


def test_a_run_that_another_process_works_on_is_refused(bench: Bench, standin: Provider) -> None:
    bench.write(5)
    standin.behave("latency=30")
    call = [
        sys.executable, "-m", "batchmix", "run", str(bench.source), "--model", "m", "--prompt", "Say {{ text }}",
        "--base-url", standin.url, "--out", str(bench.out), "--set", "provider.api_key_env=", "--set",
        "timeouts.drain_s=0",
    ]  # fmt: skip
    with subprocess.Popen(call, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        wait_until(lambda: standin.request_count() >= 5)
        refused(batchmix("resume", str(bench.out)), f"process {process.pid}")
        process.send_signal(signal.SIGINT)
    assert process.returncode == 130


def test_an_input_that_moved_is_named_and_its_new_path_can_be_given(bench: Bench, standin: Provider) -> None:
    bench.write(10)
    bench.run(canary=2)
    bench.source.rename(bench.root / "renamed.jsonl")
    refused(batchmix("resume", str(bench.out)), "rows.jsonl: no such file", "--set input.path=…")
    done = batchmix("resume", str(bench.out), "--set", "input.path=renamed.jsonl", cwd=bench.root)
    assert done.returncode == 0, done.stderr
    assert standin.request_count() == 10


def test_secrets_must_be_given_again_and_variables_need_not(bench: Bench, standin: Provider) -> None:
    bench.write(10)
    bench.settings["provider"] |= {"headers": {"X-Plain": "plain-secret", "X-Named": "env:NAMED"}, "api_key_env": "KEY"}
    bench.settings["input"]["prompt"] = "My key is key-in-the-prompt. Say {{ text }}"
    bench.run(canary=2, key="key-in-the-prompt")
    given = {"NAMED": "named-secret", "KEY": "key-in-the-prompt", "PLAIN": "plain-secret"}
    folder = str(bench.out)
    refused(batchmix("resume", folder, **given), "input.prompt: is masked (***)", "--set input.prompt=…")
    prompt = ["--set", f"input.prompt={bench.settings['input']['prompt']}"]
    done = batchmix("resume", folder, *prompt, **given)
    refused(done, "provider.headers.X-Plain: is masked (***)", "--set provider.headers.X-Plain=env:NAME")
    assert standin.request_count() == 2
    done = batchmix("resume", folder, *prompt, "--set", "provider.headers.X-Plain=env:PLAIN", **given)
    assert done.returncode == 0, done.stderr
    assert standin.request_count() == 10
    kept = (bench.out / "run.json").read_text() + done.stdout + done.stderr
    assert not any(secret in kept for secret in given.values())


def evaluated(bench: Bench, *scorers: dict[str, Any]) -> None:
    bench.write(10)
    bench.settings["eval"] = {"target": "text", "scorers": list(scorers)}
    bench.run(canary=2)


def test_a_run_with_an_evaluation_is_evaluated_at_its_end(bench: Bench) -> None:
    evaluated(bench, {"kind": "similarity"})
    done = batchmix("resume", str(bench.out), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["evaluation"]["scores"][0]["score"]["n"] == 10


def test_a_scorer_of_the_users_own_needs_the_job_file(bench: Bench, standin: Provider) -> None:
    evaluated(bench, {"kind": "own", "python": "scoring:polite"})
    refused(batchmix("resume", str(bench.out)), "own is a function of your own", f"JOB.toml --out {bench.out}")
    assert standin.request_count() == 2
    assert batchmix("resume", str(bench.out), "--set", "eval=null").returncode == 0
    assert standin.request_count() == 10


def test_folders_that_the_job_names_are_found_from_anywhere(
    bench: Bench, standin: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.write(10)
    bench.run()
    monkeypatch.chdir(bench.root)
    bench.settings |= {"reuse": {"from": ["run"]}, "output": {"path": str(bench.root / "second"), "shard_rows": 5}}
    bench.run(canary=1)
    os.chdir("/")
    assert batchmix("resume", str(bench.root / "second")).returncode == 0
    assert standin.request_count() == 10
