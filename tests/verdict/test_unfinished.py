"""Unfinished runs can be evaluated, but do not pass; what a try leaves out on purpose does not make it unfinished."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from batchmix.store.run_folder import Layout
from batchmix.verdict.verdict_file import read_verdict
from tests.calling import called
from tests.conftest import EvalBench

JOB = """
name = "bench"
models = [{{ id = "a" }}, {{ id = "b" }}]
[input]
path = "{rows}"
prompt = "[[rehearsal:echo]] {{{{ said }}}}"
[provider]
base_url = "{url}"
api_key_env = ""
[output]
path = "{out}"
[eval]
target = "answer"
scorers = [{{ kind = "includes" }}]
"""


@pytest.fixture
def job(evaluated: EvalBench) -> Path:
    evaluated.write_said([{"said": "yes", "answer": "yes"}] * 20)
    path = evaluated.root / "job.toml"
    path.write_text(JOB.format(rows=evaluated.source, url=evaluated.standin.url, out=evaluated.out))
    return path


def failures(junit: Path) -> list[tuple[str | None, str | None]]:
    cases = ElementTree.parse(junit).iter("testcase")
    return [(case.get("name"), found.get("type")) for case in cases for found in case.iter("failure")]


def test_an_unfinished_run_is_shown_but_does_not_pass(
    evaluated: EvalBench, job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    junit = evaluated.root / "junit.xml"
    called(monkeypatch, "run", str(job), "--models", "a")
    path = evaluated.out / "run.json"  # as if the start had asked both models, and been stopped
    left_open = (
        path.read_text().replace('"is_try": true', '"is_try": false').replace('"exit_code": 0', '"exit_code": 3')
    )
    path.write_text("\n".join(line for line in left_open.splitlines() if '"crc"' not in line).replace(",\n}", "\n}"))
    done = called(monkeypatch, "eval", str(evaluated.out), "--junit", str(junit))
    assert done.returncode == 1
    assert (
        "INCOMPLETE: 20 of 40 results are missing: the run is not finished; go on with batchmix resume" in done.stdout
    )
    assert "a      includes" in done.stdout
    assert "batchmix baseline" not in done.stdout
    assert ("the run is complete", "incomplete") in failures(junit)
    verdict = read_verdict(Layout(evaluated.out))
    assert verdict is not None
    assert (verdict.passed, verdict.alarms[0].kind) == (False, "incomplete")
    shown = called(monkeypatch, "diff", str(evaluated.out), str(evaluated.out))
    assert (shown.returncode, "INCOMPLETE: " in shown.stdout) == (1, True)
    called(monkeypatch, "resume", str(evaluated.out))
    assert called(monkeypatch, "eval", str(evaluated.out)).returncode == 0


@pytest.mark.parametrize("left_out", [("--models", "a"), ("--limit", "5")])
def test_a_try_with_all_that_it_was_asked_for_is_finished(
    evaluated: EvalBench, job: Path, left_out: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    junit = evaluated.root / "junit.xml"
    done = called(monkeypatch, "run", str(job), *left_out, "--junit", str(junit))
    assert (done.returncode, failures(junit)) == (0, [])
    assert evaluated.start()["exit_code"] == 0
    assert "bench: finished\n" in done.stdout
    states = [done.stdout]
    states += [called(monkeypatch, command, str(evaluated.out)).stdout for command in ("status", "eval")]
    for shown in states:
        assert "unanswered" not in shown
        assert "not finished" not in shown
    assert ("left out     20" in done.stdout) == (left_out[0] == "--models")


def test_an_evaluated_canary_is_finished_and_the_run_is_not(
    evaluated: EvalBench, job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert called(monkeypatch, "run", str(job), "--canary", "3").returncode == 3
    assert called(monkeypatch, "eval", str(evaluated.out)).returncode == 0
    assert "only the canary was sent" in called(monkeypatch, "status", str(evaluated.out)).stdout
