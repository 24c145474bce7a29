"""The types that a job may tell for its columns, under the names that people know them by."""

from __future__ import annotations

import difflib
import re

from batchmix.errors import JobError

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
"""The types, each with its other names, from Arrow, DuckDB, SQL and pandas."""
_KNOWN = {name: kind for kind, names in _NAMES.items() for name in (kind, *names)}
_TIMESTAMP = re.compile(r"timestamp\[(s|ms|us|ns)(?:, ?(?:tz=)?(utc))?\]")
_DECIMAL = re.compile(r"(?:decimal|decimal128|numeric)\((\d{1,2})(?:, ?(\d{1,2}))?\)")
_MOST_DIGITS = 38
_SHOWN = "string, int64, double, bool, date, timestamp, timestamptz, decimal(10,2), json"


def checked_type(name: str) -> str:
    """Return the one name of a type. Raises `JobError` for what is none, with the nearest that is."""
    asked = " ".join(name.lower().split())
    if found := _KNOWN.get(asked):
        return found
    if match := _TIMESTAMP.fullmatch(asked):
        return f"timestamp[{match[1]}, UTC]" if match[2] else f"timestamp[{match[1]}]"
    if match := _DECIMAL.fullmatch(asked):
        digits, scale = int(match[1]), int(match[2] or 0)
        if 1 <= digits <= _MOST_DIGITS and scale <= digits:
            return f"decimal({digits},{scale})"
        raise JobError(
            f"input.columns: {asked} can't be; a decimal has 1 to {_MOST_DIGITS} digits, of which some may be behind"
            " the point, such as decimal(10,2)"
        )
    if asked.partition("(")[0] in ("decimal", "numeric"):
        raise JobError(f"input.columns: the type {name!r} must say how many digits there are, such as decimal(10,2)")
    near = difflib.get_close_matches(asked, _KNOWN, n=1, cutoff=0.5)
    meant = f"did you mean {near[0]}? Known are" if near else "known are"
    raise JobError(f"input.columns: {name!r} is no type; {meant} {_SHOWN}")
