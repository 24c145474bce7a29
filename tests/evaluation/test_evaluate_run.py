"""An evaluation from end to end: one score for each result and scorer, and metrics of the whole run."""

from __future__ import annotations

import gzip
import json

import pytest

from batchmix.errors import JobError, RunError, UsageError
from batchmix.evaluation.scoring import SCORES_SCHEMA
from tests.conftest import EvalBench

ROWS = [
    {"id": "a", "said": "it is one", "answer": "one", "kind": "x"},
    {"id": "b", "said": "it is two", "answer": "three", "kind": "x"},
    {"id": "c", "said": "three", "answer": None, "kind": "y"},
    {"id": "d", "said": "four", "answer": "four", "kind": None},
]


def test_each_result_has_a_score_of_each_scorer_in_order(evaluated: EvalBench) -> None:
    evaluated.settings |= {"samples": 2, "models": [{"id": "m"}, {"id": "k", "name": "other"}]}
    del evaluated.settings["model"]
    evaluated.settings["eval"]["scorers"].append({"kind": "exact", "name": "same"})
    evaluated.write_said(ROWS)
    evaluated.run()
    found = evaluated.evaluate()
    scores = evaluated.scores()
    keys = [(row["row"], row["model"], row["sample"], row["scorer"]) for row in scores]
    assert keys == [
        (row, model, sample, scorer)
        for row in range(4)
        for model in ("m", "other")
        for sample in range(2)
        for scorer in ("includes", "same")
    ]
    assert scores[0] == {
        "row": 0, "custom_id": "a", "model": "m", "sample": 0, "scorer": "includes", "score": 1.0, "target": "one",
        "extracted": None, "explanation": None,
    }  # fmt: skip
    assert [row["score"] for row in scores if row["scorer"] == "includes" and row["model"] == "m"][::2] == [
        1,
        0,
        None,
        1,
    ]
    assert found.scores[0].score.mean == pytest.approx(2 / 3)
    assert (found.scores[0].score.n, found.scores[0].score.rows, found.scores[0].no_target) == (6, 3, 2)
    assert found.scores[0].pass_at == {1: pytest.approx(2 / 3), 2: pytest.approx(2 / 3)}
    assert found.scores[0].pass_all == found.scores[0].pass_at
    same = next(score for score in found.scores if score.scorer == "same")
    assert (found.scores[0].majority_at, same.majority_at) == ({}, {1: 0, 2: 0})
    assert list(scores[0]) == SCORES_SCHEMA.names


def test_a_result_without_an_answer_counts_as_wrong_and_is_counted_apart(evaluated: EvalBench) -> None:
    evaluated.settings["input"]["prompt"] = "{{ said }} [[rehearsal:echo]]"
    evaluated.settings["retry"] = {"attempts": 1}
    answers = ["one", "[[rehearsal:400]]", "[[rehearsal:500]]", "[[rehearsal:refusal]]"]
    evaluated.write_said([{"said": text, "answer": "one"} for text in answers])
    evaluated.run()
    found = evaluated.evaluate()
    assert [row["score"] for row in evaluated.scores()] == [1, 0, 0, 0]
    assert [row["explanation"] for row in evaluated.scores()][1:] == [
        "no answer: rejected (rejected)",
        "no answer: failed (server_error)",
        "refused",
    ]
    assert found.scores[0].no_answer == 2
    assert (found.models[0].answered, found.models[0].failed, found.models[0].refused) == (0.5, 0.5, 0.25)


def test_scores_are_given_for_each_group_too(evaluated: EvalBench) -> None:
    evaluated.settings["eval"]["group_by"] = ["kind"]
    evaluated.write_said(ROWS)
    evaluated.run()
    found = evaluated.evaluate()
    assert [(score.group, score.score.mean) for score in found.scores] == [
        ({}, pytest.approx(2 / 3)),
        ({"kind": "x"}, 0.5),
        ({"kind": "y"}, None),
        ({"kind": None}, 1.0),
    ]


def test_a_resumed_run_gives_the_metrics_of_the_whole(evaluated: EvalBench) -> None:
    evaluated.write_said(ROWS * 10)
    evaluated.run(limit=17)
    part = evaluated.evaluate()
    assert part.results == 17
    evaluated.run()
    resumed = evaluated.evaluate()
    evaluated.out = evaluated.root / "whole"
    evaluated.settings["output"]["path"] = str(evaluated.out)
    evaluated.run()
    assert resumed.scores == evaluated.evaluate().scores
    assert resumed.scores[0].score.n == 30
    assert resumed.complete


