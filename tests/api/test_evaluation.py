"""`bm.evaluate` and `bm.diff` do what the commands do, and return typed values."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

import batchmix as bm
from batchmix.errors import JobError, RunError
from tests.calling import batchmix
from tests.conftest import Provider

ROWS = [{"text": f"word {number}", "label": "word 1", "kind": "<b>&"} for number in range(8)]
ECHO = "[[rehearsal:echo]] {{ text }}"
SCORERS = [{"kind": "includes", "target": "label"}]
JUDGE = {"kind": "judge", "model": "j", "rubric": "[[rehearsal:echo]] {{ response }} score: 1"}


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def at(standin: Provider) -> dict[str, Any]:
    """The keyword arguments that lead to the stand-in provider."""
    return {"model": "m", "base_url": standin.url, "provider": {"api_key_env": ""}}


@pytest.fixture
def run(at: Any) -> bm.Run:
    return bm.run(ROWS, ECHO, **at)


def mean(evaluation: bm.Evaluation) -> float | None:
    return evaluation.scores[0].score.mean


def test_the_scorers_are_a_list_a_table_a_job_or_the_runs_own(run: bm.Run, at: Any, standin: Provider) -> None:
    table = {"target": "label", "scorers": [{"kind": "includes"}]}
    job = bm.Job("-", **at, eval=table)
    Path("job.toml").write_text(job.to_toml())
    for scorers in (SCORERS, table, job, "job.toml", Path("job.toml")):
        assert mean(bm.evaluate(run, scorers)) == 1 / 8
    assert mean(bm.evaluate(run.folder, SCORERS)) == 1 / 8
    own = bm.run(ROWS, ECHO, **at, eval=table, out="own")
    assert mean(bm.evaluate(own)) == mean(bm.evaluate("own")) == 1 / 8
    assert standin.request_count() == 16
    shown = json.loads(batchmix("eval", "own", "--json").stdout)
    assert shown["scores"][0]["score"]["mean"] == 1 / 8


def test_missed_thresholds_and_a_baseline_are_in_the_outcome(run: bm.Run, at: Any) -> None:
    bm.evaluate(run, SCORERS)
    worse = bm.run([{**row, "text": "other"} for row in ROWS], ECHO, **at, out="worse")
    table = {"target": "label", "scorers": [{"kind": "includes"}], "against": str(run.folder)}
    evaluation = bm.evaluate(worse, table | {"guards": [{"min": 0.5}]})
    assert evaluation.missed == ("m: includes is 0, less than 0.5",)
    assert not evaluation.passed
    assert evaluation.diff is not None
    assert evaluation.diff.paired == 8
    assert "missed: m: includes is 0, less than 0.5" in repr(evaluation)


def test_a_diff_lists_what_is_worse_better_and_the_same(at: Any) -> None:
    rows = [{"text": f"word {number}"} for number in range(12)]
    first, second = (bm.run(rows, ECHO, **at, out=out) for out in ("first", "second"))
    for folder, pattern in ((first, "."), (second, ".")):
        bm.evaluate(folder, [{"kind": "regex", "pattern": pattern}])
    diff = bm.diff(first, "second")
    assert (diff.paired, diff.worse, diff.better) == (12, [], [])
    assert [(one.metric, one.scorer, one.model) for one in diff.same] == [
        ("score", "regex", "m"),
        ("unscored", "regex", "m"),
        ("answered", "", "m"),
        ("refused", "", "m"),
        ("empty", "", "m"),
    ]
    assert repr(diff).startswith(
        f"<Diff {first.folder} → second: 12 results in pairs; worse: none; not compared: none; better: none; same: "
    )


def test_two_prompts_are_compared_row_by_row(at: Any) -> None:
    rows = [{"text": f"word {number}"} for number in range(5)]
    for folder, prompt in (("first", "Say {{ text }}"), ("second", "Sing {{ text }}")):
        bm.evaluate(bm.run(rows, prompt, **at, out=folder), [{"kind": "regex", "pattern": "."}])
    diff = bm.diff("first", "second")
    assert (diff.paired, diff.changed, diff.passed) == (5, 0, True)


def test_a_run_without_scorers_is_compared_and_one_that_was_not_scored_yet_is_not(run: bm.Run, at: Any) -> None:
    assert bm.diff(run, run).passed
    table = {"target": "label", "scorers": [{"kind": "includes"}]}
    scored = bm.run(ROWS, ECHO, **at, eval=table, out="scored")
    (scored.folder / "evaluation" / "metrics.json").unlink()
    with pytest.raises(RunError, match="has not been evaluated"):
        bm.diff(run, scored)


def test_models_of_two_runs_are_mapped_by_hand(run: bm.Run, at: Any) -> None:
    models = [{"id": "m"}, {"id": "other"}]
    other = bm.run(ROWS, ECHO, base_url=at["base_url"], provider=at["provider"], models=models, out="other")
    diff = bm.diff(run, other, models={"m": "other"})
    assert diff.renamed == ("model other is compared with m of the earlier run",)
    assert bm.diff(other, other, models={"m": "other"}, same_request=True).changed == 8


def test_a_judge_works_under_a_running_loop_and_judges_each_answer_once(run: bm.Run, standin: Provider) -> None:
    async def judged() -> bm.Evaluation:
        return bm.evaluate(run, [JUDGE])

    assert mean(asyncio.run(judged())) == 1
    assert standin.request_count() == 16
    assert mean(bm.evaluate(bm.open(run.folder), [JUDGE])) == 1
    assert standin.request_count() == 16


def test_a_function_of_the_callers_own_is_imported_from_the_working_directory(run: bm.Run) -> None:
    Path("scoring.py").write_text("def long(response, target, row):\n    return float(len(response) > 3)\n")
    assert mean(bm.evaluate(run, [{"kind": "own", "python": "scoring:long"}])) == 1


@pytest.mark.parametrize(
    ("scorers", "message"),
    [
        ([{"kind": "exat"}], "eval.scorers.kind: there is no 'exat'; did you mean exact?"),
        ([{"kind": "exact"}], "eval.scorers: exact needs a target"),
        ([{"kind": "exact", "target": "lable"}], "there is no column 'lable'"),
        ([], "eval.scorers: at least one"),
        ("other.txt", "other.txt: is no job file"),
        (None, "the job has no"),
    ],
)
def test_wrong_scorers_are_refused(scorers: Any, message: str, run: bm.Run) -> None:
    with pytest.raises(JobError, match=message):
        bm.evaluate(run, scorers)


def test_what_a_notebook_shows_is_escaped(run: bm.Run) -> None:
    evaluation = bm.evaluate(run, {"target": "label", "scorers": [{"kind": "includes"}], "group_by": ["kind"]})
    html = evaluation._repr_html_()
    assert "kind = &lt;b&gt;&amp;" in html
    assert "<b>&" not in html
    assert "includes" in bm.diff(run, run)._repr_html_()
