"""Each answer that the rehearsal makes up fits its schema, and each that is to be wrong is wrong, whatever the schema."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import jsonschema_rs
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchmix.answers.schema import read_schema
from batchmix.errors import JobError
from batchmix.rehearsal import bodies
from batchmix.rehearsal.answer_pool import AnswerPool, pool_of
from batchmix.rehearsal.behaviour import Behaviour
from batchmix.rehearsal.misfits import FittingAnswer
from batchmix.rehearsal.reply_table import REPLY_KINDS
from batchmix.rehearsal.request import read_request
from tests.rehearsal.any_schema import any_schema, with_wrong_keyword

MISFITS = {name: kind.misfit for name, kind in REPLY_KINDS.items() if kind.misfit}
SEEDS = st.integers(0, 2**32)


def is_valid(validator, text):
    try:
        return validator.is_valid(json.loads(text))
    except ValueError:
        return False


@settings(max_examples=500, deadline=None)
@given(SEEDS)
def test_answers_fit_any_schema_that_a_job_may_have_and_wrong_ones_do_not(seed):
    try:
        schema = read_schema(any_schema(Random(seed)), Path())
    except JobError:
        return
    validator = jsonschema_rs.validator_for(schema, validate_formats=True)
    pooled = AnswerPool(schema).answer(seed)
    if pooled.schema is True:
        assert pooled.text == "null"
    else:
        assert is_valid(validator, pooled.text)
    for name, misfit in MISFITS.items():
        text, _ = misfit(FittingAnswer(pooled.text, pooled.schema, Random(seed), None, 512))
        assert not is_valid(validator, text), name


def test_a_fitting_answer_is_found_for_nearly_all_schemas():
    found = []
    for seed in range(300):
        try:
            schema = read_schema(any_schema(Random(seed)), Path())
        except JobError:  # such as one that nothing fits
            continue
        found.append(AnswerPool(schema).answer(seed).schema is not True)
    assert len(found) > 200
    assert sum(found) > 0.9 * len(found)


@settings(max_examples=300, deadline=None)
@given(SEEDS)
def test_no_malformed_schema_is_an_error_of_the_provider(seed):
    random = Random(seed)
    schema = with_wrong_keyword(any_schema(random), random)
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], "response_format": {
        "type": "json_schema", "json_schema": {"schema": schema},
    }}  # fmt: skip
    request = read_request("/v1/chat/completions", msgspec.json.encode(body))
    assert not isinstance(request, str)
    for name in ["answer", *MISFITS]:
        content = bodies.answer(request, Behaviour(), REPLY_KINDS[name], "tid")["choices"][0]["message"]["content"]
        assert isinstance(content, str)


DRAFT_4 = "http://json-schema.org/draft-04/schema#"
DRAFT_7 = "http://json-schema.org/draft-07/schema#"


@pytest.mark.parametrize(
    "schema",
    [
        {"$schema": DRAFT_7, "type": "array", "items": [{"type": "integer"}, {"const": "a"}], "additionalItems": False, "minItems": 2},
        {"$schema": DRAFT_7, "type": "object", "required": ["a"], "dependencies": {"a": ["b"], "b": {"required": ["c"]}}},
        {"$schema": DRAFT_7, "definitions": {"A": {"type": "integer"}}, "$ref": "#/definitions/A", "type": "string"},
        {"$schema": DRAFT_4, "type": "integer", "minimum": 3, "exclusiveMinimum": True, "maximum": 4},
        {"$schema": DRAFT_4, "type": "string", "const": "no keyword yet"},
    ],
    ids=str,
)  # fmt: skip
def test_a_schema_of_an_earlier_draft_means_what_it_means_there(schema):
    validator = jsonschema_rs.validator_for(schema)
    for number in range(20):
        pooled = AnswerPool(schema).answer(number)
        assert pooled.schema is not True
        assert is_valid(validator, pooled.text)


def test_a_schema_has_many_answers_and_each_number_one():
    schema = {"type": "object", "properties": {"n": {"type": "integer", "maximum": 10**9}}, "required": ["n"]}
    first, again = ([pool_of(schema).answer(number).text for number in range(3000)] for _ in range(2))
    assert first == again == [AnswerPool(schema).answer(number).text for number in range(3000)]
    assert 500 < len(set(first)) < 1500
