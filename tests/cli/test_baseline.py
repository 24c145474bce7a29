"""Runs after each other by the command line: which is compared with which, what is pinned, and the exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.calling import batchmix, refused
from tests.conftest import Provider

JOB = """
name = "night"
model = "m"
[input]
path = "rows.jsonl"
prompt = "[[rehearsal:{{{{ kind }}}}]] {{{{ said }}}}"
[provider]
base_url = "{url}"
api_key_env = ""
[output]
path = "{root}/runs/{{name}}-x"
[eval]
target = "answer"
against = "last-good"
[[eval.scorers]]
kind = "includes"
"""


class Runs:
    """Runs of one job, one after the other."""

    def __init__(self, root: Path, standin: Provider) -> None:
        self.root = root
        (root / "job.toml").write_text(JOB.format(url=standin.url, root=root))

    def run(self, name: str, *options: str, right: int = 30, kind: str = "echo", bad: int = 0) -> tuple[int, Any]:
        """Run the job in a folder of this name. Return the exit code and the verdict."""
        rows = [
            {
                "id": f"r{n}",
                "kind": "echo" if n < 40 - bad else kind,
                "said": f"{'yes' if n < right else 'no'} {n}",
                "answer": "yes",
            }
            for n in range(40)
        ]
        (self.root / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        done = batchmix("run", "job.toml", "--out", f"runs/{name}", *options, cwd=self.root)
        return done.returncode, json.loads((self.root / "runs" / name / "evaluation/verdict.json").read_text())

    def baseline(self, name: str, *options: str) -> str:
        done = batchmix("baseline", f"runs/{name}", *options, cwd=self.root)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def runs(tmp_path: Path, standin: Provider) -> Runs:
    return Runs(tmp_path, standin)


def test_neither_a_bad_night_nor_a_try_nor_an_alarm_is_the_measure_of_the_next(runs: Runs) -> None:
    code, verdict = runs.run("a")
    assert (code, verdict["baseline"]["run"], verdict["passed"]) == (0, "", True)
    code, verdict = runs.run("b", kind="400", bad=16)
    assert (code, verdict["baseline"]["run"]) == (1, "a")
    assert "answered" in {alarm["metric"] for alarm in verdict["alarms"]}
    assert runs.run("c", "--limit", "10")[1]["baseline"]["run"] == "a"
    for name in ("d", "e"):
        code, verdict = runs.run(name, right=12)
        assert (code, verdict["baseline"]["run"]) == (1, "a")
        assert {(alarm["kind"], alarm["metric"]) for alarm in verdict["alarms"]} == {("worse", "score")}
    code, verdict = runs.run("f", right=31)
    assert (code, verdict["baseline"]["run"]) == (0, "a")
    shown = batchmix("status", "night", cwd=runs.root).stdout
    verdicts = [line.split()[3] for line in shown.splitlines()[1:7]]
    assert [verdicts[0], *verdicts[3:]] == ["passed", "1", "1", "passed"]


def test_a_pinned_run_is_the_baseline_until_the_pin_is_taken_off(runs: Runs) -> None:
    runs.run("a")
    runs.run("b", right=12)
    assert runs.baseline("b") == "night: b is the pinned baseline\n"
    code, verdict = runs.run("c", right=12)
    assert (code, verdict["baseline"]["run"], verdict["baseline"]["how"]) == (0, "b", "pinned")
    assert "in place of b" in runs.baseline("c")
    (runs.root / "runs/c").rename(runs.root / "moved")
    gone = batchmix("run", "job.toml", "--out", "runs/d", cwd=runs.root)
    refused(gone, "runs/c: the pinned baseline is gone", "batchmix baseline", "--clear")
    assert not (runs.root / "runs/d").exists()
    assert runs.baseline("c", "--clear") == "night: c is no longer the pinned baseline\n"
    assert runs.baseline("a", "--clear") == "night: no run was pinned\n"
    assert runs.run("d", right=31)[1]["baseline"]["run"] == "a"
    refused(batchmix("baseline", "runs/none", cwd=runs.root), "runs/none")
    unscored = (
        "rows.jsonl",
        "--model",
        "m",
        "--prompt",
        "{{ said }}",
        "--base-url",
        "rehearsal:",
        "--out",
        "runs/unscored",
    )
    assert batchmix("run", *unscored, cwd=runs.root).returncode == 0
    refused(batchmix("baseline", "runs/unscored", cwd=runs.root), "has not been evaluated", "batchmix eval")


def test_what_eval_and_its_json_say_of_the_baseline(runs: Runs) -> None:
    runs.run("a")
    runs.run("b", right=12)
    done = batchmix("eval", "runs/b", cwd=runs.root)
    assert done.returncode == 1
    assert "baseline: a (last-good)" in done.stdout
    assert "it alarms until it is over; if it is meant to stay, accept it: batchmix baseline runs/b" in done.stdout
    found = json.loads(batchmix("eval", "runs/b", "--json", cwd=runs.root).stdout)
    assert (found["passed"], found["against"], found["baseline"]["run"]) == (False, "last-good", "a")
    assert "no baseline yet: this is the first run" in batchmix("eval", "runs/a", cwd=runs.root).stdout
    wrong = batchmix("eval", "runs/b", "--set", "eval.against=lastgood", cwd=runs.root)
    refused(wrong, "lastgood", "last-good")


def test_a_night_of_refusals_is_an_alarm_and_no_baseline(runs: Runs) -> None:
    assert runs.run("a")[0] == 0
    code, verdict = runs.run("b", kind="refusal", bad=16)
    assert code == 1
    assert ("worse", "refused") in {(alarm["kind"], alarm["metric"]) for alarm in verdict["alarms"]}
    code, verdict = runs.run("c")
    assert (code, verdict["baseline"]["run"]) == (0, "a")
    runs.baseline("c")
    runs.baseline("c", "--clear")


def test_the_first_night_is_no_baseline_if_it_refused(runs: Runs) -> None:
    runs.run("a", kind="refusal", bad=16)
    code, verdict = runs.run("b")
    assert (code, verdict["baseline"]["run"]) == (0, "")
    assert "answered less than 95%, without refusals" in verdict["baseline"]["note"]


def test_a_try_is_compared_on_the_rows_that_it_has(runs: Runs) -> None:
    runs.run("a")
    code, verdict = runs.run("b", "--limit", "20")
    assert (code, verdict["baseline"]["run"], verdict["alarms"]) == (0, "a", [])
    code, verdict = runs.run("c", "--limit", "30", right=0)
    assert code == 1
    shown = batchmix("eval", "runs/c", cwd=runs.root).stdout
    assert "WORSE: m: includes" in shown
    assert "accept it" not in shown
    runs.run("d")
    past = json.loads(batchmix("status", "night", "--json", cwd=runs.root).stdout)
    assert [one["changed"] for one in past] == ["", "", "", ""]
