"""Answers that people scored get the same score, none counts as right by mistake, and each setting does what it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from batchmix.errors import JobError
from batchmix.job import read_job
from batchmix.scorers.json_fields import Json

LABELLED = [json.loads(line) for line in (Path(__file__).parent / "json_answers.jsonl").read_text().splitlines()]
"""Answers with the scores that a careful person gives: null where the answer does not say one thing."""
DIFFER = [case for case in LABELLED if "last year" in case["response"]]
"""Without a word that says so, the later of two values is not taken for the answer, though a person may see that."""


def score(response: str, target: Any, **settings: Any) -> float | None:
    config = msgspec.convert({"kind": "json"} | settings, Json)
    text = target if isinstance(target, str) else json.dumps(target)
    return config.score_function()(response, text, {}).score


@pytest.mark.parametrize("case", LABELLED, ids=lambda case: f"{case['source_style']}: {case['response'][:40]!r}")
def test_an_answer_has_the_score_that_a_person_gives_it(case: dict[str, Any]) -> None:
    found = score(case["response"], case["target"], **case["settings"])
    if case in DIFFER:
        assert found is None
    else:
        assert found == (None if case["expected"] is None else pytest.approx(case["expected"]))


TARGET = {"total": 100.0, "seller": {"name": "Ann", "city": "Rome"}, "tags": ["a", "b"], "n": 2}


@pytest.mark.parametrize(
    ("answer", "settings", "expected"),
    [
        ({"total": 100.4}, {"tolerance": 0.5}, 1),
        ({"total": 100.4}, {"tolerance": {"total": 0.5}}, 1),
        ({"total": 100.4}, {"tolerance": {"n": 0.5}}, 0.75),
        ({"total": 1}, {"weights": {"total": 3}}, 0.5),
        ({"total": 1}, {"weights": {"total": 0}}, 1),
        ({"tags": ["b", "a"]}, {}, 0.75),
        ({"tags": ["b", "a"]}, {"order": False}, 1),
        ({"tags": ["b", "b"]}, {"order": False}, 0.75),
        ({"tags": ["b"]}, {"lists": "f1"}, (3 + 2 / 3) / 4),
        ({"tags": []}, {"lists": "f1"}, 0.75),
        ({"seller": {"name": "Ann", "city": "Oslo"}}, {"fields": ["seller.name", "seller.city"]}, 0.5),
        ({"seller": {"name": "Ann", "city": "Oslo"}}, {"fields": ["seller.city"], "casefold": True}, 0),
        ({"more": 1}, {}, 1),
        ({"more": 1}, {"extra": False}, 0.8),
        ({"more": None}, {"extra": False}, 1),
        ({"seller": {"name": "Ann", "city": "Rome", "zip": 1}}, {"extra": False}, 0.75),
    ],
)
def test_each_setting_changes_what_counts(answer: dict[str, Any], settings: dict[str, Any], expected: float) -> None:
    assert score(json.dumps(TARGET | answer), TARGET, **settings) == pytest.approx(expected)


def test_a_name_with_a_dot_is_a_field_of_its_own_if_there_is_one() -> None:
    assert score('{"a.b": 1, "a": {"b": 2}}', {"a.b": 1}, fields=["a.b"]) == 1
    assert score('{"a": {"b": 2}}', {"a": {"b": 2}}, fields=["a.b"]) == 1


def test_an_answer_must_fit_the_schema_too(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer", "maximum": 5}}, "required": ["n"]}
    (tmp_path / "rows.jsonl").write_text('{"prompt": "x", "t": "{}"}\n')
    (tmp_path / "fits.json").write_text(json.dumps(schema))
    (tmp_path / "job.toml").write_text(
        'model = "m"\ninput = {path = "rows.jsonl"}\n'
        'eval = {target = "t", scorers = [{kind = "json", fields = ["n"], schema = "fits.json"}]}\n'
    )
    job = read_job(tmp_path / "job.toml", {}, {})
    assert job.eval is not None
    function = job.eval.scorers[0].score_function()
    found = [function(text, '{"n": 9}', {}) for text in ('{"n": 5}', '{"n": 9}', '{"n": "9"}', "no")]
    assert [each.score for each in found] == [0, 0, 0, 0]
    assert found[1].explanation == "does not fit the schema: /n: 9 is greater than the maximum of 5"
    assert function("{}", '{"n": 9}', {}).explanation == 'does not fit the schema: "n" is a required property'
    assert function('{"n": 4}', '{"n": 4}', {}).score == 1


@pytest.mark.parametrize("schema", ["missing.json", "{", {"type": "objekt"}])
def test_a_schema_that_is_none_is_refused_with_its_setting(schema: Any) -> None:
    scorer = {"kind": "json", "target": "t", "schema": schema}
    with pytest.raises(JobError, match=r"^--set eval\.scorers\.schema: |^eval\.scorers\.schema: "):
        read_job(None, {"model": "m", "input": {"path": "rows.jsonl"}, "eval": {"scorers": [scorer]}}, {})


def test_weights_that_leave_nothing_are_refused() -> None:
    scorer = {"kind": "json", "target": "t", "fields": ["a"], "weights": {"a": 0}}
    with pytest.raises(JobError, match=r"eval\.scorers\.weights"):
        read_job(None, {"model": "m", "input": {"path": "rows.jsonl"}, "eval": {"scorers": [scorer]}}, {})
    assert score('{"a": 1}', {"a": 1}, weights={"a": 0}) is None


def test_lists_that_are_too_long_without_order_have_no_score() -> None:
    items = list(range(20_000))
    assert score(json.dumps(items[::-1]), items, order=False) is None
    assert score(json.dumps(items[:500][::-1]), items[:500], order=False) == 1
