"""The steps of a chain run side by side, each as an ordinary run; the chain is killed, stopped and resumed as one."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from batchmix.engine.chain import rehearsed, run_chain
from batchmix.engine.prepare import Options
from batchmix.engine.run_status import RunStatus
from batchmix.errors import BudgetSpent, JobError, RunError, Stopped, UsageError
from batchmix.job import job_settings, read_job
from batchmix.redact import Secrets
from tests import forking, killing
from tests.calling import batchmix
from tests.conftest import Bench
from tests.polling import wait_until

POINTS = {"type": "object", "required": ["points"], "properties": {"points": {"type": "integer"}}}
STEPS: list[dict[str, Any]] = [
    {"name": "draft", "prompt": "Draft {{ text }}"},
    {"name": "score", "prompt": "Score {{ draft }}", "answer": {"schema": POINTS}},
    {"name": "final", "prompt": "Improve {{ draft }}", "when": "{{ score.points % 2 }}"},
]


class Steps:
    """A chain of three steps, over the input and in the folder of a bench."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.settings = {**bench.settings, "input": {"path": str(bench.source)}, "steps": json.loads(json.dumps(STEPS))}
        bench.write(30)

    def run(self, **options: Any) -> RunStatus:
        run_status = RunStatus()
        run_chain(read_job(None, self.settings, {}), Secrets(), Options(**options), run_status)
        return run_status

    def rows(self, step: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = pq.read_table(self.bench.out / step / "data").to_pylist()
        return rows


@pytest.fixture
def steps(bench: Bench) -> Steps:
    return Steps(bench)


def test_each_step_has_the_answers_of_all_steps_before(steps: Steps, bench: Bench) -> None:
    status = steps.run()
    rows = steps.rows("final")
    assert [row["custom_id"] for row in rows] == [f"r{n}" for n in range(30)]
    assert [row["draft"] for row in rows] == [row["response"] for row in steps.rows("draft")]
    assert [row["score"] for row in rows] == [row["answer"] for row in steps.rows("score")]
    assert [row["status"] == "ok" for row in rows] == [row["score"]["points"] % 2 == 1 for row in rows]
    assert status.results == 90
    before = bench.standin.request_count()
    steps.run()
    assert bench.standin.request_count() == before


def test_rows_flow_on_when_their_shard_is_sealed(steps: Steps, bench: Bench) -> None:
    """The last step begins before the first one ends."""
    bench.standin.behave("latency=0.03")
    steps.settings["limits"] = {"concurrency": 1}
    steps.run()
    first, last = steps.rows("draft"), steps.rows("final")
    assert min(row["sent_at"] for row in last if row["sent_at"]) < max(row["finished_at"] for row in first)


def test_each_step_is_a_run_that_goes_on_by_itself(steps: Steps, bench: Bench) -> None:
    steps.run()
    before = bench.standin.request_count()
    done = batchmix("resume", str(bench.out / "score"), "--progress", "none", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["name"] == "bench-score"
    assert bench.standin.request_count() == before


def test_a_row_that_fails_in_a_step_keeps_its_place_and_the_reason(steps: Steps, bench: Bench) -> None:
    with bench.source.open("a") as file:
        file.write('{"id": "bad", "text": "[[rehearsal:400]]", "n": 1}\n')
    steps.run()
    *_, bad = steps.rows("final")
    assert (bad["custom_id"], bad["status"], bad["error_type"]) == ("bad", "rejected", "no_input")
    assert "has no answer in" in bad["error_message"]
    assert "/draft: rejected:" in bad["error_message"]


def test_rows_answered_later_flow_through_all_steps(steps: Steps, bench: Bench) -> None:
    """Only they are sent."""
    with bench.source.open("a") as file:
        file.write('{"id": "late", "text": "[[rehearsal:500x2]]", "n": 1}\n')
    steps.settings["retry"] = {"attempts": 1}
    steps.run()
    assert steps.rows("final")[-1]["error_type"] == "no_input"
    before = bench.standin.request_count()
    steps.run()
    steps.run()
    assert steps.rows("score")[-1]["status"] == "ok"
    assert steps.rows("final")[-1]["error_type"] in {None, "skipped"}
    assert bench.standin.request_count() - before <= 4


def test_the_budget_is_that_of_all_steps(steps: Steps, bench: Bench) -> None:
    """Also over starts."""
    steps.settings |= {"budget": {"max_usd": 0.001}, "prices": {"m": {"input": 1, "output": 1}}}
    steps.settings["params"] = {"max_tokens": 20}
    with pytest.raises(BudgetSpent, match=r"budget\.max_usd"):
        steps.run()
    spent = _usd(bench.out)
    assert 0.0003 < spent <= 0.001
    steps.settings["budget"] = {"max_usd": 0.0015}
    with pytest.raises((BudgetSpent, Stopped)):
        steps.run()
    assert spent < _usd(bench.out) <= 0.0015
    steps.settings["budget"] = {"max_usd": 1}
    steps.run()


def _usd(folder: Path) -> float:
    summaries = [json.loads(path.read_text()) for path in folder.glob("*/summary.json")]
    return sum(summary["cost_usd"] or 0 for summary in summaries)


def test_a_mistake_in_a_later_step_is_found_before_anything_is_sent(steps: Steps, bench: Bench) -> None:
    steps.settings["steps"][2]["prompt"] = "Improve {{ darft }}"
    with pytest.raises(UsageError, match=r"final: .*darft"):
        steps.run()
    assert bench.standin.request_count() == 0
    assert not bench.out.exists()


def test_a_step_that_stops_ends_the_chain_with_its_error(steps: Steps, bench: Bench) -> None:
    bench.standin.behave("404_retired[other]=1")
    steps.settings["steps"][1]["model"] = "other"
    with pytest.raises(Stopped, match=r"score: .*other"):
        steps.run()
    steps.settings["steps"][1]["model"] = "m"
    steps.run()
    assert len(steps.rows("final")) == 30


def test_a_folder_with_other_files_is_refused(steps: Steps, bench: Bench) -> None:
    bench.out.mkdir()
    (bench.out / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="holds files, but no chain"):
        steps.run()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer": {"schema": POINTS}}, "answer: belongs into one of the"),
        ({"samples": 2}, "samples: belongs into one"),
        ({"input": {"path": "x", "prompt": "{{ x }}"}}, r"input\.prompt: belongs into the first"),
        ({"input": {"path": "-"}}, "reads files"),
        ({"steps": [{"name": "a b", "prompt": "{{ x }}"}]}, "must be a word"),
        ({"steps": [{"name": "a", "prompt": "{{ x }}"}] * 2}, "is there twice"),
        ({"steps": [{"name": "a", "promt": "{{ x }}"}]}, "promt"),
        ({"eval": {"scorers": [{"kind": "exact", "target": "n"}]}}, "eval: "),
    ],
)
def test_settings_of_a_chain_are_checked(steps: Steps, change: dict[str, Any], message: str) -> None:
    with pytest.raises(JobError, match=message):
        read_job(None, steps.settings | change, {})


