"""The job file as a person writes it: its tables, their keys, and the type of each key."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec

from batchmix.job.cron import Schedule
from batchmix.job.eval_table import Eval
from batchmix.job.values import Budget, Count, Input, Limits, Price, Retry, Reuse, Timeouts

KeyPath = tuple[str | int, ...]
"""The keys that lead to a setting; items of lists go by their number."""


class ModelEntry(msgspec.Struct, frozen=True):
    """One of `[[models]]`; what is None is as for the whole job."""

    id: str
    name: str | None = None
    params: dict[str, Any] = {}
    limits: Limits | None = None
    prices: Price | None = None


class ProviderTable(msgspec.Struct, frozen=True):
    """`[provider]`."""

    base_url: str | None = None
    api_key_env: str = "AIHUBMIX_API_KEY"
    headers: dict[str, str] = {}


class OutputTable(msgspec.Struct, frozen=True):
    """`[output]`; the path is still a template."""

    path: str = "runs/{name}"
    shard_rows: Count = 10_000
    raw: bool = True
    mode: str | None = None


class JobTable(msgspec.Struct, frozen=True):
    """The file as a person writes it."""

    input: Input
    name: str | None = None
    model: str | None = None
    models: tuple[ModelEntry, ...] = ()
    samples: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1
    params: dict[str, Any] = {}
    provider: ProviderTable = ProviderTable()
    limits: Limits = Limits()
    retry: Retry = Retry()
    timeouts: Timeouts = Timeouts()
    budget: Budget = Budget()
    reuse: Reuse = Reuse()
    prices: dict[str, Price] = {}
    output: OutputTable = OutputTable()
    schedule: Schedule | None = None
    eval: Eval | None = None


def kind_of(at: KeyPath) -> Any:
    """Return the type that a setting has; `Any` where there is no such setting, or where anything may stand."""
    kind: Any = JobTable
    for key in at:
        if typing.get_origin(kind) is dict:
            kind = inner(kind)
            continue
        table = next(tables(kind), None)
        known = {field.encode_name: field.type for field in msgspec.structs.fields(table)} if table else {}
        kind = known.get(str(key), Any)
    return kind


def name_of(at: KeyPath) -> str:
    """Return a setting as a person would write it with dots; items of lists are not told apart."""
    return ".".join(key if re.fullmatch(r"[\w-]+", key) else f'"{key}"' for key in at if isinstance(key, str))


def names(table: type) -> set[str]:
    """Return the settings that a table has."""
    return {field.encode_name for field in msgspec.structs.fields(table)}


def tables(kind: Any) -> Iterator[type]:
    """Yield the tables that a type may be."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        yield kind
    elif typing.get_origin(kind) in {types.UnionType, typing.Union}:
        for one in typing.get_args(kind):
            yield from tables(one)


def inner(kind: Any) -> Any:
    """Return the type of the items of a list or of the values of a table."""
    arguments = typing.get_args(kind)
    if typing.get_origin(kind) is dict:
        return arguments[1]
    return arguments[0] if typing.get_origin(kind) is tuple else Any
