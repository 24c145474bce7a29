"""Shows names and values from outside in messages, without control codes that could reach a terminal."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

_MAX_COLUMNS = 30
"""The maximum number of columns that a message lists. Any more are only counted."""


def clean(text: str, max_chars: int = 300) -> str:
    """Return text on one line, cut to `max_chars`, and with control characters escaped."""
    short = text if len(text) <= max_chars else text[: max_chars - 1] + "…"
    return short if short.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in short)


def quoted(name: str) -> str:
    """Return a column's name in quotes, for a message."""
    return f"'{clean(name, 60)}'"


def column_list(names: Iterable[str]) -> str:
    """Return a list of quoted column names, for a message."""
    columns = list(names)
    more = f" and {len(columns) - _MAX_COLUMNS} more" if len(columns) > _MAX_COLUMNS else ""
    return (", ".join(map(quoted, columns[:_MAX_COLUMNS])) or "none") + more


def unknown_column(name: str, names: Iterable[str]) -> str:
    """Return the message for a column that does not exist. It names the most similar column and lists the others."""
    columns = list(names)
    near = [column for column in columns if column.casefold() == name.casefold()]
    near = near or difflib.get_close_matches(name, columns, n=1)
    hint = f"did you mean {quoted(near[0])}? There are" if near else "there are"
    return f"there is no column {quoted(name)}; {hint}: {column_list(columns)}"


def kind_of(value: Any) -> str:
    """Return the name of a JSON value's type, for a message."""
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def group_names(group: Mapping[str, str | None]) -> list[str]:
    """Return what the rows of a group have in common, for each column. This tells null from the text "None"."""
    return [f"{column} is null" if value is None else f"{column} = {value}" for column, value in group.items()]
