"""`target = "answer.FIELD"`: a field of each typed answer is compared with a column of the input."""

from __future__ import annotations

import json
from typing import Any

import pytest

from batchmix.answers.typed import TypedAnswers
from batchmix.errors import JobError
from batchmix.evaluation.scored_text import scored_texts
from batchmix.job import job_settings, read_job
from batchmix.verdict.outcome import evaluated as evaluate
from batchmix.verdict.outcome import prepared_evaluation
from tests.conftest import EvalBench, Provider

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "sentiment": {"enum": ["good", "bad"]},
        "stars": {"type": ["number", "null"]},
        "address": {"type": "object", "properties": {"city": {"type": "string"}}},
        "tags": {"type": "array", "items": {"type": "string"}},
        "extra": {"type": "object"},
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


@pytest.mark.parametrize("flatten", [False, True])
@pytest.mark.parametrize("on_invalid", ["fail", "keep"])
def test_fields_are_compared_with_their_columns(typed: EvalBench, on_invalid: str, flatten: bool) -> None:
    typed.settings["answer"] |= {"on_invalid": on_invalid, "flatten": flatten}
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


ANY_ROOT: list[tuple[dict[str, Any], list[str], list[str | None]]] = [
    ({"enum": ["good", "bad"]}, ['"good"', '"great"', "good"], ["good", None, None]),
    ({"type": ["integer", "null"]}, ["3", "4.0", "null", '"3"'], ["3", "4", None, None]),
    ({"type": "array", "items": {"type": "integer"}}, ["```json\n[1,2]\n```", "[]", "{}"], ["[1, 2]", "[]", None]),
    ({"anyOf": [{"type": "boolean"}, {"type": "integer"}]}, ["true", "0", '""'], ["true", "0", None]),
]


@pytest.mark.parametrize(("schema", "said", "expected"), ANY_ROOT)
def test_a_whole_answer_is_scored_whatever_its_root(
    typed: EvalBench, schema: dict[str, Any], said: list[str], expected: list[str | None]
) -> None:
    typed.settings["answer"]["schema"] = schema
    typed.settings["eval"] = {"scorers": [{"kind": "exact", "field": "answer", "target": "label"}]}
    job = read_job(None, typed.settings)
    assert job.eval is not None
    results = [{"status": "ok", "response": text, "tool_calls": None} for text in said]
    assert scored_texts(job.eval.scorers[0], results, TypedAnswers(schema)) == expected


def test_a_whole_object_is_compared_without_what_surrounds_it(typed: EvalBench) -> None:
    typed.write_said([{"said": said, "label": '{"stars": 3}'} for said in ('{"stars":3}', '{"stars": 4}', '{"n": 3}')])
    typed.settings["answer"]["schema"] = {"type": "object", "properties": {"stars": {"type": "integer"}}}
    typed.settings["eval"] = {"scorers": [{"kind": "exact", "field": "answer", "target": "label"}]}
    typed.run()
    typed.evaluate()
    assert scores(typed) == {"exact": [(1.0, None), (0.0, None), (0.0, None)]}


def test_a_field_with_dots_in_its_name_and_one_within_another_are_told_apart(typed: EvalBench) -> None:
    inner = {"type": "object", "properties": {"b": {"type": "string"}, "c": {"type": "string"}}}
    for properties in ({"a": inner, "a.b": {"type": "string"}}, {"a.b": {"type": "string"}, "a": inner}):
        typed.settings["answer"]["schema"] = {"type": "object", "properties": properties}
        names = [{"kind": "exact", "name": field, "target": f"answer.{field}"} for field in ("a.b", "a.c")]
        typed.settings["eval"] = {"scorers": names}
        said = {"a": {"b": "inner", "c": "third"}, "a.b": "outer"}
        typed.write_said([{"said": json.dumps(said), "a.b": "outer", "b": "inner", "c": "third"}])
        typed.run(update=True)
        typed.evaluate()
        assert scores(typed) == {"a.b": [(1.0, None)], "a.c": [(1.0, None)]}


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
        ({"field": "xyz", "target": "n"}, "there are sentiment, stars, address, address.city, tags, extra, answer$"),
        ({"target": "answer.tags.0"}, "tags is no object with known fields, and is compared as a whole"),
        ({"target": "answer.extra.x"}, "extra is no object with known fields, and is compared as a whole"),
        ({"target": "answr.sentiment"}, "no column 'answr.sentiment' in the output; did you mean answer.sentiment?"),
        ({"target": "sentimnt"}, "no column 'sentimnt' in the output; did you mean sentiment?"),
        ({"target": "answer"}, 'the column \'answer\', and there .* field = "answer" and target = "COLUMN"$'),
        (
            {"kind": "regex", "pattern": "x", "target": "answer.stars"},
            'field = "stars" and target = "COLUMN", or only field = "stars"',
        ),
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
