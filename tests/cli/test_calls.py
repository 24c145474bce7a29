"""A wrong call is reported with the right one, exits with 2 and leaves nothing behind."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.calling import MARKER, called, refused


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ("rum job.toml", ["'rum'", "did you mean batchmix run?"]),
        ("job.toml", ["did you mean batchmix run job.toml?"]),
        ("prompts.jsonl --model m", ["did you mean batchmix run prompts.jsonl?"]),
        ("nonsense", ["run, resume, plan, status"]),
        ("RUN job.toml", ["did you mean batchmix run?"]),
        ("continue runs/first", ["did you mean batchmix resume?"]),
        ("resume job.toml", ["job.toml: is a file", "did you mean batchmix run job.toml?"]),
        ("help run", ["did you mean batchmix --help?"]),
        (
            "run rows.jsonl --temperature 1",
            ["no such option: --temperature", "give the setting as --set params.temperature=…"],
        ),
        ("run rows.jsonl --max-tokens 9", ["--set params.max_tokens=… or --set budget.max_tokens=…"]),
        ("plan rows.jsonl --max-cost 9", ["--set budget.max_usd=…"]),
        ("run --input rows.jsonl", ["give the input or job without one: batchmix run rows.jsonl"]),
        ("run rows.jsonl --modle m", ["No such option", "--model"]),
        ("--model m run rows.jsonl", ["--model goes after the command: batchmix run … --model"]),
        ("--json status runs/x", ["batchmix status … --json"]),
        ("--limit 3", ["--limit goes after the command"]),
        ("--modle m run rows.jsonl", ["--modle"]),
        ("run rows.jsonl --modle m", ["--modle", "--model"]),
        ("run rows.jsonl --progress baar", ["did you mean bar?"]),
        ("export runs/x a.jsonl --format openai-bach", ["did you mean openai-batch?"]),
        ("run quikstart.toml", ["did you mean quickstart.toml?"]),
        ("run quikstart", ["did you mean quickstart.toml?"]),
        ("run row.jsonl --model m", ["did you mean rows.jsonl?"]),
        ("run rows.jsonl --model m --rpm nan", ["limits.requests_per_minute", "leave the setting out"]),
        ("run rows.jsonl --model m --out hf://b/x", ["output.path: hf://", "write to a folder here, then copy"]),
        ("plan rows.jsonl --model m --out gcs://b/x", ["output.path: gcs://"]),
        ("run '' --model m", ["input.path: is empty; if it comes from a shell variable, is that set"]),
        ("run rows.jsonl --model m --out ''", ["is empty; if it comes from a shell variable"]),
        ("export runs/x ''", ["FILE: is empty"]),
        ("run hdfs://b/rows.jsonl --model m", ["input.path: hdfs://", "copy the file here first"]),
        ("run s3://b/job.toml", ["s3://", "copy the job file here first"]),
        ("export runs/x s3://b/x.jsonl", ["FILE: s3://"]),
        ("export hf://b/x x.jsonl", ["RUN: hf://"]),
        ("status hf://b/x", ["hf://"]),
        ("status x --root s3://b", ["s3://"]),
        ("report hf://b/x", ["hf://"]),
        ("report x --against s3://b/x", ["s3://"]),
        ("eval hf://b/x", ["hf://"]),
        ("diff hf://b/x y", ["hf://"]),
        ("schedule s3://b/x.toml", ["s3://"]),
        ("schedule x.toml --state s3://b", ["s3://"]),
    ],
)
def test_a_wrong_call_is_reported_with_the_right_one(
    call: str, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AIHUBMIX_API_KEY", "none")
    monkeypatch.setenv("AIHUBMIX_BASE_URL", "rehearsal:")
    there = ["quickstart.toml", "rows.jsonl", "t.toml"]
    for name in there:
        (tmp_path / name).write_text('{"prompt": "x"}\n' if name.endswith("l") and "rows" in name else "")
    refused(called(monkeypatch, *shlex.split(call)), *words)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "runs") == there


@pytest.mark.parametrize(
    "call",
    [
        "{}", "status x {}", "run rows.jsonl --rpm {}", "run rows.jsonl --rpm={}", "run rows.jsonl --limit={}",
        "run rows.jsonl https://user:{}@host/v1", "run rows.jsonl --progress {}", "run rows.jsonl --api-key={}",
        "plan rows.jsonl 'https://host/v1?key={}'", "models x {} --json", "schedule t.toml --every={}",
    ],
)  # fmt: skip
def test_a_key_in_the_wrong_place_is_not_repeated(call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text('{"prompt": "x"}\n')
    done = called(monkeypatch, *call.format(MARKER).split())
    refused(done)
    assert MARKER[:9] not in done.stdout + done.stderr


def test_a_call_without_arguments_shows_the_help(monkeypatch: pytest.MonkeyPatch) -> None:
    done = called(monkeypatch)
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: ")
    assert done.stderr == ""


def test_a_count_of_one_is_in_the_singular(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For rows, requests and answers, in all messages."""
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text('{"prompt": "a"}\n')
    call = ("rows.jsonl", "--model", "m", "--base-url", "rehearsal:", "--out", "o")
    output = called(monkeypatch, "plan", *call, "--canary", "1").stdout
    output += called(monkeypatch, "run", *call, "--progress", "none").stdout
    output += called(monkeypatch, "export", "o", "o.csv").stdout
    Path("rows.jsonl").write_text('{"prompt": "b"}\n')
    output += called(monkeypatch, "run", *call).stderr
    for words in ("1 row, 1 request in all", "1 of 1 row answered", "1 request over all", "o.csv: 1 row\n"):
        assert words in output
    assert "request 1 existing answer again" in output
    assert not re.search(r"\b1 (\w+ )?(rows|requests|answers)\b", output)
