"""Finds all mistakes in the settings of a job at once: unknown names, wrong types, and missing settings."""

from __future__ import annotations

import math
import re
import types
import typing
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from batchmix.job.closest import closest
from batchmix.job.hints import hint
from batchmix.job.masking import masked_paths
from batchmix.job.table import JobTable, KeyPath, dotted, item_type, tables_in
from batchmix.job.values import Limits, Provider, Timeouts
from batchmix.redact import MASK

_NOT_SENT = {
    field.encode_name: place
    for place, table in (("provider", Provider), ("limits", Limits), ("timeouts", Timeouts))
    for field in msgspec.structs.fields(table)
} | {"max_usd": "budget", "shard_rows": "output", "attempts": "retry", "outage_s": "retry"}
"""Job settings that are not request parameters, with their tables. Under `[params]` they would be sent by mistake."""
_TYPE_NAMES = {"str": "text", "int": "a whole number", "float": "a number", "bool": "true or false",
               "object": "a table", "array": "a list", "null": "nothing"}  # fmt: skip
"""The plain words with which messages replace the names of types in msgspec's errors."""


class Mistake(NamedTuple):
    """A mistake in one setting: the path of the setting, and the message."""

    path: KeyPath
    text: str


def mistakes_in(raw: Mapping[str, Any]) -> list[Mistake]:
    """Return all mistakes in the settings `raw`. If there are none, `raw` can be converted to a `JobTable`."""
    mistakes = [*mistakes_in_table(raw, JobTable), *map(masked_mistake, masked_paths(raw))]
    source = raw.get("input", {})
    if not isinstance(source, Mapping):
        return mistakes
    given = [name for name in ("path", "run", "query") if source.get(name)]
    if len(given) > 1:
        return [*mistakes, Mistake(("input", given[1]), f"input: give either {given[0]} or {given[1]}, not both")]
    if source.get("query") == "":
        return [*mistakes, Mistake(("input", "query"), "input.query: is empty; give a SELECT over local files")]
    if given or "path" in source or "run" in source:
        return mistakes
    return [*mistakes, Mistake(("input", "path"), "input.path is missing: the file with the rows")]


def masked_mistake(path: KeyPath) -> Mistake:
    """Return the mistake of a setting that was masked where it was recorded. It says how to give the value again."""
    whole = path[: next((at for at, key in enumerate(path) if isinstance(key, int)), len(path))]
    value = "env:NAME" if path[:2] == ("provider", "headers") else "…"
    return Mistake(
        path,
        f"{dotted(path)}: is masked ({MASK}), since a run folder keeps no secrets; give it again: --set"
        f" {dotted(whole)}={value}",
    )


def mistakes_in_table(raw: Mapping[str, Any], table: type, path: KeyPath = ()) -> Iterator[Mistake]:
    """Yield the mistakes in a table at `path`, whose keys and types are those of a struct."""
    fields = {field.encode_name: field for field in msgspec.structs.fields(table)}
    tag = table.__struct_config__.tag_field  # type: ignore[attr-defined]
    for key, value in raw.items():
        if key in fields:
            yield from _in_value(value, fields[key].type, (*path, key))
        elif key != tag:
            near = closest(key, fields) if isinstance(value, Mapping) else ""  # likely a misspelled table
            right = f"did you mean {dotted((*path, near))}?" if near else hint(key, table, path)
            yield Mistake((*path, key), f"unknown setting {dotted((*path, key))}: {right}")
    for name, field in fields.items():
        if field.required and name not in raw and (*path, name) not in {("input",), ("input", "path")}:
            yield Mistake(path, f"{dotted((*path, name))} is missing")


def _in_value(value: Any, type_: Any, path: KeyPath) -> Iterator[Mistake]:
    type_ = _without_none(type_)
    tables, items = list(tables_in(type_)), item_type(type_)
    if tables and isinstance(value, Mapping):
        yield from _in_one_of(value, tables, path)
    elif typing.get_origin(type_) is dict and isinstance(value, Mapping):
        for key, below in value.items():
            yield from _in_named(below, items, (*path, key))
    elif typing.get_origin(type_) is tuple and isinstance(value, list) and list(tables_in(items)):
        for number, item in enumerate(value):
            yield from _in_value(item, items, (*path, number))
    else:
        yield from _in_leaf(value, type_, path)