def test_evaluating_sends_nothing_and_leaves_the_data_unchanged(evaluated: EvalBench) -> None:
    evaluated.write_said(ROWS)
    evaluated.run()
    before = {path.name: path.read_bytes() for path in (evaluated.out / "data").iterdir()}
    evaluated.evaluate()
    evaluated.settings["eval"]["scorers"] = [{"kind": "similarity"}]
    evaluated.evaluate()
    assert evaluated.standin.request_count() == 4
    assert {path.name: path.read_bytes() for path in (evaluated.out / "data").iterdir()} == before
    assert {path.name for path in (evaluated.out / "evaluation").iterdir()} == {"scores.parquet", "metrics.json"}
    assert {row["scorer"] for row in evaluated.scores()} == {"similarity"}
    evaluated.run()  # a folder with an evaluation is still a run


def test_a_missing_target_column_is_refused_before_anything_is_sent(evaluated: EvalBench) -> None:
    evaluated.write_said(ROWS)
    evaluated.settings["eval"]["target"] = "anwser"
    with pytest.raises(JobError, match="no column 'anwser'"):
        evaluated.run()
    assert evaluated.standin.request_count() == 0


def test_lone_surrogates_and_deep_nesting_hurt_only_their_row(evaluated: EvalBench) -> None:
    evaluated.settings["eval"]["scorers"] = [{"kind": "json"}]
    deep = '{"a":' * 5000 + "1" + "}" * 5000
    evaluated.write_said([{"said": text, "answer": '{"a": 1}'} for text in ['{"a": "\\ud800"}', deep, '{"a": 1}']])
    evaluated.run()
    evaluated.evaluate()
    assert [row["score"] for row in evaluated.scores()][::2] == [0.0, 1.0]
    json.loads((evaluated.out / "evaluation" / "metrics.json").read_text())


def test_a_job_with_a_missing_target_leaves_no_folder(evaluated: EvalBench) -> None:
    evaluated.source = evaluated.root / "rows.jsonl.gz"
    evaluated.source.write_bytes(gzip.compress(b'{"said": "a", "answer": "a"}\n'))
    evaluated.settings["input"]["path"] = str(evaluated.source)
    evaluated.settings["eval"]["target"] = "anser"
    with pytest.raises(JobError, match="'anser'"):
        evaluated.run()
    assert not evaluated.out.exists()


def test_rows_of_one_document_are_one_cluster(evaluated: EvalBench) -> None:
    rows = [{"said": word, "answer": "yes", "doc": doc} for doc in "abcd" for word in (["yes", "no"][doc in "ab"],) * 5]
    rows += [{"said": word, "answer": "yes", "doc": None} for word in ("yes", "no")]
    evaluated.settings["eval"]["cluster"] = "doc"
    evaluated.write_said(rows)
    evaluated.run()
    score = evaluated.evaluate().scores[0].score
    del evaluated.settings["eval"]["cluster"]
    by_row = evaluated.evaluate().scores[0].score
    assert (score.n, score.rows, by_row.rows) == (22, 6, 22)
    assert score.mean == by_row.mean
    assert score.stderr is not None
    assert by_row.stderr is not None
    assert score.stderr > 1.9 * by_row.stderr


def test_rows_count_as_their_weight_says(evaluated: EvalBench) -> None:
    words = [("yes", 3), ("no", 1), ("yes", 0), ("no", 0.5), ("yes", 0.5)]
    evaluated.settings["eval"]["weight"] = "w"
    evaluated.write_said([{"said": word, "answer": "yes", "w": weight} for word, weight in words])
    evaluated.run()
    score = evaluated.evaluate().scores[0].score
    assert (score.n, score.mean) == (4, pytest.approx(0.7))


@pytest.mark.parametrize(("weight", "shown"), [("much", "'much'"), (-1, "'-1'"), (None, "no value"), ("inf", "'inf'")])
def test_a_weight_that_is_none_is_refused_with_its_row(evaluated: EvalBench, weight: object, shown: str) -> None:
    evaluated.write_said(
        [{"said": "yes", "answer": "yes", "w": type(weight or "")(1)}, {"said": "yes", "answer": "yes", "w": weight}]
    )
    evaluated.run()
    evaluated.settings["eval"]["weight"] = "w"
    with pytest.raises(RunError, match=f"eval.weight: row 1 has .*{shown}.* in the column 'w'"):
        evaluated.evaluate()


@pytest.mark.parametrize("key", ["cluster", "weight"])
def test_a_column_that_is_not_carried_is_refused_before_anything_is_sent(evaluated: EvalBench, key: str) -> None:
    evaluated.settings["eval"][key] = "dok"
    evaluated.write_said([{"said": "yes", "answer": "yes", "doc": "a"}])
    with pytest.raises(UsageError, match=r"there is no column 'dok'.*did you mean '?doc"):
        evaluated.run()