def test_a_step_inherits_from_the_top_and_extends_its_parameters(steps: Steps) -> None:
    steps.settings["params"] = {"temperature": 0, "max_tokens": 5}
    steps.settings["steps"][1]["params"] = {"max_tokens": 9}
    job = read_job(None, steps.settings, {})
    assert [step.name for step in job.steps] == ["bench-draft", "bench-score", "bench-final"]
    assert job.steps[1].models[0].params == {"temperature": 0, "max_tokens": 9}
    assert job.steps[2].models[0].params == {"temperature": 0, "max_tokens": 5}
    assert read_job(None, job_settings(job.steps[1]), {}).input == job.steps[1].input


def test_several_samples_of_a_step_are_rows_of_the_next(steps: Steps) -> None:
    steps.settings["steps"][0]["samples"] = 2
    steps.run()
    assert [row["custom_id"] for row in steps.rows("final")][:3] == ["r0/m/0", "r0/m/1", "r1/m/0"]
    assert len(steps.rows("final")) == 60


def chain_call(url: str, folder: Path) -> list[str]:
    """Return the command line of a chain of three steps over `rows.jsonl`, in a folder of its own."""
    job = folder / "chain.toml"
    answer = 'answer = {schema = {type = "object", required = ["points"], properties = {points = {type = "integer"}}}}'
    job.write_text(
        f'model = "m"\ninput.path = "../rows.jsonl"\noutput = {{path = "{folder}/chain", shard_rows = 20}}\n'
        f'provider = {{base_url = "{url}", api_key_env = ""}}\nlimits.concurrency = 20\n'
        '[[steps]]\nname = "draft"\nprompt = "Draft {{ text }}"\n'
        f'[[steps]]\nname = "score"\nprompt = "Score {{{{ draft }}}} of {{{{ n }}}}"\n{answer}\n'
        '[[steps]]\nname = "final"\nprompt = "Improve {{ draft }} of {{ n }}"\nwhen = "{{ score.points % 2 }}"\n'
    )
    return [sys.executable, "-m", "batchmix", "run", str(job), "--progress", "none"]


