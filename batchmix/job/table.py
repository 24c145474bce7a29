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
    """One of `[[models]]`; None: as in the whole job."""

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
    """`[output]`; its path is still a template."""

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


def type_at(path: KeyPath) -> Any:
    """Return the type of a setting; `Any` for one that does not exist, or that takes anything."""
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
    """Return a setting's name with dots, as in `--set`; positions in lists are left out."""
    return ".".join(key if re.fullmatch(r"[\w-]+", key) else f'"{key}"' for key in path if isinstance(key, str))


def keys_of(table: type) -> set[str]:
    """Return the keys of a table."""
    return {field.encode_name for field in msgspec.structs.fields(table)}


def tables_in(type_: Any) -> Iterator[type]:
    """Yield the tables that a type allows: itself, or those of its union."""
    if isinstance(type_, type) and issubclass(type_, msgspec.Struct):
        yield type_
    elif typing.get_origin(type_) in {types.UnionType, typing.Union}:
        for one in typing.get_args(type_):
            yield from tables_in(one)


def item_type(type_: Any) -> Any:
    """Return the type of a list's items or of a table's values."""
    arguments = typing.get_args(type_)
    if typing.get_origin(type_) is dict:
        return arguments[1]
    return arguments[0] if typing.get_origin(type_) is tuple else Any
