"""The command line: actionable messages, exit codes, and no secret in any output."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from batchmix.rehearsal.reply_table import REPLY_KINDS
from tests.calling import MARKER, batchmix, called, refused
from tests.conftest import Provider
from tests.killing import fetch, status, write_rows
from tests.polling import WITHIN_S, wait_until


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    write_rows(tmp_path / "rows.jsonl", 5)
    return tmp_path / "rows.jsonl"


@pytest.fixture
def job(tmp_path: Path, rows: Path, standin: Provider) -> Path:
    path = tmp_path / "job.toml"
    path.write_text(
        'name = "night"\nmodel = "m"\n[input]\npath = "rows.jsonl"\nprompt = "Say {{ text }}"\n'
        f'[provider]\nbase_url = "{standin.url}"\napi_key_env = "NIGHT_KEY"\n'
        f'[output]\npath = "{tmp_path}/runs/{{name}}"\n'
    )
    return path


BAD_INPUTS = {
    "no such file": ("missing.jsonl", None, ["no such file"]),
    "an empty file": ("empty.jsonl", "", ["no rows"]),
    "not JSON": ("bad.jsonl", '{"text": 1}\nnope\n', ["bad.jsonl:2", "not JSON"]),
    "not an object": ("bad.jsonl", "\n[1]\n", ["bad.jsonl:2", "a list"]),
    "a missing column": ("bad.jsonl", '{"text": "a"}\n{"txt": "b"}\n', ["bad.jsonl:2", "'text'", "'txt'"]),
    "a column that collides": ("bad.jsonl", '{"text": "a", "status": 1}\n', ["status", "from =", "to ="]),
    "unreadable Parquet": ("bad.parquet", "PAR1 nonsense", ["bad.parquet", "Parquet"]),
    "an unknown format": ("bad.docx", "x", ["bad.docx", ".jsonl"]),
}


@pytest.mark.parametrize("case", BAD_INPUTS)
def test_bad_input_is_refused_with_the_place_and_nothing_is_sent(case: str, tmp_path: Path, standin: Provider) -> None:
    name, text, words = BAD_INPUTS[case]
    if text is not None:
        (tmp_path / name).write_text(text)
    done = batchmix(
        "run", str(tmp_path / name), "--model", "m", "--prompt", "Say {{ text }}", "--base-url", standin.url,
        "--out", str(tmp_path / "out"), KEY="none", AIHUBMIX_API_KEY="none",
    )  # fmt: skip
    refused(done, *words)
    assert standin.request_count() == 0
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["answer", "healed", "repairs", "answer.mood"])
def test_a_column_named_like_those_of_typed_answers_is_refused(name: str, tmp_path: Path, standin: Provider) -> None:
    schema = {"type": "object", "properties": {"mood": {"type": "string"}}}
    (tmp_path / "schema.json").write_text(json.dumps(schema))
    (tmp_path / "rows.jsonl").write_text(json.dumps({"text": "a", name: "b"}) + "\n")
    call = [
        "rows.jsonl", "--model", "m", "--prompt", "{{ text }}", "--base-url", standin.url, "--set",
        "provider.api_key_env=",
    ]  # fmt: skip
    assert batchmix("plan", *call, cwd=tmp_path).returncode == 0
    refused(batchmix("plan", *call, "--schema", "schema.json", cwd=tmp_path), f"named '{name}'", f'to = "input_{name}"')
    refused(batchmix("run", *call, "--schema", "schema.json", cwd=tmp_path), f"named '{name}'", f'to = "input_{name}"')


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("limits.concurency=3", ["limits.concurency", "did you mean limits.concurrency"]),
        ("limits.concurrency=many", ["limits.concurrency", "whole number"]),
        ("input.prompt={{ text", ["input.prompt", "template"]),
        ("input.columns=3", ["input.columns", "list"]),
        ("input=rows.jsonl", ["input", "table"]),
        ("output.path={nme}", ["output.path", "{nme}"]),
        ("nonsense", ["KEY=VALUE"]),
        ("provider.base_url=aihubmix.com", ["provider.base_url", "https://"]),
        ("output.path=job.toml", ["is a file"]),
        ("budget.max_usd=1", ["budget.max_usd", "no price"]),
        ("budget.max_us=1", ["budget.max_us", "budget.max_usd"]),
        ("eval.targt=x", ["eval.targt", "eval.target?"]),
        ("timeouts.row_s=inf", ["timeouts.row_s", "leave the setting out"]),
        ("params.temperature=nan", ["params.temperature", "nan"]),
    ],
)
def test_a_wrong_setting_is_named(setting: str, words: list[str], job: Path, standin: Provider) -> None:
    refused(batchmix("run", str(job), "--set", setting, cwd=job.parent, NIGHT_KEY="none"), *words)
    assert standin.request_count() == 0


def test_a_missing_or_malformed_key_is_reported(job: Path, standin: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(batchmix("run", str(job)), "NIGHT_KEY", "not set")
    refused(batchmix("run", str(job), NIGHT_KEY=" "), "NIGHT_KEY", "not set")
    for wrong in (f'"{MARKER}"', f"Bearer {MARKER}", f"{MARKER} x", f"{MARKER}\nx", f"{MARKER}é"):
        done = called(monkeypatch, "run", str(job), NIGHT_KEY=wrong)
        refused(done, "provider.api_key_env: the v")
        assert MARKER not in done.stdout + done.stderr
    assert standin.request_count() == 0
    assert not (job.parent / "runs").exists()


@pytest.mark.parametrize("pasted", [MARKER, "MARKER9f8e7d6c5b4aabcdef", "marker_9f8e7d6c5b4a"])
def test_a_key_pasted_as_its_variables_name_is_not_shown(pasted: str, job: Path) -> None:
    done = batchmix("run", str(job), "--set", f"provider.api_key_env={pasted}", "-vv")
    refused(done)
    assert pasted not in done.stdout.replace(pasted if pasted.isupper() else "", "") + done.stderr


def test_the_key_is_in_no_file_and_no_output(job: Path, standin: Provider) -> None:
    outputs = []
    # Success; a provider that repeats the key in an answer; a 401 that repeats it in its error.
    (job.parent / "rows.jsonl").write_text(json.dumps({"text": "[[rehearsal:echo]] hello"}) + "\n")
    calls = [("run", str(job), "-vv"), ("run", str(job), "-vv", "--set", "name=b"), ("plan", str(job))]
    outputs += [batchmix(*call, NIGHT_KEY=MARKER) for call in calls]
    standin.behave("key=sk-some-other-key")
    small = ["--set", "provider.headers.X-Small=q7z", "--set", "params.api_key=q8z"]
    stopped = batchmix(
        "run", str(job), "-vv", "--set", "name=c", "--set", f"params.user={MARKER}x", *small, NIGHT_KEY=MARKER
    )
    assert stopped.returncode == 3
    assert "Invalid API key" in stopped.stderr
    assert "provider.headers.X-Small=***" in stopped.stderr
    outputs += [stopped, batchmix("status", str(job.parent / "runs" / "c"), NIGHT_KEY=MARKER)]
    outputs.append(batchmix("plan", str(job), "--set", "name=e", *small, NIGHT_KEY=MARKER))
    standin.behave("")
    outputs.append(
        subprocess.run(
            [sys.executable, "-c", _CRASH, "run", str(job), "-vv", "--set", "name=d"],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"NIGHT_KEY": MARKER},
        )
    )
    assert outputs[-1].returncode == 3
    assert "Traceback" in outputs[-1].stderr
    for done in outputs:
        for secret in (MARKER, "q7z", "q8z"):
            assert secret not in done.stdout + done.stderr
    for path in (job.parent / "runs").rglob("*"):
        for secret in (MARKER, "q7z", "q8z") if path.is_file() else ():
            assert secret.encode() not in path.read_bytes(), path


_CRASH = """
import os
from batchmix.http import client
async def post(self, request):
    raise RuntimeError(f"a fault that holds {os.environ['NIGHT_KEY']}")
