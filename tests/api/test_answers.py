"""`run.answers`, and the values of typed answers in each form in which a run gives its results."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import decimal
import functools
import json
import pickle
import uuid
from pathlib import Path
from typing import Any, TypedDict

import msgspec
import pandas as pd
import pyarrow as pa
import pydantic
import pytest

import batchmix as bm
from tests.answers import test_model

TEXTS = [f"word {number}" for number in range(40)]
PROMPT = "Rate {{ text }}"
AT: dict[str, Any] = {"model": "m", "base_url": "rehearsal:?seed=3&missing_key=0.3&fenced=0.3"}


class PydanticRating(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)  # takes no text for a date, except from JSON
    stars: int = pydantic.Field(alias="Stars", ge=1, le=5)
    at: datetime.datetime
    day: datetime.date | None
    tags: list[str]


class StructRating(msgspec.Struct):
    stars: int
    at: datetime.datetime
    day: datetime.date | None
    tags: list[str]


@dataclasses.dataclass
class DataRating:
    stars: int
    at: datetime.datetime
    day: datetime.date | None
    tags: list[str]


class DictRating(TypedDict):
    stars: int
    at: datetime.datetime
    day: datetime.date | None
    tags: list[str]


MANY_TYPES: dict[type, type] = {
    test_model.Struct: test_model.StructPlace,
    test_model.Data: test_model.DataPlace,
    test_model.Dict: dict,
    test_model.Pydantic: test_model.PydanticPlace,
    test_model.PydanticData: test_model.PydanticDataPlace,
}
CLASSES = [PydanticRating, StructRating, DataRating, DictRating]


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run_with(schema: Any, **more: Any) -> bm.Run:
    return bm.run(TEXTS, PROMPT, **AT, **{"answer": {"repair": 0}, **more}, schema=schema, keep_going=True)


def fields(answer: Any) -> tuple[Any, ...]:
    get = answer.get if isinstance(answer, dict) else lambda name: getattr(answer, name)
    return tuple(get(name) for name in ("stars", "at", "day", "tags"))


@pytest.mark.parametrize("model", CLASSES, ids=lambda model: model.__name__)
def test_answers_are_instances_of_the_class_of_the_call(model: type) -> None:
    run = run_with(model)
    answers: list[Any] = run.answers()
    assert [answer is not None for answer in answers] == [result.ok for result in run]
    valid = [answer for answer in answers if answer is not None]
    assert 10 <= len(valid) < 40
    for answer in valid:
        assert isinstance(answer, dict if model is DictRating else model)
        stars, at, day, tags = fields(answer)
        assert isinstance(stars, int)
        assert isinstance(at, datetime.datetime)
        assert isinstance(day, datetime.date | None)
        assert all(isinstance(tag, str) for tag in tags)
    assert bm.open(run.folder).answers(model) == answers


def test_without_a_class_answers_are_json_values_whatever_the_columns_hold() -> None:
    run = bm.open(run_with(PydanticRating, answer={"repair": 0, "flatten": True}).folder)
    answers = run.answers()
    assert answers == [result.answer for result in run] == run.answers(dict)
    for result in run:
        if result.ok:
            text = result.response or ""
            assert result.answer == json.loads(text[text.index("{") : text.rindex("}") + 1])
            assert isinstance(result.answer["at"], str)
            assert result.healed is (text != text.strip("`"))
        else:
            assert (result.answer, result.healed, result.error_type) == (None, None, "schema")
    assert {result.healed for result in run} == {True, False, None}


def test_a_run_that_goes_on_keeps_the_class() -> None:
    run = run_with(StructRating, canary=5)
    assert len(run.answers()) == 5
    again = run.go_on(keep_going=True)
    answers = again.answers()
    assert {type(answer) for answer in answers} == {StructRating, type(None)}
    assert bm.run(run, keep_going=True).answers() == answers


def test_a_job_keeps_the_class_in_its_process() -> None:
    job = bm.Job("rows.jsonl", PROMPT, **AT, schema=StructRating, answer={"repair": 0})
    Path("rows.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    run = bm.run(job, keep_going=True)
    assert {type(answer) for answer in run.answers()} == {StructRating, type(None)}
    assert job == pickle.loads(pickle.dumps(job))
    of_others = bm.run(pickle.loads(pickle.dumps(job)), keep_going=True)
    assert {type(answer) for answer in of_others.answers()} == {dict, type(None)}
    assert bm.Job.from_toml(job.to_toml()).answer_class is None


def test_another_schema_takes_the_place_of_the_class() -> None:
    run = run_with(StructRating, canary=3)
    any_object = run.go_on(schema={"type": "object"}, update=True, keep_going=True)
    assert {type(answer) for answer in any_object.answers()} == {dict, type(None)}


@pytest.mark.parametrize("model", MANY_TYPES, ids=lambda model: model.__name__)
def test_answers_have_the_types_of_the_class(model: type) -> None:
    run = run_with(model)
    texts = [result.answer for result in run if result.ok]
    found: list[Any] = [answer for answer in run.answers() if answer is not None]
    assert len(found) == len(texts) >= 10
    for answer, text in zip(found, texts, strict=True):
        get = answer.get if isinstance(answer, dict) else functools.partial(getattr, answer)
        assert get("at") == datetime.datetime.fromisoformat(text["at"])
        assert get("at").tzinfo is not None
        assert get("day") == datetime.date.fromisoformat(text["day"])
        assert get("time").replace(tzinfo=None) == datetime.time.fromisoformat(text["time"]).replace(tzinfo=None)
        assert get("id") == uuid.UUID(text["id"])
        assert get("price") == decimal.Decimal(str(text["price"]))
        assert get("mood") is test_model.Mood(text["mood"])
        assert isinstance(get("place"), MANY_TYPES[model])
        assert get("scores") == text["scores"]


@pytest.mark.parametrize("model", [StructRating, PydanticRating, DataRating, DictRating])
def test_a_whole_number_with_a_point_is_an_integer(model: type) -> None:
    text = '{"stars": 4.0, "Stars": 4e0, "at": "2026-11-27T12:00:00Z", "day": null, "tags": []}'
    (answer,) = bm.run([text], "{{ text }}", model="m", base_url="rehearsal:?echo=1", schema=model).answers()
    assert fields(answer)[0] == 4
    assert isinstance(fields(answer)[0], int)


def test_the_order_is_that_of_the_results_with_several_models_and_samples() -> None:
    models = [{"id": "a"}, {"id": "b"}]
    run = bm.run(
        TEXTS[:5],
        PROMPT,
        models=models,
        samples=2,
        base_url="rehearsal:?seed=1",
        schema=StructRating,
        params={"temperature": 1},
    )
    answers, results = run.answers(), list(run)
    assert len(answers) == len(results) == 20
    assert [msgspec.to_builtins(answer) for answer in answers] == [
        msgspec.to_builtins(msgspec.convert(result.answer, StructRating)) for result in results
    ]


def test_a_kept_answer_that_does_not_fit_is_none() -> None:
    run = run_with(StructRating, answer={"repair": 0, "on_invalid": "keep"})
    assert {result.ok for result in run} == {True}
    assert [answer is None for answer in run.answers()] == [result.error_type == "schema" for result in run]
    assert None in run.answers()


def test_a_run_without_a_schema_has_no_answers() -> None:
    run = bm.run(TEXTS[:3], PROMPT, model="m", base_url="rehearsal:")
    with pytest.raises(bm.UsageError, match="give a schema"):
        run.answers()
    assert {(result.answer, result.healed, result.repairs) for result in run} == {(None, None, None)}


class Picky(pydantic.BaseModel):
    stars: int

    @pydantic.field_validator("stars")
    @classmethod
    def _never(cls, value: int) -> int:
        raise ValueError("too few")


def test_a_class_that_refuses_what_fits_the_schema_is_an_error_that_names_the_row() -> None:
    run = bm.run(TEXTS[:3], PROMPT, model="m", base_url="rehearsal:", schema=Picky)
    with pytest.raises(bm.UsageError, match=r"row 0, model m, sample 0: .*Picky.*too few.*run\.answers\(dict\)"):
        run.answers()
    assert {type(answer) for answer in run.answers(dict)} == {dict}


def streamed(schema: Any, answer: Any) -> list[bm.Result]:
    async def results() -> list[bm.Result]:
        stream = bm.stream(
            TEXTS, PROMPT, **AT, schema=schema, answer=answer, keep_going=True, output={"shard_rows": 16}
        )
        return sorted([result async for result in stream], key=lambda result: result.row)

    return asyncio.run(results())


@pytest.mark.parametrize("flatten", [False, True])
def test_streamed_results_have_the_same_values_live_and_repeated(flatten: bool) -> None:
    settings = {"repair": 0, "on_invalid": "keep", "flatten": flatten}
    live, repeated = (streamed(StructRating, settings) for _ in range(2))
    run = run_with(StructRating, answer=settings, output={"shard_rows": 16})
    stored = [msgspec.structs.replace(result, raw=None) for result in run]
    assert live == repeated == stored
    assert {type(result.answer) for result in live} == {dict, type(None)}


def test_streamed_results_of_a_job_without_a_schema_say_nothing_of_one() -> None:
    async def results() -> list[bm.Result]:
        return [result async for result in bm.stream(rows, "{{ text }}", model="m", base_url="rehearsal:")]

    rows = [{"text": text, "answer": 1, "healed": "no"} for text in TEXTS]
    for _ in range(2):
        found = asyncio.run(results())
        assert {(result.answer, result.healed, result.repairs) for result in found} == {(None, None, None)}
        assert found[0].input == {"text": found[0].input["text"], "answer": 1, "healed": "no"}
    run = bm.run(rows, "{{ text }}", model="m", base_url="rehearsal:")
    assert [result.input for result in run] == rows
    assert {(result.answer, result.healed) for result in run} == {(None, None)}


def test_tables_have_the_columns_of_the_answers() -> None:
    run = run_with(StructRating)
    answers = run.answers()
    column = run.to_arrow(["answer"]).column("answer")
    assert pa.types.is_struct(column.type)
    assert [None if row is None else row["stars"] for row in column.to_pylist()] == [
        None if answer is None else answer.stars for answer in answers
    ]
    assert run.to_polars(["answer"])["answer"].struct.field("stars").to_list() == [
        None if answer is None else answer.stars for answer in answers
    ]
    frame = pd.DataFrame({"text": TEXTS})
    joined = run.join(frame, {"rating": "answer", "healed": "healed"})
    assert [None if rating is None else rating["stars"] for rating in joined["rating"]] == [
        None if answer is None else answer.stars for answer in answers
    ]
    assert {"rating", "healed"} < set(joined.columns)


def test_flat_tables_have_a_column_for_each_field() -> None:
    run = run_with(StructRating, answer={"repair": 0, "flatten": True})
    expected = [None if answer is None else answer.stars for answer in run.answers()]
    stars = run.to_pandas(["answer.stars"])["answer.stars"]
    assert str(stars.dtype) == "Int64"
    assert [None if pd.isna(value) else value for value in stars] == expected
    rows = [{"text": text} for text in TEXTS]
    assert [row["stars"] for row in run.join(rows, {"stars": "answer.stars"})] == expected
