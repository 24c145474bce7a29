"""The types of the job's tables, as one asks them what they know."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterator
from typing import Any

import msgspec

from batchmix.job.line_numbers import KeyPath
from batchmix.job.table import JobTable


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
