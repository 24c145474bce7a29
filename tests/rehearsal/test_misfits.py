"""The kinds of replies that do not fit the schema that the request asks for."""

from __future__ import annotations

import json
import re
from random import Random

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchmix.rehearsal import misfits
from batchmix.rehearsal.fitting_value import fitting_value
from tests.rehearsal.test_asked_schema import CHOICE, FORMAT, SCHEMA, TOOL, fits, messages
from tests.rehearsal.test_fitting_value import HARD, REVIEW, schemas
from tests.rehearsal.test_streams import USAGE, answered, events

WRONG = {"wrong_enum": "enum", "extra_key": "additionalProperties", "missing_key": "required", "wrong_type": "type"}


def broken(name, schema, seed=0, max_tokens=None, needs_tokens=512):
    random = Random(seed)
    value = fitting_value(schema, random)
    return getattr(misfits, name)(
        misfits.FittingAnswer(misfits.as_json(value), schema, random, max_tokens, needs_tokens)
    )


def is_valid(schema, text):
    try:
        value = json.loads(text)
    except ValueError:
        return False
    return jsonschema_rs.validator_for(schema, validate_formats=True).is_valid(value)


@pytest.mark.parametrize(
    ("kind", "pattern"),
    [
        ("fenced", r"```json\n(.*)\n```"),
        ("chatty", r"Sure! [^{]*\n\n(.*)\n\n[^}]*"),
        ("thinking", r"<think>\n.*\n</think>\n\n(.*)"),
    ],
)
async def test_the_json_is_among_other_text(calling, kind, pattern):
    async with calling() as caller:
        right = (await caller.send(f"[[rehearsal:{kind}x1]]", response_format=FORMAT, seed=1)).body
        plain = await caller.send(f"[[rehearsal:{kind}x1]]", response_format=FORMAT, seed=1)
    text = right["choices"][0]["message"]["content"]
    match = re.fullmatch(pattern, text, re.DOTALL)
    assert match[1] == plain.content
    assert fits(json.loads(plain.content))
    assert right["usage"]["completion_tokens"] == len(text.split())
    assert right["choices"][0]["finish_reason"] == "stop"


def test_the_thoughts_hold_another_draft():
    text, _ = broken("thinking", REVIEW)
    draft = re.search(r"Perhaps (.*)\? No", text)[1]
    assert not is_valid(REVIEW, draft)
    assert is_valid(REVIEW, text.rpartition("\n")[2])


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"const": {"a": [1]}}, '{"a": [1],}'),
        ({"const": ["a"]}, '["a",]'),
        ({"const": {}}, "{},"),
        ({"const": 1}, "1,"),
    ],
)
def test_a_trailing_comma(schema, text):
    assert broken("trailing_comma", schema) == (text, None)


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_is_what_the_kind_says(kind):
    validator = jsonschema_rs.validator_for(REVIEW)
    for seed in range(60):
        text, reason = broken(kind, REVIEW, seed)
        rules = {error.schema_path[-1] for error in validator.iter_errors(json.loads(text))}
        assert reason is None
        assert rules == {WRONG[kind]} or (kind == "wrong_type" and rules <= {"type", "enum", "anyOf"})


@pytest.mark.parametrize("kind", WRONG)
@settings(max_examples=150, deadline=None)
@given(schemas(), st.integers(0, 2**32))
def test_nothing_wrong_ever_fits(kind, schema, seed):
    assert not is_valid(schema, broken(kind, schema, seed)[0])


@pytest.mark.parametrize(
    "kind", [*WRONG, "fenced", "chatty", "thinking", "trailing_comma", "cut_off_answer", "repetition"]
)
@pytest.mark.parametrize("schema", [REVIEW, *HARD, {"type": "integer"}, {"type": "null"}], ids=str)
def test_no_odd_answer_fits_as_it_stands(kind, schema):
    for seed in range(20):
        assert not is_valid(schema, broken(kind, schema, seed)[0])


async def test_a_doubled_max_tokens_gets_the_whole_answer(calling):
    wide = {"type": "json_schema", "json_schema": {"schema": REVIEW}}
    async with calling("cut_off_answer=1&needs_tokens=150") as caller:
        sent = [await caller.send(response_format=wide, max_tokens=cap) for cap in (100, 200, None)]
    cut, whole, free = [(one.content, one.body["choices"][0]["finish_reason"]) for one in sent]
    assert is_valid(REVIEW, whole[0])
    assert cut == free == (whole[0][: len(whole[0]) // 2], "length")
    assert whole[1] == "stop"


@pytest.mark.parametrize(("cap", "words"), [(50, 50), (None, 2000)])
async def test_a_repetition_goes_on_until_the_cap(calling, cap, words):
    async with calling("repetition=1") as caller:
        body = (await caller.send(response_format=FORMAT, max_tokens=cap)).body
    (choice,) = body["choices"]
    found = choice["message"]["content"].split()
    assert choice["finish_reason"] == "length"
    assert len(found) == body["usage"]["completion_tokens"]
    assert abs(len(found) - words) < 5
    assert len(set(found[-40:])) == 1


async def test_requests_without_a_schema_get_a_plain_answer(calling):
    async with calling("fenced=0.5&wrong_type=0.5") as caller:
        content = (await caller.send()).content
        (record,) = caller.rehearsal.records
    assert record.kind == "answer"
    assert "`" not in content


async def test_a_repair_is_drawn_anew(calling):
    prompt = "[[rehearsal:wrong_enum]] Hello"
    async with calling() as caller:
        wrong = (await caller.send(prompt, response_format=FORMAT)).content
        turns = messages(("user", prompt), ("assistant", wrong), ("user", "$.mood: not one of good, bad"))
        right = (await caller.send(messages=turns, response_format=FORMAT)).content
        kinds = [record.kind for record in caller.rehearsal.records]
    assert (fits(json.loads(wrong)), fits(json.loads(right))) == (False, True)
    assert kinds == ["wrong_enum", "answer"]


async def test_tools_and_streams_get_them_too(calling):
    async with calling("wrong_enum=1") as caller:
        (choice,) = (await caller.send(tools=[TOOL], tool_choice=CHOICE)).body["choices"]
        found = events((await caller.send(response_format=FORMAT, **USAGE)).raw)
    for text in (choice["message"]["tool_calls"][0]["function"]["arguments"], answered(found)):
        (error,) = jsonschema_rs.validator_for(SCHEMA).iter_errors(json.loads(text))
        assert error.schema_path[-1] == "enum"


async def test_each_model_may_have_its_own(calling):
    behaviour = "fenced[b]=0.5&chatty[b]=0.5&wrong_enum[c]=0.05&missing_key[c]=0.05"
    async with calling(behaviour) as caller:
        for number in range(200):
            for model in ("a", "b", "c"):
                await caller.send(str(number), model=model, response_format=FORMAT)
        counts = {model: [r.kind for r in caller.rehearsal.records if r.model == model] for model in ("a", "b", "c")}
    assert set(counts["a"]) == {"answer"}
    assert set(counts["b"]) == {"fenced", "chatty"}
    assert set(counts["c"]) == {"answer", "wrong_enum", "missing_key"}
    assert 5 < 200 - counts["c"].count("answer") < 40