def _without_none(type_: Any) -> Any:
    """Return the type of a setting without `None`, such as `str` for `str | None`."""
    others = [member for member in typing.get_args(type_) if member is not type(None)]
    return others[0] if isinstance(type_, types.UnionType) and len(others) == 1 else type_


def _in_one_of(value: Mapping[str, Any], tables: list[type], path: KeyPath) -> Iterator[Mistake]:
    """Yield the mistakes in a table that may have one of several types. The tag, such as `kind`, says which."""
    if len(tables) == 1:
        yield from mistakes_in_table(value, tables[0], path)
        return
    by_tag = {table.__struct_config__.tag: table for table in tables}  # type: ignore[attr-defined]
    tag = tables[0].__struct_config__.tag_field  # type: ignore[attr-defined]
    given = value.get(tag)
    if given in by_tag:
        yield from mistakes_in_table(value, by_tag[given], path)
        return
    what = " is missing" if given is None else f": there is no {given!r}"
    yield Mistake((*path, tag), f"{dotted((*path, tag))}{what}; {_closest_of(str(given), by_tag)}")


def _in_named(value: Any, type_: Any, path: KeyPath) -> Iterator[Mistake]:
    """Yield the mistakes in an entry whose key the user chooses, such as a model id."""
    if path[-2] == "params" and (table := _NOT_SENT.get(str(path[-1]))):
        yield Mistake(path, f"{dotted(path)}: would go into each request; {path[-1]} belongs under [{table}]")
    elif list(tables_in(type_)) and isinstance(value, Mapping) and all(isinstance(v, Mapping) for v in value.values()):
        whole = ".".join(map(str, (path[-1], next(iter(value), "…"))))
        yield Mistake(path, f'{dotted(path)}: put a model id with a dot in quotes: [{dotted(path[:-1])}."{whole}"]')
    elif list(tables_in(type_)) and not isinstance(value, Mapping):
        yield Mistake(path, f'{dotted(path)}: belongs under a model\'s id: [{dotted(path[:-1])}."gpt-4o-mini"]')
    else:
        yield from _in_value(value, type_, path)


def _in_leaf(value: Any, type_: Any, path: KeyPath) -> Iterator[Mistake]:
    if list(_infinite(value)):
        yield Mistake(
            path, f"{dotted(path)}: inf and nan are not allowed; leave the setting out where there is no limit"
        )
        return
    if typing.get_origin(type_) is typing.Literal and isinstance(value, str):
        choices = typing.get_args(type_)
        if value not in choices:
            yield Mistake(path, f"{dotted(path)}: there is no {value!r}; {_closest_of(value, choices)}")
        return
    try:
        msgspec.convert(value, type_)
    except msgspec.ValidationError as error:
        reason = str(error).partition(" - at `")[0]
        yield Mistake(path, f"{dotted(path)}: {_plain(reason)}")


def _closest_of(name: str, names: Collection[str]) -> str:
    near = closest(name, names)
    return f"did you mean {near}?" if near else f"there are {', '.join(names)}"


def _infinite(value: Any) -> Iterator[float]:
    """Yield every `inf` and `nan` in a value. TOML allows them, but JSON does not."""
    if isinstance(value, float) and not math.isfinite(value):
        yield value
    below = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    for item in below:
        yield from _infinite(item)


def _plain(reason: str) -> str:
    """Return the text of a msgspec error with its type names replaced by plain words."""

    def type_names(match: re.Match[str]) -> str:
        names = [_TYPE_NAMES.get(name, name) for name in match[1].split(" | ")]
        return " or ".join(name for name in names if name != "nothing" or len(names) == 1)

    reason = re.sub(r"`([^`]*)`", type_names, re.sub(r"(\d)\.0\b", r"\1", reason))
    return reason[:1].lower() + reason[1:]
