"""The tables of the job file before the checks, and functions that look up their keys and types."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec

from batchmix.job.answer_table import AnswerTable
from batchmix.job.values import Cache, JobSettings, Limits, Price, Retry, Reuse, Timeouts

KeyPath = tuple[str | int, ...]
"""The keys that lead to a setting, such as `("limits", "concurrency")`. An item of a list has its index as key."""


class ModelEntry(msgspec.Struct, frozen=True):
    """One table of `[[models]]`, before the checks.

    `file.py` copies every key to a `Model`, so each key here needs a field of the same name there.
    """

    id: str
    name: str | None = None
    """Default: the id."""
    params: dict[str, Any] = {}
    """Parameters that extend or override the job's."""
    limits: Limits | None = None
    """Default: the job's limits."""
    price: Price | None = msgspec.field(default=None, name="prices")
    """Default: the price under the model's id in the job's `[prices]`, or else the price that is looked up."""


class StepEntry(msgspec.Struct, frozen=True):
    """One table of `[[steps]]`, before the checks: what a step has beside the keys at the top level."""

    name: str
    model: str | None = None
    models: tuple[ModelEntry, ...] = ()
    prompt: str | None = None
    system: str | None = None
    messages: tuple[dict[str, Any], ...] | None = None
    when: str | None = None
    samples: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1
    params: dict[str, Any] = {}
    """Parameters that extend or override the job's."""
    answer: AnswerTable | None = None
    limits: Limits | None = None
    retry: Retry | None = None
    timeouts: Timeouts | None = None
    reuse: Reuse | None = None
    cache: Cache | None = None


class JobTable(JobSettings, frozen=True):
    """The top level of the job file, before the checks.

    `file.py` copies every key except `model` and `answer` to the `CheckedJob`. A key that `CheckedJob` lacks raises an
    error there.
    """

    name: str | None = None
    """Default: the name of the job file or of the input."""
    model: str | None = None
    """The job's only model. A job has `model` or `models`, or neither if each row names its model."""
    models: tuple[ModelEntry, ...] = ()
    answer: AnswerTable | None = None
    """None if answers are any text."""
    steps: tuple[StepEntry, ...] = ()
    """The steps of a chain. Empty for a single job."""


def type_at(path: KeyPath) -> Any:
    """Return the type of a setting. `Any` if the setting does not exist or takes any value."""
    type_: Any = JobTable
    for key in path:
        if typing.get_origin(type_) is dict:
            type_ = item_type(type_)
            continue
        table = next(tables_in(type_), None)
        fields = {field.encode_name: field.type for field in msgspec.structs.fields(table)} if table else {}
        type_ = fields.get(str(key), Any)
    return type_


def dotted(path: KeyPath) -> str:
    """Return a setting's name with dots, as in `--set`. Indexes of list items are left out."""
    return ".".join(key if re.fullmatch(r"[\w-]+", key) else f'"{key}"' for key in path if isinstance(key, str))


def keys_of(table: type) -> set[str]:
    """Return the keys of a table, as written in the job file."""
    return {field.encode_name for field in msgspec.structs.fields(table)}


def tables_in(type_: Any) -> Iterator[type]:
    """Yield the struct types in a type: the type itself, or the members of a union."""
    if isinstance(type_, type) and issubclass(type_, msgspec.Struct):
        yield type_
    elif typing.get_origin(type_) in {types.UnionType, typing.Union}:
        for one in typing.get_args(type_):
            yield from tables_in(one)


def item_type(type_: Any) -> Any:
    """Return the type of the items of a tuple type, or of the values of a dict type. `Any` for other types."""
    arguments = typing.get_args(type_)
    if typing.get_origin(type_) is dict:
        return arguments[1]
    return arguments[0] if typing.get_origin(type_) is tuple else Any
