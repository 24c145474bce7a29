"""All that is wrong with the settings of a job, at once: unknown names, wrong types, and what is missing."""

from __future__ import annotations

import math
import re
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from batchmix.job.closest import closest
from batchmix.job.hints import hint
from batchmix.job.table import JobTable, KeyPath, ProviderTable, inner, name_of, tables
from batchmix.job.values import Limits, Timeouts

_NOT_SENT = {
    field.encode_name: place
    for place, table in (("provider", ProviderTable), ("limits", Limits), ("timeouts", Timeouts))
    for field in msgspec.structs.fields(table)
} | {"max_usd": "budget", "shard_rows": "output", "attempts": "retry", "outage_s": "retry"}
"""Settings of ours that no provider takes, and the table of each: under `[params]` they would go into each request."""
_WORDS = {"str": "text", "int": "a whole number", "float": "a number", "bool": "true or false", "object": "a table",
          "array": "a list", "null": "nothing"}  # fmt: skip


class Mistake(NamedTuple):
    """What is wrong with one setting."""

    at: KeyPath
    text: str


def mistakes_in(raw: Mapping[str, Any]) -> list[Mistake]:
    """Return what is wrong with a job as it was written; with none it converts to a `JobTable`."""
    found = list(_in_table(raw, JobTable, ()))
    if not isinstance(raw.get("input", {}), Mapping) or "path" in raw.get("input", {}):
        return found
    return [*found, Mistake(("input", "path"), "input.path is missing: the file with the rows")]


def _in_table(raw: Mapping[str, Any], table: type, at: KeyPath) -> Iterator[Mistake]:
    fields = {field.encode_name: field for field in msgspec.structs.fields(table)}
    tag = table.__struct_config__.tag_field  # type: ignore[attr-defined]
    for key, value in raw.items():
        if key in fields:
            yield from _in_value(value, fields[key].type, (*at, key))
        elif key != tag:
            near = closest(key, fields) if isinstance(value, Mapping) else ""  # a table is meant for a table
            right = f"did you mean {name_of((*at, near))}?" if near else hint(key, table, at)
            yield Mistake((*at, key), f"unknown setting {name_of((*at, key))}: {right}")
    for name, field in fields.items():
        if field.required and name not in raw and (*at, name) not in {("input",), ("input", "path")}:
            yield Mistake(at, f"{name_of((*at, name))} is missing")


def _in_value(value: Any, kind: Any, at: KeyPath) -> Iterator[Mistake]:
    kind = _there(kind)
    known, items = list(tables(kind)), inner(kind)
    if known and isinstance(value, Mapping):
        yield from _in_one_of(value, known, at)
    elif typing.get_origin(kind) is dict and isinstance(value, Mapping):
        for key, below in value.items():
            yield from _in_named(below, items, (*at, key))
    elif typing.get_origin(kind) is tuple and isinstance(value, list) and list(tables(items)):
        for number, item in enumerate(value):
            yield from _in_value(item, items, (*at, number))
    else:
        yield from _in_leaf(value, kind, at)


def _there(kind: Any) -> Any:
    """Return what a setting is where it is there: of what may be left out, that without the nothing."""
    kinds = [one for one in typing.get_args(kind) if one is not type(None)]
    return kinds[0] if isinstance(kind, types.UnionType) and len(kinds) == 1 else kind


def _in_one_of(value: Mapping[str, Any], known: list[type], at: KeyPath) -> Iterator[Mistake]:
    if len(known) == 1:
        yield from _in_table(value, known[0], at)
        return
    kinds = {table.__struct_config__.tag: table for table in known}  # type: ignore[attr-defined]
    tag = known[0].__struct_config__.tag_field  # type: ignore[attr-defined]
    given = value.get(tag)
    if given in kinds:
        yield from _in_table(value, kinds[given], at)
        return
    near = closest(str(given), kinds)
    right = f"did you mean {near}?" if near else f"known are {', '.join(kinds)}"
    what = " is missing" if given is None else f": {given!r} is none that there is"
    yield Mistake((*at, tag), f"{name_of((*at, tag))}{what}; {right}")


def _in_named(value: Any, kind: Any, at: KeyPath) -> Iterator[Mistake]:
    """Yield the mistakes in an entry that stands under a name of the person's own."""
    if at[-2] == "params" and (place := _NOT_SENT.get(str(at[-1]))):
        yield Mistake(at, f"{name_of(at)}: would go into each request; {at[-1]} belongs under [{place}]")
    elif list(tables(kind)) and isinstance(value, Mapping) and all(isinstance(one, Mapping) for one in value.values()):
        whole = ".".join(map(str, (at[-1], next(iter(value), "…"))))
        yield Mistake(at, f'{name_of(at)}: a model id with a dot stands in quotes: [{name_of(at[:-1])}."{whole}"]')
    elif list(tables(kind)) and not isinstance(value, Mapping):
        yield Mistake(at, f'{name_of(at)}: stands under a model\'s id: [{name_of(at[:-1])}."gpt-4o-mini"]')
    else:
        yield from _in_value(value, kind, at)


def _in_leaf(value: Any, kind: Any, at: KeyPath) -> Iterator[Mistake]:
    if list(_infinite(value)):
        yield Mistake(
            at, f"{name_of(at)}: inf and nan are no numbers to count with; where nothing is to bound it, leave it out"
        )
        return
    if typing.get_origin(kind) is typing.Literal and isinstance(value, str):
        right = typing.get_args(kind)
        near = closest(value, right)
        if value not in right:
            known = f"did you mean {near}?" if near else f"known are {', '.join(right)}"
            yield Mistake(at, f"{name_of(at)}: {value!r} is none that there is; {known}")
        return
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        reason = str(error).partition(" - at `")[0]
        yield Mistake(at, f"{name_of(at)}: {_plain(reason)}")


def _infinite(value: Any) -> Iterator[float]:
    """Yield what TOML can write and JSON can't, anywhere in a value."""
    if isinstance(value, float) and not math.isfinite(value):
        yield value
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    for one in inner:
        yield from _infinite(one)


def _plain(reason: str) -> str:
    def words(found: re.Match[str]) -> str:
        kinds = [_WORDS.get(kind, kind) for kind in found[1].split(" | ")]
        return " or ".join(kind for kind in kinds if kind != "nothing" or len(kinds) == 1)

    reason = re.sub(r"`([^`]*)`", words, re.sub(r"(\d)\.0\b", r"\1", reason))
    return reason[:1].lower() + reason[1:]