def test_a_chain_that_is_killed_five_times_pays_for_nothing_twice(tmp_path: Path) -> None:
    """Except for what was in flight. What it ends with equals what a chain ends with that is not killed."""
    killing.write_rows(tmp_path / "rows.jsonl", 200)
    folders = [tmp_path / name for name in ("killed", "whole")]
    for folder in folders:
        folder.mkdir()
    with killing.provider("latency=0.02-0.06&seed=5") as url:
        call, kills = chain_call(url, folders[0]), []
        for received in (40, 110, 190, 280, 380):
            process = forking.Fork(call)
            wait_until(lambda: killing.fetch(url, "totals").get("requests", 0) >= received)  # noqa: B023
            os.kill(process.pid, signal.SIGKILL)
            kills.append(time.monotonic())
            assert process.wait() == -signal.SIGKILL
        done = forking.run(call)
        assert done.returncode == 0, done.stderr
        outcome = killing.Outcome()
        killing.compare_ledger(outcome, url, kills)
        assert not outcome.repeated
        whole = forking.run(chain_call(url, folders[1]))
        assert whole.returncode == 0, whole.stderr
    for step in ("draft", "score", "final"):
        killed, unkilled = (killing.results(folder / "chain" / step) for folder in folders)
        assert killed.num_rows == 200
        assert killed.equals(unkilled)


def test_ctrl_c_drains_all_steps(tmp_path: Path) -> None:
    killing.write_rows(tmp_path / "rows.jsonl", 200)
    (tmp_path / "a").mkdir()
    with killing.provider("latency=0.05&seed=5") as url:
        call = chain_call(url, tmp_path / "a")
        process = forking.Fork(call)
        wait_until(lambda: killing.fetch(url, "totals").get("requests", 0) >= 150)
        os.kill(process.pid, signal.SIGINT)
        assert process.wait() == 128 + signal.SIGINT
        outcome = killing.Outcome()
        assert forking.run(call).returncode == 0
        killing.compare_ledger(outcome, url, [], grace_s=0)
        assert not outcome.repeated


def test_a_rehearsed_chain_has_rows_in_each_step(steps: Steps) -> None:
    """Also if a condition is false for all."""
    steps.settings["steps"][1]["when"] = "{{ false }}"
    with rehearsed(read_job(None, steps.settings, {}), 5) as folders:
        assert [pq.read_table(folder / "data").num_rows for folder in folders] == [5, 5, 5]
        assert pq.read_table(folders[2] / "data")["status"].to_pylist() == ["ok"] * 5
