"""A job whose settings have the right types, and are still wrong, alone or together: it is refused, with the setting."""

from __future__ import annotations

import re
from typing import Any

import pytest

from batchmix.errors import JobError
from batchmix.job import read_job

RIGHT: dict[str, Any] = {"model": "m", "input": {"path": "rows.jsonl", "prompt": "x"}}
JUDGE = {"kind": "judge", "name": "j", "model": "big", "rubric": "Rate {{ response }}."}
PAIRS = JUDGE | {"rubric": "A: {{ response }}, B: {{ other }}", "pairwise": True}
FIELDS = {"kind": "json", "target": "bill", "fields": ["total"]}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"models": [{"id": "n"}]}, "give either model or [[models]], not both"),
        ({"name": "a/b"}, "name: must be a plain name of 1 to 200 characters"),
        ({"name": ".."}, "name: must be a plain name of 1 to 200 characters"),
        ({"model": " "}, "model: is empty"),
        ({"model": None, "models": [{"id": "n", "name": ""}]}, "model: is empty"),
        ({"model": None, "models": [{"id": "n"}, {"id": "n"}]}, "models: 'n' is there twice"),
        ({"reuse": {"dedupe": True}, "output": {"raw": False}}, "reuse.dedupe: needs the column raw"),
        ({"reuse": {"from": ["s3://bucket/run"]}}, "reuse.from: "),
        ({"input": {"path": "x", "prompt": "x", "model": "m"}}, "input.model: the rows name their models there"),
        (
            {"input": {"path": "x", "prompt": "x", "messages": [{"role": "user", "content": "x"}]}},
            "input: give either messages, or prompt and system",
        ),
        ({"input": {"path": "x", "messages": []}}, "input.messages: is empty"),
        ({"params": {"model": "n"}}, "params.model: does not belong here; set model instead"),
        ({"params": {"messages": []}}, "params.messages: does not belong here; set input.messages instead"),
        ({"params": {"stream": "yes"}}, "params.stream: must be true or false"),
        ({"params": {"seed": object()}}, "params: "),
        ({"provider": {"api_key_env": "sk-123"}}, "provider.api_key_env: must be the name of an environment variable"),
        ({"provider": {"headers": {"a b": "c"}}}, "provider.headers: a header's name holds characters"),
    ],
)
def test_a_wrong_setting_is_refused_with_its_name(settings: dict[str, Any], message: str) -> None:
    given = {key: value for key, value in {**RIGHT, **settings}.items() if value is not None}
    assert read_job(None, RIGHT, {}).name == "rows", "the job is right without it"
    with pytest.raises(JobError, match="^" + re.escape(message)):
        read_job(None, given, {})


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"scorers": []}, "eval.scorers: at least one [[eval.scorers]] is needed"),
        ({"scorers": [{"kind": "json", "name": "a b"}]}, "eval.scorers.name: 'a b' must be made of letters"),
        ({"scorers": [{"kind": "json"}, {"kind": "json"}]}, "eval.scorers: 'json' is there twice"),
        ({"scorers": [{"kind": "exact"}]}, "eval.scorers: exact needs a target"),
        ({"scorers": [JUDGE | {"scale": [5, 1]}]}, "eval.scorers.scale: the worst number comes first"),
        ({"scorers": [JUDGE | {"scale": [-1e308, 1e308]}]}, "eval.scorers.scale: its numbers are at most 1e+12 in size"),
        ({"scorers": [JUDGE | {"scale": [0, float("1e400")]}]}, "eval.scorers.scale: inf and nan are not allowed"),
        ({"scorers": [{"kind": "json", "target": "a", "weights": {"b": 1e308}}]}, "eval.scorers.weights.b: expected"),
        ({"guards": [{"no_worse_by": "9" * 400 + "%"}]}, "eval.guards.no_worse_by: '9"),
        ({"scorers": [JUDGE | {"rubric": "Rate it."}]}, "eval.scorers.rubric: must show the answer"),
        ({"scorers": [JUDGE | {"model": " "}]}, "eval.scorers.model: is empty"),
        ({"scorers": [JUDGE | {"params": {"stream": 1}}]}, "params.stream: must be true or false"),
        ({"scorers": [JUDGE], "against": "s3://bucket/run"}, "eval.against: "),
        ({"guards": [{"metric": "score", "scorer": "k", "min": 1}]}, "eval.guards.scorer: there is no scorer 'k'; there are j"),
        (
            {"guards": [{"metric": "answered", "scorer": "j", "max": 1}]},
            "eval.guards.scorer: answered does not come from a scorer",
        ),
        ({"guards": [{"metric": "score", "model": "n", "min": 1}]}, "eval.guards.model: there is no model 'n'; there are m"),
        ({"guards": [{"min": 0.9, "max": 0.1}]}, "eval.guards.min: 0.9 is above max = 0.1, so no score passes"),
        ({"guards": [{"metric": "answered", "min": 95}]}, "eval.guards.min: answered is a share from 0 to 1, and never 95"),
        ({"guards": [{"metric": "refused", "max": 5}]}, "eval.guards.max: refused is a share from 0 to 1, and never 5"),
        (
            {"guards": [{"scorer": "j", "min": 0.5}, {"scorer": "j", "max": 0.4}]},
            "eval.guards: score of j is there twice; put its bounds into one guard",
        ),
        ({"group_by": ["topic", "topic"]}, "eval.group_by: 'topic' is there twice"),
        ({"scorers": [JUDGE | {"labels": {"a": 1, "b": 1}}]}, "eval.scorers.labels: all have the same score"),
        (
            {"scorers": [PAIRS | {"scale": [1, 5]}], "against": "previous"},
            "eval.scorers.scale: a judge that compares two answers says A, B or TIE; take the scale out",
        ),
        (
            {"scorers": [FIELDS | {"weights": {"totl": 2}}]},
            "eval.scorers.weights: 'totl' is none of the fields, which are total",
        ),
        (
            {"scorers": [FIELDS | {"tolerance": {"totl": 2}}]},
            "eval.scorers.tolerance: 'totl' is none of the fields, which are total",
        ),
    ],

)  # fmt: skip
def test_a_wrong_evaluation_is_refused_with_its_setting(table: dict[str, Any], message: str) -> None:
    assert read_job(None, RIGHT | {"eval": {"scorers": [JUDGE]}}, {}).eval is not None
    with pytest.raises(JobError, match="^" + re.escape(message)):
        read_job(None, RIGHT | {"eval": {"scorers": [JUDGE]} | table}, {})
