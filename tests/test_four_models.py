"""One job with four models and a fifth that is retired, each with its own speed, limits and quirks."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
import pytest

from tests import killing
from tests.calling import batchmix

ROWS = 40
BEHAVIOUR = (
    "seed=4&words=9"
    "&rpm[fast]=2400&burst_s[fast]=0.5"
    "&400_max_tokens[newer]=1&latency[newer]=0.02"
    "&claude_usage[claude-x]=1&concurrency[claude-x]=4&latency[claude-x]=0.05"
    "&latency[slow]=0.3"
    "&404_retired[old]=1&successor[old]=newer"
)
JOB = """
name = "four"

[[models]]
id = "fast"
params = { max_tokens = 50 }
limits = { requests_per_minute = 2400 }
prices = { input = 1000.0, output = 2000.0 }

[[models]]
id = "newer"
params = { max_completion_tokens = 50 }
prices = { input = 3000.0, output = 500.0, cache_read = 300.0 }

[[models]]
id = "claude-x"
params = { max_tokens = 50 }
limits = { concurrency = 4 }
prices = { input = 5000.0, output = 9000.0, cache_read = 500.0 }

[[models]]
id = "slow"
limits = { concurrency = 4 }
prices = { input = 100.0, output = 400.0 }

[[models]]
id = "old"
prices = { input = 1.0, output = 1.0 }

[input]
path = "rows.jsonl"
prompt = "Say {{ text }}"
"""
TABLE = {
    # prompt, of these cached, completion tokens of all 40 answers; USD by hand: 470 x 1000 / 1e6 + 322 x 2000 / 1e6, …
    "fast": (470, 0, 322, 0.470 + 0.644),
    "newer": (470, 0, 362, 1.410 + 0.181),
    "claude-x": (470, 230, 334, 240 * 0.005 + 0.115 + 3.006),
    "slow": (470, 0, 321, 0.047 + 0.1284),
}
WHOLE_USD = 7.2014
ENDS_BEFORE_S = {"fast": 2.0, "newer": 2.0, "claude-x": 2.0}
"""Measured from a lane's first request to its last answer; the slow lane needs at least three seconds."""


class Done(NamedTuple):
    ended: subprocess.CompletedProcess[str]
    rows: list[dict[str, Any]]
    summary: dict[str, Any]
    answered: Counter[str]
    """By the provider's ledger."""


def run(root: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return batchmix("run", *more, "--progress", "none", "--set", "provider.api_key_env=", cwd=root)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    root = tmp_path_factory.mktemp("four")
    killing.write_rows(root / "rows.jsonl", ROWS)
    (root / "job.toml").write_text(JOB)
    with killing.provider(BEHAVIOUR) as url:
        ended = run(root, "job.toml", "--base-url", url, "--out", "run")
        ledger = killing.fetch(url, "ledger")
    rows = pq.read_table(root / "run" / "data").to_pylist()
    summary = json.loads((root / "run" / "summary.json").read_text())
    return Done(ended, rows, summary, Counter(record["model"] for record in ledger if record["answered"]))


def test_each_model_has_each_row_once_and_in_order(done: Done) -> None:
    models = ["fast", "newer", "claude-x", "slow", "old"]
    assert [(row["row"], row["model"]) for row in done.rows] == [(n, model) for n in range(ROWS) for model in models]
    assert {(row["model"], row["status"]) for row in done.rows} == {*((m, "ok") for m in TABLE), ("old", "failed")}
    assert all(row["response"] for row in done.rows if row["model"] in TABLE)
    assert done.answered == dict.fromkeys(TABLE, ROWS)


def test_costs_are_those_of_a_table_made_by_hand(done: Done) -> None:
    columns = ("prompt_tokens", "cached_tokens", "completion_tokens", "cost_usd")
    for model, expected in TABLE.items():
        rows = [row for row in done.rows if row["model"] == model]
        assert [sum(row[name] or 0 for row in rows) for name in columns] == pytest.approx(list(expected), abs=1e-9)
        assert done.summary["costs"][model]["cost_usd"] == pytest.approx(expected[3], abs=1e-9)
        assert f"${expected[3]:.4f} {model}" in done.ended.stdout
    assert done.summary["cost_usd"] == pytest.approx(WHOLE_USD, abs=1e-9)
    assert all(row["cost_usd"] is None for row in done.rows if row["model"] == "old")


def test_the_fast_lanes_finish_at_their_own_speed(done: Done) -> None:
    for model, most_s in ENDS_BEFORE_S.items():
        assert lane_s(done, model) < most_s
    assert lane_s(done, "slow") >= 3


def lane_s(done: Done, model: str) -> float:
    rows = [row for row in done.rows if row["model"] == model]
    span = max(row["finished_at"] for row in rows) - min(row["sent_at"] for row in rows)
    return float(span.total_seconds())


def test_the_retired_model_stops_alone_and_names_its_successor(done: Done) -> None:
    assert done.ended.returncode == 3
    assert "The model old has been retired, please use newer instead" in done.ended.stderr
    assert {row["error_type"] for row in done.rows if row["model"] == "old"} == {"model_stopped"}


def test_a_refused_parameter_names_the_line_to_change(tmp_path: Path) -> None:
    killing.write_rows(tmp_path / "rows.jsonl", ROWS)
    (tmp_path / "job.toml").write_text(JOB.replace("max_completion_tokens", "max_tokens"))
    with killing.provider(BEHAVIOUR) as url:
        ended = run(tmp_path, "job.toml", "--base-url", url, "--out", "run", "--models", "newer")
    assert ended.returncode == 3
    assert "use max_completion_tokens instead of max_tokens for this model" in ended.stderr


def test_rows_that_failed_before_their_model_was_stopped_keep_their_reason(tmp_path: Path) -> None:
    texts = ["[[rehearsal:500]]", "fine", "fine too", *(f"word {number}" for number in range(20))]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    more = ("--prompt", "Say {{ text }}", "--out", "run", "--set", 'models=[{id="a"},{id="b"}]')
    more += ("--set", "retry.attempts=1", "--concurrency", "1")
    with killing.provider("401_model[b]=0.5&seed=3") as url:
        ended = run(tmp_path, "rows.jsonl", *more, "--base-url", url)
    assert ended.returncode == 3
    rows = pq.read_table(tmp_path / "run" / "data").to_pylist()
    assert [row["error_type"] for row in rows if row["row"] == 0] == ["server_error", "server_error"]
    assert "model_stopped" in {row["error_type"] for row in rows if row["model"] == "b"}
