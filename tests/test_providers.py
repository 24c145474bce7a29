"""Independent checks: servers and readers of other projects."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests import forking
from tests.conftest import Bench
from tests.killing import command, write_rows
from tests.serving import llmock_report, llmock_serving, tiny_model_serving


@pytest.fixture
def llmock() -> Iterator[str]:
    with llmock_serving("--error-rate", "503=0.05") as url:
        yield url


@pytest.mark.parametrize("stream", ["false", "true"])
def test_a_run_against_llmock_answers_every_row(llmock: str, tmp_path: Path, stream: str) -> None:
    write_rows(tmp_path / "rows.jsonl", 200)
    call = command(f"{llmock}/v1", tmp_path / "rows.jsonl", tmp_path / "run", "--set", f"params.stream={stream}")
    done = forking.run(call)
    assert done.returncode == 0, done.stderr
    rows = pq.read_table(tmp_path / "run" / "data").to_pylist()
    assert [row["row"] for row in rows] == list(range(200))
    assert all(row["response"] for row in rows)
    for row in rows:
        assert_usage_is_the_servers(row)
    verdict = llmock_report(llmock)
    assert verdict.returncode == 0, verdict.stdout + verdict.stderr


@pytest.mark.parametrize("stream", ["false", "true"])
def test_a_run_against_llama_cpp_answers_every_row(tmp_path: Path, stream: str) -> None:
    with tiny_model_serving(tmp_path / "tiny.gguf") as url:
        write_rows(tmp_path / "rows.jsonl", 40)
        call = command(
            f"{url}/v1",
            tmp_path / "rows.jsonl",
            tmp_path / "run",
            "--set",
            "params.max_tokens=12",
            "--set",
            f"params.stream={stream}",
            "--concurrency",
            "4",
        )
        done = forking.run(call)
        assert done.returncode == 0, done.stderr
        rows = pq.read_table(tmp_path / "run" / "data").to_pylist()
        assert [(row["row"], row["status"]) for row in rows] == [(n, "ok") for n in range(40)]
        for row in rows:
            assert_usage_is_the_servers(row)
        body = {"model": "m", "messages": [{"role": "user", "content": "Say question 7"}], "max_tokens": 12}
        request = urllib.request.Request(
            f"{url}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request) as response:
            assert json.load(response)["usage"]["prompt_tokens"] == rows[7]["prompt_tokens"]


def assert_usage_is_the_servers(row: dict[str, object]) -> None:
    usage = json.loads(str(row["raw"]))["usage"]
    for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert row[name] == usage[name]


ONE_LINERS = {
    "duckdb": "import duckdb; print(duckdb.sql(\"select count(*) from 'DATA/*.parquet' where status = 'ok'\").fetchall()[0][0])",
    "polars": "import polars; print(len(polars.read_parquet('DATA')))",
    "pandas": "import pandas; print(pandas.read_parquet('DATA').response.notna().sum())",
}


@pytest.mark.parametrize("reader", ONE_LINERS)
def test_other_libraries_read_a_run_in_one_line(reader: str, bench: Bench) -> None:
    bench.write(25)
    bench.run()
    line = ONE_LINERS[reader].replace("DATA", str(bench.out / "data"))
    done = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "25"
