"""If a model refuses a parameter, messages and results name the line to change."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.calling import batchmix
from tests.conftest import Provider
from tests.killing import results, write_rows

ADVICE = "use max_completion_tokens instead of max_tokens for this model"
JOB = """\
model = "m"
[input]
path = "rows.jsonl"
prompt = "Say {{ text }}"

[params]
temperature = 0
max_tokens = 9
[provider]
base_url = "%s"
api_key_env = ""
"""


@pytest.fixture
def url(tmp_path: Path, standin: Provider) -> str:
    write_rows(tmp_path / "rows.jsonl", 30)
    standin.behave("400_max_tokens[m]=1")
    return standin.url


def test_a_refused_parameter_names_the_line_of_the_job(tmp_path: Path, url: str) -> None:
    (tmp_path / "job.toml").write_text(JOB % url)
    done = batchmix("run", "job.toml", cwd=tmp_path)
    assert done.returncode == 3
    assert f"{ADVICE} (job.toml:8)" in done.stderr
    assert f"{ADVICE} (job.toml:8)" in batchmix("status", "runs/job", cwd=tmp_path).stdout


def test_a_refused_parameter_names_the_option_of_the_command(tmp_path: Path, url: str) -> None:
    (tmp_path / "job.toml").write_text(JOB % url)
    done = batchmix("run", "job.toml", "--set", "params.max_tokens=7", cwd=tmp_path)
    assert f"{ADVICE} (--set params.max_tokens)" in done.stderr


def test_a_refused_parameter_names_the_entry_of_its_model(tmp_path: Path, url: str) -> None:
    """Its rows fail; the table shows the whole advice, however long the provider's message."""
    entries = '[[models]]\nid = "m"\nparams.max_tokens = 5\n[[models]]\nid = "other"\n'
    (tmp_path / "job.toml").write_text(
        (JOB % url).replace('model = "m"\n', "").replace("max_tokens = 9\n", "") + entries
    )
    done = batchmix("run", "job.toml", cwd=tmp_path)
    assert done.returncode == 3
    assert f"{ADVICE} (job.toml:12)" in done.stderr
    assert f"{ADVICE} (job.toml:12)" in done.stdout
    rows = results(tmp_path / "runs/job").to_pylist()
    assert {row["status"] for row in rows if row["model"] == "other"} == {"ok"}


def test_a_refused_parameter_of_a_row_names_the_line_of_the_input(tmp_path: Path, url: str) -> None:
    lines = [{"text": "a", "with": {"max_tokens": 5}}, {"text": "b", "with": {}}]
    (tmp_path / "rows.jsonl").write_text("\n".join(["", *map(json.dumps, lines)]))
    (tmp_path / "job.toml").write_text((JOB % url).replace("[params]", 'params = "with"\n[params]'))
    batchmix("run", "job.toml", "--keep-going", cwd=tmp_path)
    places = [row["error_message"].rpartition(" (")[2] for row in results(tmp_path / "runs/job").to_pylist()]
    assert places == ["rows.jsonl:2)", "job.toml:9)"]


def test_a_refused_parameter_of_a_batch_line_names_its_line(tmp_path: Path, url: str) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "a"}]}
    lines = [
        {"custom_id": str(n), "method": "POST", "url": "/v1/chat/completions", "body": body | more}
        for n, more in enumerate(({}, {"max_tokens": 5}))
    ]
    (tmp_path / "batch.jsonl").write_text("\n".join(map(json.dumps, lines)))
    batchmix("run", "batch.jsonl", "--base-url", url, "--out", "out", cwd=tmp_path, AIHUBMIX_API_KEY="sk-some-key")
    rows = results(tmp_path / "out").to_pylist()
    assert [row["status"] for row in rows] == ["ok", "rejected"]
    assert rows[1]["error_message"].endswith(f"{ADVICE} (batch.jsonl:2)")


@pytest.mark.parametrize("of_rows", [False, True])
def test_a_refused_schema_names_the_key_that_sends_it_in_another_way(
    tmp_path: Path, standin: Provider, of_rows: bool
) -> None:
    write_rows(tmp_path / "rows.jsonl", 30)
    standin.behave("400_schema=1")
    schema = '[answer]\nschema = {type = "object", properties = {a = {type = "string"}}}\n'
    prompt = '[input]\nparams = "id"' if of_rows else "[input]"
    if of_rows:
        rows = [{"id": {}, "text": "a"}] * 30
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "job.toml").write_text((JOB % standin.url).replace("[input]", prompt) + schema)
    done = batchmix("run", "job.toml", cwd=tmp_path)
    assert "leave out response_format for this model (it holds the schema of [answer]; choose another" in done.stderr
    done = batchmix("run", "job.toml", "--set", "answer.send=prompt", cwd=tmp_path)
    assert done.returncode == 0
