"""The labels of people are scores: of the answers they were given to, and of no others."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchmix.comparison.run_diff import compare_runs
from batchmix.errors import JobError
from batchmix.evaluation.custom_scorer import CustomFunction
from batchmix.job import read_job
from batchmix.scorers.indirect import Custom
from batchmix.verdict.evaluate_run import prepare_scorers
from tests.conftest import EvalBench

ROWS = [{"id": f"r{number}", "said": text, "answer": None} for number, text in enumerate(["one", "two", "three"])]


def labelled(bench: EvalBench, text: str) -> None:
    path = bench.out.parent / "labels.csv"
    path.write_text(text)
    bench.settings["eval"]["scorers"] = [{"kind": "labels", "path": str(path), "values": {"good": 1, "bad": 0}}]


def test_labels_are_the_scores_of_the_answers_that_have_one(evaluated: EvalBench) -> None:
    labelled(evaluated, "custom_id,response,label\nr0,[[rehearsal:echo]]  one,good\nr1,another answer,good\n")
    evaluated.write_said(ROWS)
    evaluated.run()
    found = evaluated.evaluate()
    scores = [(row["score"], row["target"], row["extracted"], row["explanation"]) for row in evaluated.scores()]
    assert scores == [
        (1, "labelled", "good", None),
        (None, None, None, "the row's label is that of another answer"),
        (None, None, None, "the row has no label"),
    ]
    assert (found.scores[0].scorer, found.scores[0].score.mean, found.scores[0].unscored) == ("labels", 1, 0)


def test_a_label_of_a_refusal_and_of_a_failure_is_its_score(evaluated: EvalBench) -> None:
    evaluated.settings["input"]["prompt"] = "{{ said }} [[rehearsal:echo]]"
    labelled(evaluated, "row,label\n0,1\n1,0.25\n")
    evaluated.write_said([{"said": f"[[rehearsal:{what}]]", "answer": None} for what in ("refusal", "400", "400")])
    evaluated.run()
    evaluated.evaluate()
    assert [row["score"] for row in evaluated.scores()] == [1, 0.25, None]


def test_labels_must_say_which_of_several_answers_is_meant(evaluated: EvalBench) -> None:
    labelled(evaluated, "custom_id,sample,label\nr0,0,1\n")
    evaluated.write_said(ROWS)
    evaluated.settings["samples"] = 2
    prepare_scorers(read_job(None, evaluated.settings, {}))
    evaluated.settings["models"] = [{"id": "m"}, {"id": "k"}]
    del evaluated.settings["model"]
    with pytest.raises(JobError, match="the answers of 2 models; the labels need a column model"):
        prepare_scorers(read_job(None, evaluated.settings, {}))


def test_a_path_in_the_job_file_is_relative_to_it(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"prompt": "x"}\n')
    path = tmp_path / "job.toml"
    path.write_text(
        'model = "m"\ninput = {path = "rows.jsonl"}\neval = {scorers = [{kind = "labels", path = "l.csv"}]}\n'
    )
    job = read_job(path, {}, {})
    assert job.eval is not None
    assert job.eval.scorers[0].path == str(tmp_path / "l.csv")


def test_a_target_is_refused_since_a_label_is_the_score_itself(evaluated: EvalBench) -> None:
    evaluated.settings["eval"]["scorers"] = [{"kind": "labels", "path": "labels.csv", "target": "answer"}]
    with pytest.raises(JobError, match="takes no target"):
        read_job(None, evaluated.settings, {})


def test_a_score_or_a_label_that_is_too_large_is_none(evaluated: EvalBench, tmp_path: Path) -> None:
    (tmp_path / "huge_scores.py").write_text("def huge(response, target, row):\n    return 1e308\n")
    score = CustomFunction(Custom(name="own", python="huge_scores:huge"), tmp_path).scores([("a", None, {})])
    assert score == [(None, "huge_scores:huge: 1e+308 is no score: its size is above 1e+12")]
    labelled(evaluated, "custom_id,label\nr0,good\n")
    evaluated.settings["eval"]["scorers"][0]["values"] = {"good": 1e308}
    with pytest.raises(JobError, match="a number of at most"):
        read_job(None, evaluated.settings, {})


def test_a_label_that_is_gone_is_no_changed_target(evaluated: EvalBench) -> None:
    labelled(evaluated, "custom_id,label\nr0,good\nr1,good\nr2,bad\n")
    evaluated.write_said(ROWS)
    evaluated.run()
    evaluated.evaluate()
    first, evaluated.out = evaluated.out, evaluated.root / "second"
    evaluated.settings["output"]["path"] = str(evaluated.out)
    labelled(evaluated, "custom_id,label\nr0,good\n")
    evaluated.run()
    evaluated.evaluate()
    found = compare_runs(first, evaluated.out)
    assert (found.changed, found.passed) == (0, False)
    assert any("2 without a label" in alarm.text for alarm in found.alarms)
