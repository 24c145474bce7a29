"""What messages say of the input, fit for a terminal."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

_MOST_COLUMNS = 30


def clean(text: str, most: int = 300) -> str:
    """Return text from outside on one line: shortened, with everything escaped that a terminal would act on."""
    short = text if len(text) <= most else text[: most - 1] + "…"
    return short if short.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in short)


def quoted(name: str) -> str:
    """Return a column's name as messages show it."""
    return f"'{clean(name, 60)}'"


def column_list(names: Iterable[str]) -> str:
    """Return the columns there are, as messages list them."""
    known = list(names)
    more = f" and {len(known) - _MOST_COLUMNS} more" if len(known) > _MOST_COLUMNS else ""
    return (", ".join(map(quoted, known[:_MOST_COLUMNS])) or "none") + more


def unknown_column(name: str, names: Iterable[str]) -> str:
    """Return that there is no such column, which one may be meant, and which there are."""
    known = list(names)
    near = [one for one in known if one.casefold() == name.casefold()] or difflib.get_close_matches(name, known, n=1)
    meant = f"did you mean {quoted(near[0])}? There are" if near else "there are"
    return f"there is no column {quoted(name)}; {meant}: {column_list(known)}"


def kind_of(value: Any) -> str:
    """Return what a JSON value is, in words."""
    words = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return words.get(type(value), "a number")
