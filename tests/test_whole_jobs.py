"""Realistic jobs from end to end: JSON lines and Parquet, plain rows and Batch lines, each killed twice."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests import forking
from tests.conftest import Provider
from tests.killing import command, kill_after, results

ROWS = 90
TEMPLATE = "{{ text }} in {{ row['In words'] }} {{ n }}"


def plain(number: int) -> dict[str, Any]:
    return {
        "id": f"r{number}",
        "text": f"question {number}",
        "In words": f"w{number}",
        "n": number,
        "score": number / 3,
    }


def batch_line(number: int) -> dict[str, Any]:
    body = {"model": ("small", "large")[number % 2], "messages": [{"role": "user", "content": f"question {number}"}]}
    return {"custom_id": f"c{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}


def jsonl(folder: Path, row: Callable[[int], dict[str, Any]]) -> Path:
    """Write two files of JSON lines."""
    for name, numbers in {"a": range(50), "b": range(50, ROWS)}.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row(number)) + "\n" for number in numbers))
    return folder


def parquet(folder: Path, row: Callable[[int], dict[str, Any]]) -> Path:
    """Write two Parquet files with a column of nanoseconds, one of lists and an empty one."""
    table = pa.Table.from_pylist([row(number) for number in range(ROWS)])
    when = pa.array([datetime.datetime(2026, 11, 1) + datetime.timedelta(hours=n) for n in range(ROWS)])
    table = table.append_column("when", when.cast(pa.timestamp("ns")))
    table = table.append_column("tags", pa.array([["a", None]] * ROWS)).append_column("none", pa.nulls(ROWS))
    pq.write_table(table.slice(0, 50), folder / "a.parquet", row_group_size=20)
    pq.write_table(table.slice(50), folder / "b.parquet")
    return folder


KINDS: dict[str, tuple[Callable[[Path], Path], tuple[str, ...]]] = {
    "JSON lines and a template": (lambda folder: jsonl(folder, plain), ("--model", "small", "--prompt", TEMPLATE)),
    "Parquet and a template": (lambda folder: parquet(folder, plain), ("--model", "small", "--prompt", TEMPLATE)),
    "Batch lines": (lambda folder: jsonl(folder, batch_line), ()),
    "Batch lines in Parquet": (lambda folder: parquet(folder, batch_line), ()),
}


@pytest.mark.parametrize(
    "kind",
    [kind if "a t" in kind and "Parquet" in kind else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS],
)
def test_a_whole_job_survives_two_kills(kind: str, tmp_path: Path, standin: Provider) -> None:
    write, settings = KINDS[kind]
    (tmp_path / "input").mkdir()
    source = write(tmp_path / "input")
    standin.behave("latency=0.05-0.15&seed=5&429=0.05&500=0.02&max_faults=1")
    call = command(standin.url, source, tmp_path / "run", "--concurrency", "6", "--set", "output.shard_rows=20")
    call = _with(call, settings)
    outcome = kill_after(call, standin.url, tmp_path / "run", (ROWS // 3, 2 * ROWS // 3))
    assert not outcome.repeated
    assert outcome.named
    again = forking.run(call)
    assert again.returncode == 0, again.stderr
    found = results(tmp_path / "run")
    assert found["row"].to_pylist() == list(range(ROWS))
    standin.behave("seed=5")
    whole = [str(tmp_path / "whole") if word == str(tmp_path / "run") else word for word in call]
    done = forking.run(whole)
    assert done.returncode == 0, done.stderr
    assert found.equals(results(tmp_path / "whole"))
    assert duckdb.sql(f"select count(distinct response) from '{tmp_path}/run/data/*.parquet'").fetchall() == [(ROWS,)]


def _with(call: list[str], settings: tuple[str, ...]) -> list[str]:
    """Return a command with this model and prompt."""
    call = [*call, "--set", "name=whole"]
    for option in ("--model", "--prompt"):
        at = call.index(option)
        del call[at : at + 2]
    return [*call, *settings]
