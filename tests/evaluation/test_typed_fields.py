"""`target = "answer.FIELD"`: a field of each typed answer is compared with a column of the input."""

from __future__ import annotations

import json
from typing import Any

import pytest

from batchmix.errors import JobError
from batchmix.evaluation.outcome import evaluated as evaluate
from batchmix.evaluation.outcome import prepared_evaluation
from batchmix.job import job_settings, read_job
from tests.conftest import Provider
from tests.evaluation.conftest import EvalBench

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "sentiment": {"enum": ["good", "bad"]},
        "stars": {"type": ["number", "null"]},
        "address": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
    "required": ["sentiment"],
}
ROWS: list[dict[str, Any]] = [
    {
        "said": {"sentiment": "good", "stars": 3.0, "address": {"city": "Rome"}},
        "sentiment": "good",
        "n": 3,
        "city": "Rome",
    },
    {"said": {"sentiment": "bad", "stars": None, "address": {}}, "sentiment": "good", "n": 3, "city": "Rome"},
    {"said": {"sentiment": "great"}, "sentiment": "good", "n": 3, "city": "Rome"},
    {"said": {"sentiment": "good", "stars": 4}, "sentiment": None, "n": 4, "city": None},
]
SCORERS: list[dict[str, Any]] = [
    {"kind": "exact", "target": "answer.sentiment"},
    {"kind": "number", "field": "stars", "target": "n"},
    {"kind": "exact", "name": "city", "target": "answer.address.city"},
]


@pytest.fixture
def typed(evaluated: EvalBench) -> EvalBench:
    evaluated.settings |= {"answer": {"schema": SCHEMA, "repair": 0}, "eval": {"scorers": SCORERS}}
    evaluated.write_said([row | {"said": json.dumps(row["said"])} for row in ROWS])
    return evaluated


def scores(bench: EvalBench) -> dict[str, list[tuple[float | None, str | None]]]:
    found: dict[str, list[tuple[float | None, str | None]]] = {}
    for row in bench.scores():
        found.setdefault(row["scorer"], []).append((row["score"], row["explanation"]))
    return found


@pytest.mark.parametrize("on_invalid", ["fail", "keep"])
def test_fields_are_compared_with_their_columns(typed: EvalBench, on_invalid: str) -> None:
    typed.settings["answer"]["on_invalid"] = on_invalid
    typed.run()
    typed.evaluate()
    no = "no answer: failed (schema)" if on_invalid == "fail" else "the answer has no {}"
    assert scores(typed) == {
        "exact": [(1.0, None), (0.0, None), (0.0, no.format("sentiment")), (None, "the row has no target")],
        "number": [(1.0, None), (0.0, "the answer has no stars"), (0.0, no.format("stars")), (1.0, None)],
        "city": [
            (1.0, None), (0.0, "the answer has no address.city"), (0.0, no.format("address.city")),
            (None, "the row has no target"),
        ],
    }  # fmt: skip


def test_a_finished_run_is_evaluated_with_other_scorers_by_its_own_schema(typed: EvalBench) -> None:
    del typed.settings["eval"]
    typed.settings["models"] = [{"id": "m"}, {"id": "n"}]
    typed.settings.pop("model", None)
    typed.run()
    other = read_job(
        None,
        {"input": {"path": "-"}, "model": "m", "eval": {"target": "answer.sentiment", "scorers": [{"kind": "exact"}]}},
    )
    metrics = evaluate(prepared_evaluation(typed.out, other, {}, {})).metrics
    assert {(score.model, score.score.mean) for score in metrics.scores} == {("m", 1 / 3), ("n", 1 / 3)}
    wrong = {"eval": {"scorers": [{"kind": "exact", "target": "answer.sentimnt"}]}}
    with pytest.raises(JobError, match="did you mean sentiment"):
        prepared_evaluation(typed.out, None, wrong, {})


@pytest.mark.parametrize(
    ("scorer", "message"),
    [
        ({"target": "answer.sentimnt"}, "'sentimnt' is not in the schema of the answers; did you mean sentiment?"),
        ({"target": "answer.address.cty"}, "did you mean address.city?"),
        ({"field": "xyz", "target": "n"}, "there are sentiment, stars, address, address.city"),
        ({"target": "answer.stars"}, "the column 'stars', and there is no such column .* field = \"stars\" and target"),
    ],
)
def test_a_wrong_field_or_column_is_refused_before_anything_is_sent(
    typed: EvalBench, standin: Provider, scorer: dict[str, str], message: str
) -> None:
    typed.settings["eval"] = {"scorers": [{"kind": "exact", **scorer}]}
    with pytest.raises(JobError, match=message):
        typed.run()
    assert standin.request_count() == 0


def test_a_field_needs_a_schema(typed: EvalBench, standin: Provider) -> None:
    del typed.settings["answer"]
    typed.settings["eval"] = {"scorers": [{"kind": "exact", "field": "stars", "target": "n"}]}
    with pytest.raises(JobError, match=r"'stars' needs typed answers, and the job has no \[answer\]"):
        typed.run()
    assert standin.request_count() == 0


def test_the_recorded_job_reads_the_same(typed: EvalBench) -> None:
    job = read_job(None, typed.settings)
    assert job.eval is not None
    again = read_job(None, job_settings(job))
    assert again.eval == job.eval
    assert [(scorer.field, scorer.target) for scorer in job.eval.scorers] == [
        ("sentiment", "sentiment"), ("stars", "n"), ("address.city", "city"),
    ]  # fmt: skip


def test_a_judge_reads_the_field_and_is_not_asked_for_the_schema(typed: EvalBench, standin: Provider) -> None:
    judge = {"kind": "judge", "model": "j", "rubric": "[[rehearsal:echo]] Grade: {{ 1 if response == 'good' else 0 }}"}
    typed.settings["eval"] = {"scorers": [judge | {"target": "answer.sentiment"}]}
    typed.run()
    typed.evaluate()
    assert [score for score, _ in scores(typed)["judge"]] == [1.0, 0.0, 0.0, None]
