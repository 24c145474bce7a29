"""A class becomes a schema whose valid answers are what the class takes, and whose columns have its types."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import uuid
from pathlib import Path
from types import FunctionType
from typing import Annotated, Any, Generic, Literal, NamedTuple, NotRequired, TypedDict, TypeVar

import msgspec
import pyarrow as pa
import pydantic
import pytest

from batchmix.answers.check import AnswerCheck, Problem
from batchmix.answers.column import AnswerColumn
from batchmix.answers.schema import read_schema
from batchmix.errors import JobError

T = TypeVar("T")
MOMENT = pa.timestamp("us", tz="UTC")


Price = Annotated[decimal.Decimal, pydantic.WithJsonSchema({"type": "string", "pattern": r"^[0-9]{1,3}[.][0-9]{2}$"})]
"""pydantic itself writes a number or any text for a decimal."""


class Mood(enum.Enum):
    GOOD = "good"
    BAD = "bad"


class StructPlace(msgspec.Struct):
    city: str
    seen: datetime.datetime


@dataclasses.dataclass
class DataPlace:
    city: str
    seen: datetime.datetime


class DictPlace(TypedDict):
    city: str
    seen: datetime.datetime


class PydanticPlace(pydantic.BaseModel):
    city: str
    seen: datetime.datetime


@pydantic.dataclasses.dataclass
class PydanticDataPlace:
    city: str
    seen: datetime.datetime


class Struct(msgspec.Struct):
    at: datetime.datetime
    day: datetime.date
    time: datetime.time
    id: uuid.UUID
    price: decimal.Decimal
    mood: Mood
    kind: Literal["x", "y"]
    place: StructPlace
    places: list[StructPlace]
    scores: dict[str, float]
    maybe: int | None = None
    then: datetime.datetime | None = None


@dataclasses.dataclass
class Data:
    at: datetime.datetime
    day: datetime.date
    time: datetime.time
    id: uuid.UUID
    price: decimal.Decimal
    mood: Mood
    kind: Literal["x", "y"]
    place: DataPlace
    places: list[DataPlace]
    scores: dict[str, float]
    maybe: int | None = None
    then: datetime.datetime | None = None


class Dict(TypedDict):
    at: datetime.datetime
    day: datetime.date
    time: datetime.time
    id: uuid.UUID
    price: decimal.Decimal
    mood: Mood
    kind: Literal["x", "y"]
    place: DictPlace
    places: list[DictPlace]
    scores: dict[str, float]
    maybe: NotRequired[int | None]
    then: NotRequired[datetime.datetime | None]


class Pydantic(pydantic.BaseModel):
    at: datetime.datetime
    day: datetime.date
    time: datetime.time
    id: uuid.UUID
    price: Price
    mood: Mood
    kind: Literal["x", "y"]
    place: PydanticPlace
    places: list[PydanticPlace]
    scores: dict[str, float]
    maybe: int | None = None
    then: datetime.datetime | None = None


@pydantic.dataclasses.dataclass
class PydanticData:
    at: datetime.datetime
    day: datetime.date
    time: datetime.time
    id: uuid.UUID
    price: Price
    mood: Mood
    kind: Literal["x", "y"]
    place: PydanticDataPlace
    places: list[PydanticDataPlace]
    scores: dict[str, float]
    maybe: int | None = None
    then: datetime.datetime | None = None


CLASSES: list[type] = [Struct, Data, Dict, Pydantic, PydanticData]
PLACE = pa.struct([("city", pa.string()), ("seen", MOMENT)])
COLUMN = pa.struct({
    "at": MOMENT, "day": pa.date32(), "time": pa.string(), "id": pa.string(), "price": pa.string(),
    "mood": pa.string(), "kind": pa.string(), "place": PLACE, "places": pa.list_(PLACE), "scores": pa.string(),
    "maybe": pa.int64(), "then": MOMENT,
}.items())  # fmt: skip


@pytest.mark.parametrize("model", CLASSES, ids=lambda model: model.__name__)
def test_each_library_has_the_same_columns_for_the_same_fields(model: type) -> None:
    assert AnswerColumn(read_schema(model, Path())).type == COLUMN


class Cat(msgspec.Struct, tag=True):
    born: datetime.datetime


class Dog(msgspec.Struct, tag=True):
    born: datetime.datetime


class Array(msgspec.Struct, array_like=True, tag=True):
    at: datetime.datetime
    number: int = 1


class Tuple(NamedTuple):
    at: datetime.datetime
    number: int


class Box(msgspec.Struct, Generic[T]):
    value: T


When = Annotated[datetime.datetime, msgspec.Meta(description="when it was")]
NOON, NO_TIME = "2026-11-27T12:00:00Z", "noon"


def tagged(value: str) -> dict[str, str]:
    return {"type": "Dog", "born": value}


@pytest.mark.parametrize(
    ("type_", "answer"),
    [
        (When, lambda text: text),
        (When | None, lambda text: text),
        (int | datetime.datetime | None, lambda text: text),
        (Cat | Dog, tagged),
        (int | Cat | Dog | None, tagged),
        (StructPlace | int | None, lambda text: {"city": "x", "seen": text}),
        (Annotated[StructPlace, msgspec.Meta(description="where")], lambda text: {"city": "x", "seen": text}),
        (Array, lambda text: ["Array", text]),
        (Array | int, lambda text: ["Array", text, 2]),
        (Tuple, lambda text: [text, 2]),
        (Box[datetime.datetime], lambda text: {"value": text}),
        (list[list[datetime.datetime | None]], lambda text: [[], [text, None]]),
        (tuple[datetime.datetime, int], lambda text: [text, 1]),
        (tuple[datetime.datetime, ...], lambda text: [text]),
        (set[datetime.datetime], lambda text: [text]),
        (dict[str, datetime.datetime], lambda text: {"any": text}),
    ],
    ids=lambda value: "" if isinstance(value, FunctionType) else str(value),
)
def test_a_datetime_is_a_date_time_wherever_it_stands(type_: Any, answer: Any) -> None:
    model = msgspec.defstruct("Model", [("the_field", type_)], rename="camel")
    check = AnswerCheck(read_schema(model, Path()))
    right, wrong = (msgspec.json.encode({"theField": answer(text)}).decode() for text in (NOON, NO_TIME))
    assert not isinstance(check.check(right), Problem)
    assert isinstance(check.check(wrong), Problem)


TEXTS = {
    decimal.Decimal: (["1", "-1.50", "+2e10", "1E-7"], ["", "1.", "one", "1,5", "NaN", "0x1"]),
    datetime.time: (["12:00:00", "23:59:59.5"], ["24:00:00", "12:00", "noon", ""]),
    bytes: (["", "aGk=", "aGV5"], ["a", "aGk", "a b="]),
    Annotated[datetime.datetime, msgspec.Meta(tz=True)]: ([NOON, "2026-11-27t12:00:00.5+01:00"], ["2026-11-27", ""]),
    Annotated[datetime.datetime, msgspec.Meta(tz=False)]: (["2026-11-27T12:00:00"], []),
    Annotated[decimal.Decimal, msgspec.Meta(description="EUR")]: (["1.5"], ["1,5"]),
}


@pytest.mark.parametrize("type_", TEXTS, ids=str)
def test_a_text_that_fits_the_schema_is_one_that_the_class_takes(type_: Any) -> None:
    model = msgspec.defstruct("Model", [("field", type_)])
    check = AnswerCheck(read_schema(model, Path()))
    right, wrong = TEXTS[type_]
    for text in right:
        assert not isinstance(check.check(msgspec.json.encode({"field": text}).decode()), Problem), text
        msgspec.convert({"field": text}, model)
    for text in wrong:
        assert isinstance(check.check(msgspec.json.encode({"field": text}).decode()), Problem), text


def test_a_pydantic_dataclass_keeps_its_limits() -> None:
    @pydantic.dataclasses.dataclass
    class Rating:
        stars: int = pydantic.Field(ge=1, le=5)
        words: Annotated[str, pydantic.Field(max_length=9)] = ""

    properties = read_schema(Rating, Path())["properties"]
    assert properties["stars"] == {"type": "integer", "minimum": 1, "maximum": 5, "title": "Stars"}
    assert properties["words"]["maxLength"] == 9


@pytest.mark.parametrize("model", [Cat | Dog, list[Cat], Mood, Tuple, int])
def test_what_is_no_class_with_fields_is_refused(model: Any) -> None:
    with pytest.raises(JobError, match="is not a pydantic model, a msgspec Struct, a dataclass or a TypedDict"):
        read_schema(model, Path())