client.Client.post = post
from batchmix.cli import main
main()
"""


def test_a_job_file_runs_and_says_where_the_data_is(job: Path) -> None:
    done = batchmix("run", str(job), NIGHT_KEY="none")
    assert done.returncode == 0
    assert "answered     5 of 5" in done.stdout
    assert "runs/night/data" in done.stdout
    again = batchmix("run", str(job), "--json", NIGHT_KEY="none")
    assert json.loads(again.stdout)["ok"] == 5


def test_the_last_line_of_a_run_reads_its_data(job: Path) -> None:
    done = batchmix("run", str(job), NIGHT_KEY="none", cwd=job.parent)
    line = next(line for line in done.stdout.splitlines() if "read it" in line).split(maxsplit=2)[2]
    shown = subprocess.run(
        line,
        shell=True,
        capture_output=True,
        text=True,
        cwd=job.parent,
        check=True,
    )
    assert "request_hash" in shown.stdout


def test_plan_sends_nothing_and_writes_nothing(job: Path, standin: Provider) -> None:
    done = batchmix("plan", str(job))
    assert done.returncode == 0
    assert "5 requests" in done.stdout
    assert '"content": "Say question 0"' in done.stdout
    assert standin.request_count() == 0
    assert not (job.parent / "runs").exists()
    batchmix("run", str(job), "--limit", "2", NIGHT_KEY="none")
    planned = json.loads(batchmix("plan", str(job), "--json").stdout)
    assert (planned["done"], planned["requests"]) == (2, 3)


def test_plan_escapes_characters_that_other_programs_take_for_line_ends(job: Path) -> None:
    (job.parent / "rows.jsonl").write_text('{"id": "a", "text": "a\\u2028b\\u0085c"}\n')
    assert '"content": "Say a\\x2028b\\x85c"' in batchmix("plan", str(job)).stdout


def test_rows_can_be_piped_in_and_an_empty_pipe_resumes(tmp_path: Path, standin: Provider) -> None:
    call = (
        "run",
        "-",
        "--model",
        "m",
        "--base-url",
        standin.url,
        "--out",
        str(tmp_path / "out"),
        "--set",
        "provider.api_key_env=",
    )
    assert batchmix(*call, stdin='{"prompt": "a"}\n{"prompt": "b"}\n').returncode == 0
    assert batchmix(*call, stdin="").returncode == 0
    assert standin.request_count() == 2
    refused(batchmix(*call, stdin='{"prompt": "c"}\n'), "--update")


def test_exit_code_1_means_that_rows_have_no_answer(job: Path) -> None:
    (job.parent / "rows.jsonl").write_text('{"text": "a"}\n{"text": "[[rehearsal:400]]"}\n')
    done = batchmix("run", str(job), NIGHT_KEY="none")
    assert done.returncode == 1
    assert "1 rejected, such as row 1" in done.stdout


def test_nothing_from_a_row_or_an_answer_reaches_the_terminal_raw(job: Path) -> None:
    text = json.dumps({"text": "[[rehearsal:400]]", "\x1b[31mred": "\x1b]0;title\x07"})
    (job.parent / "rows.jsonl").write_text(text + "\n" + '{"txt\x1b[2J": 1}'.replace("\x1b", "\\u001b") + "\n")
    done = batchmix("run", str(job), NIGHT_KEY="none")
    refused(done)
    assert "\x1b" not in done.stdout + done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_drains_and_the_same_command_sends_nothing_twice(
    number: int, job: Path, standin: Provider
) -> None:
    write_rows(job.parent / "rows.jsonl", 300)
    standin.behave("latency=0.1-0.3")
    call = [sys.executable, "-m", "batchmix", "run", str(job), "--concurrency", "20"]
    env = os.environ | {"NIGHT_KEY": "none"}
    with subprocess.Popen(call, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=env) as process:
        wait_until(lambda: standin.request_count() >= 30)
        process.send_signal(number)
        _, errors = process.communicate(timeout=WITHIN_S)
    assert process.returncode == 128 + number
    assert "batchmix run" in errors
    found = status(job.parent / "runs" / "night")
    assert found["maybe_billed"] == 0
    assert found["last_exit_code"] == 128 + number
    assert found["ok"] == standin.request_count()
    assert batchmix("run", str(job), "--concurrency", "100", NIGHT_KEY="none").returncode == 0
    assert standin.request_count() == 300


def test_a_run_under_nohup_outlives_its_terminal(job: Path, standin: Provider) -> None:
    standin.behave("latency=0.5")
    call = ["sh", "-c", 'trap "" HUP; exec "$@"', "sh", sys.executable, "-m", "batchmix", "run", str(job)]
    with subprocess.Popen(call, stdout=subprocess.DEVNULL, env=os.environ | {"NIGHT_KEY": "none"}) as process:
        wait_until(lambda: standin.request_count() >= 5)
        process.send_signal(signal.SIGHUP)
    assert process.returncode == 0


def test_status_shows_a_running_run_and_a_second_start_names_its_process(job: Path, standin: Provider) -> None:
    standin.behave("latency=30")
    call = [sys.executable, "-m", "batchmix", "run", str(job), "--set", "timeouts.drain_s=0"]
    env = os.environ | {"NIGHT_KEY": "none"}
    with subprocess.Popen(call, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=env) as process:
        wait_until(lambda: standin.request_count() >= 5)
        found = status(job.parent / "runs" / "night")
        assert found["running"]
        assert len(found["in_flight"]) == 5
        assert found["answers_per_s"] == 0
        assert found["maybe_billed"] == 0
        refused(batchmix("run", str(job), NIGHT_KEY="none"), f"process {process.pid}")
        process.send_signal(signal.SIGINT)
    assert process.returncode == 130
    named = status(job.parent / "runs" / "night")["maybe_billed_requests"]
    assert [entry["row"] for entry in named] == [0, 1, 2, 3, 4]
    assert "rows 0, 1, 2, 3, 4" in batchmix("status", str(job.parent / "runs" / "night")).stdout
    standin.behave("")
    fetch(standin.url, "reset", "")
    assert batchmix("run", str(job), NIGHT_KEY="none").returncode == 0
    table = pq.read_table(job.parent / "runs" / "night" / "data")
    assert table.column("maybe_billed").to_pylist() == [1] * 5


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_export_writes_one_file_also_of_an_unfinished_run(suffix: str, job: Path, standin: Provider) -> None:
    write_rows(job.parent / "rows.jsonl", 30)
    standin.behave("balance=17")
    assert (
        batchmix("run", str(job), "--set", "output.shard_rows=10", "--concurrency", "1", NIGHT_KEY="none").returncode
        == 3
    )
    file = job.parent / f"answers{suffix}"
    done = batchmix("export", str(job.parent / "runs" / "night"), str(file))
    assert done.returncode == 0
    assert "17 rows" in done.stdout
    if suffix == ".parquet":
        assert pq.read_table(file).column("text").to_pylist() == [f"question {n}" for n in range(17)]
    else:
        assert len(file.read_text().splitlines()) == 17 + (suffix == ".csv")
    refused(batchmix("export", str(job.parent / "runs" / "night"), str(file.with_suffix(".docx"))), ".parquet")


def test_every_command_has_help_with_an_example() -> None:
    for name in ("run", "plan", "status", "export", "models", "rehearse"):
        done = batchmix(name, "--help")
        assert done.returncode == 0
        assert f"batchmix {name}" in done.stdout


def test_rehearse_lists_its_kinds_and_refuses_unknown_ones() -> None:
    help_text = " ".join(batchmix("rehearse", "--help").stdout.split())
    for name, kind in REPLY_KINDS.items():
        assert f" {name} {kind.doc.replace('`', '')}" in help_text
    refused(batchmix("rehearse", "--fault", "fivehundred=0.1"), "fivehundred")
    refused(batchmix("rehearse", "--outage", "10"), "outage")


def test_a_mistyped_option_is_exit_2() -> None:
    refused(batchmix("run", "x.jsonl", "--modle", "m"), "--model")
    refused(batchmix("status", "/nonexistent"), "run.json")


def test_a_job_without_a_model_is_refused(rows: Path, tmp_path: Path) -> None:
    done = batchmix(
        "run", str(rows), "--prompt", "{{ text }}", "--base-url", "rehearsal:", "--out", str(tmp_path / "run")
    )
    refused(done, "model: is missing", "--model")
    assert not (tmp_path / "run").exists()
