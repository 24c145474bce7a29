"""Checks `input.columns`: the columns to carry into the output, and the types that they are converted to."""

from __future__ import annotations

import difflib
import re

from batchmix.errors import JobError
from batchmix.job.values import Column

_NAMES = {
    "string": ("text", "varchar", "str", "utf8", "large_string"),
    "int64": ("bigint", "long", "int", "integer"),
    "int32": (),
    "int16": ("smallint",),
    "int8": ("tinyint",),
    "uint64": ("ubigint",),
    "uint32": ("uinteger",),
    "uint16": ("usmallint",),
    "uint8": ("utinyint",),
    "double": ("float64", "float8", "float"),
    "bool": ("boolean", "logical"),
    "date": ("date32",),
    "time": ("time64",),
    "timestamp": ("datetime",),
    "timestamptz": ("timestamp with time zone",),
    "json": (),
}
"""The standard names of types, as in a checked job, each with its aliases from Arrow, DuckDB, SQL and pandas."""
_TYPES = {name: type_ for type_, names in _NAMES.items() for name in (type_, *names)}
_TIMESTAMP = re.compile(r"timestamp\[(s|ms|us|ns)(?:, ?(?:tz=)?(utc))?\]")
_DECIMAL = re.compile(r"(?:decimal|decimal128|numeric)\((\d{1,2})(?:, ?(\d{1,2}))?\)")
_MAX_DIGITS = 38
_SHOWN = "string, int64, double, bool, date, timestamp, timestamptz, decimal(10,2), json"


def checked_columns(columns: tuple[str | Column, ...]) -> tuple[str | Column, ...]:
    """Return `input.columns` with each output name filled in and each type under its standard name.

    Raises `JobError` if a type is unknown, or if a column has two types.
    """
    checked = tuple(map(_checked_column, columns))
    types = {(column.source, column.type) if isinstance(column, Column) else (column, None) for column in checked}
    sources = [source for source, _ in types]
    for source in sources:
        if sources.count(source) > 1:
            raise JobError(f"input.columns: {source!r} is given two types; a column has one, under all its names")
    return checked


def _checked_column(column: str | Column) -> str | Column:
    if isinstance(column, str):
        return column
    type_ = None if column.type is None else checked_type(column.type)
    return Column(column.source, column.name or column.source, type_)


def checked_type(name: str) -> str:
    """Return the standard name of a type, such as `int64` for `bigint`. Raises `JobError` if the type is unknown."""
    folded = " ".join(name.lower().split())
    if standard := _TYPES.get(folded):
        return standard
    if match := _TIMESTAMP.fullmatch(folded):
        return f"timestamp[{match[1]}, UTC]" if match[2] else f"timestamp[{match[1]}]"
    if match := _DECIMAL.fullmatch(folded):
        digits, scale = int(match[1]), int(match[2] or 0)
        if 1 <= digits <= _MAX_DIGITS and scale <= digits:
            return f"decimal({digits},{scale})"
        raise JobError(
            f"input.columns: {folded} is not possible; a decimal has 1 to {_MAX_DIGITS} digits, of which some may be"
            " behind the point, such as decimal(10,2)"
        )
    if folded.partition("(")[0] in ("decimal", "numeric"):
        raise JobError(f"input.columns: the type {name!r} must give the number of digits, such as decimal(10,2)")
    near = difflib.get_close_matches(folded, _TYPES, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}? Types are" if near else "types are"
    raise JobError(f"input.columns: {name!r} is not a type; {hint} {_SHOWN}")
