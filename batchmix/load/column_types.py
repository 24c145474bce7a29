"""Converts values of columns whose type the job configures, and reports values that don't fit the type."""

from __future__ import annotations

import decimal
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import pyarrow as pa

from batchmix.formats.display import clean, quoted
from batchmix.formats.iso_times import PER_SECOND, days_of
from batchmix.formats.text import json_text, text_of, utf8
from batchmix.job import CheckedJob, Column

Converter = Callable[[Any], Any]
"""Converts a value that is not null to one that Arrow accepts. Raises `ValueError` if it does not fit the type."""
_INTS = {
    "int8": (pa.int8(), -(2**7), 2**7 - 1),
    "int16": (pa.int16(), -(2**15), 2**15 - 1),
    "int32": (pa.int32(), -(2**31), 2**31 - 1),
    "int64": (pa.int64(), -(2**63), 2**63 - 1),
    "uint8": (pa.uint8(), 0, 2**8 - 1),
    "uint16": (pa.uint16(), 0, 2**16 - 1),
    "uint32": (pa.uint32(), 0, 2**32 - 1),
    "uint64": (pa.uint64(), 0, 2**64 - 1),
}
_WHOLE = re.compile(r"[+-]?\d{1,20}(?:\.0*)?", re.ASCII)
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_NOT_FINITE = {"nan": math.nan, "inf": math.inf, "infinity": math.inf}
_TRUTH = {"true": True, "false": False, "1": True, "0": False}
_DATE = r"([+-]?\d{4,6})-(\d\d)-(\d\d)"
_TIME = r"(\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9})0*)?)?"
_ZONE = r"( ?Z| ?[+-]\d\d(?::?\d\d)?| UTC)?"
_ONLY_DATE = re.compile(_DATE, re.ASCII)
_ONLY_TIME = re.compile(_TIME, re.ASCII)
_MOMENT = re.compile(f"{_DATE}(?:[Tt ]{_TIME}{_ZONE})?", re.IGNORECASE | re.ASCII)
_DAY_S = 86_400
_INT64 = (-(2**63), 2**63 - 1)


class ColumnType:
    """A type that a job configures for a column."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.type, self._stored, self._convert = _type(name)

    def value(self, value: Any) -> Any:
        """Return a value converted to the type. NaN becomes None.

        Raises `ValueError` if the value does not fit the type.
        """
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return None
        try:
            return self._convert(value)
        except (ArithmeticError, TypeError) as error:
            raise ValueError(str(error)) from None

    def array(self, values: list[Any]) -> pa.Array:
        """Convert values to an Arrow array of the type.

        A value that does not fit becomes null; `type_problem` reports its row.
        """
        array = pa.array(list(map(self._or_null, values)), self._stored)
        return array if self._stored == self.type else array.cast(self.type)

    def _or_null(self, value: Any) -> Any:
        try:
            return self.value(value)
        except ValueError:
            return None

    def problem(self, column: str, value: Any) -> str | None:
        """Return a message about a value of the column that does not fit the type. None if it fits."""
        try:
            self.value(value)
        except ValueError as error:
            shown = clean(value if isinstance(value, str) else text_of(value), 60)
            why = f" ({error})" if str(error) else ""
            return f"column {quoted(column)} is {shown!r}, which is no {self.name}{why}"
        return None


def column_type_names(job: CheckedJob) -> dict[str, str]:
    """Return the types that a job configures, by input column."""
    columns = job.input.columns or ()
    return {column.source: column.type for column in columns if isinstance(column, Column) and column.type is not None}


def column_types(job: CheckedJob) -> dict[str, ColumnType]:
    """Return the types that a job configures, by input column, as objects that can convert values."""
    return {source: ColumnType(name) for source, name in column_type_names(job).items()}


def type_problem(configured: Mapping[str, ColumnType], row: Mapping[str, Any]) -> str | None:
    """Return a message about a value of a row that does not fit the type configured for its column.

    None if all values fit. A missing column counts as null.
    """
    problems = (dtype.problem(column, row.get(column)) for column, dtype in configured.items())
    return next(filter(None, problems), None)


def _type(name: str) -> tuple[pa.DataType, pa.DataType, Converter]:
    """Return a type's Arrow type, the Arrow type of converted values (which are then cast), and the converter."""
    if name in _INTS:
        dtype, least, most = _INTS[name]
        return dtype, dtype, lambda value: _whole(value, least, most)
    if name.startswith("timestamp"):
        unit = unit_match[1] if (unit_match := re.search(r"\[(\w+)", name)) else "us"
        zone = "UTC" if name == "timestamptz" or "UTC" in name else None
        return pa.timestamp(unit, zone), pa.int64(), lambda value: _moment(value, unit, zoned=zone is not None)
    if name.startswith("decimal"):
        digits, scale = map(int, re.findall(r"\d+", name))
        dtype = pa.decimal128(digits, scale)
        return dtype, dtype, lambda value: _decimal(value, digits, scale)
    return _OTHERS[name]


def _whole(value: Any, low: int, high: int) -> int:
    if isinstance(value, str) and _WHOLE.fullmatch(value.strip()):
        value = int(value.strip().partition(".")[0])
    elif isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is not int:
        raise ValueError
    if not low <= value <= high:
        raise ValueError(f"it goes from {low} to {high}")
    return value


def _double(value: Any) -> float | None:
    if isinstance(value, str):
        text = value.strip()
        value = _NOT_FINITE.get(text.lower().lstrip("+-"))
        if value is not None:
            return None if value != value else -value if text[0] == "-" else value
        if not _NUMBER.fullmatch(text):
            raise ValueError
        value = int(text) if text.lstrip("+-").isdecimal() else float(text)
        if value in (math.inf, -math.inf):
            raise ValueError("it is out of range")
    if type(value) is int:
        if int(float(value)) != value:
            raise ValueError("floating point would change its last digits")
        return float(value)
    if not isinstance(value, float):
        raise ValueError
    return value


def _truth(value: Any) -> bool:
    truth = value if isinstance(value, bool) else _TRUTH.get(text_of(value).strip().lower())
    if truth is None:
        raise ValueError
    return truth


def _decimal(value: Any, digits: int, scale: int) -> decimal.Decimal:
    text = text_of(value).strip() if isinstance(value, str | int | float) and not isinstance(value, bool) else ""
    if not _NUMBER.fullmatch(text):
        raise ValueError
    number = decimal.Decimal(text)
    with decimal.localcontext(decimal.Context(prec=1000, traps=[decimal.InvalidOperation])):
        exact = number.quantize(decimal.Decimal(1).scaleb(-scale))
        if exact != number or (exact and exact.adjusted() >= digits - scale):
            raise ValueError
    return exact


def _json(value: Any) -> str | None:
    if not isinstance(value, str):
        return json_text(value)
    try:
        msgspec.json.decode(value)
    except (ValueError, RecursionError):
        raise ValueError("text must hold JSON there") from None
    return utf8(value)


def _date(value: Any) -> int:
    match = _ONLY_DATE.fullmatch(value.strip()) if isinstance(value, str) else None
    moment = None if match else _MOMENT.fullmatch(value.strip()) if isinstance(value, str) else None
    if moment is not None and not any(int(part or 0) for part in moment.groups()[3:7]):
        match = moment  # most programs write a date as a timestamp at midnight
    if match is None:
        raise ValueError("a date is written 2026-01-31")
    return _days(match)


def _days(match: re.Match[str]) -> int:
    year, month, day = int(match[1]), int(match[2]), int(match[3])
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if not 1 <= month <= 12 or not 1 <= day <= (31, 28 + leap, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)[month - 1]:
        raise ValueError("there is no such day")
    return days_of(year, month, day)


def _time(value: Any) -> int:
    match = _ONLY_TIME.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError("a time is written 23:59:30 or 23:59:30.5")
    return _of_day(match, 0, "us")


def _of_day(match: re.Match[str], before: int, unit: str) -> int:
    """Return a time of day in a unit. `before` is the number of groups before the hours. Raises `ValueError`."""
    hour, minute, second = (int(match[before + number] or 0) for number in (1, 2, 3))
    if hour > 23 or minute > 59 or second > 59:
        raise ValueError("there is no such time")
    fraction = int((match[before + 4] or "").ljust(9, "0"))
    count, rest = divmod(fraction * PER_SECOND[unit], PER_SECOND["ns"])
    if rest:
        raise ValueError(f"it is finer than {unit}")
    return (hour * 3600 + minute * 60 + second) * PER_SECOND[unit] + count


def _moment(value: Any, unit: str, *, zoned: bool) -> int:
    match = _MOMENT.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError("one is written 2026-01-31T23:59:30" + ("Z" if zoned else ""))
    zone = (match[8] or "").strip().upper()
    if bool(zone) != zoned:
        raise ValueError("it has no time zone; timestamp has none" if zoned else "it has a time zone; see timestamptz")
    count = _days(match) * _DAY_S * PER_SECOND[unit] + _of_day(match, 3, unit)
    count -= _offset_s(zone) * PER_SECOND[unit]
    if not _INT64[0] <= count <= _INT64[1]:
        raise ValueError("it is out of range")
    return count


def _offset_s(zone: str) -> int:
    if zone in ("", "Z", "UTC"):
        return 0
    hours, minutes = int(zone[1:3]), int(zone[3:].lstrip(":") or 0)
    if hours > 23 or minutes > 59:
        raise ValueError("there is no such offset")
    return (hours * 3600 + minutes * 60) * (-1 if zone[0] == "-" else 1)


_OTHERS: dict[str, tuple[pa.DataType, pa.DataType, Converter]] = {
    "string": (pa.string(), pa.string(), text_of),
    "double": (pa.float64(), pa.float64(), _double),
    "bool": (pa.bool_(), pa.bool_(), _truth),
    "date": (pa.date32(), pa.int32(), _date),
    "time": (pa.time64("us"), pa.int64(), _time),
    "json": (pa.string(), pa.string(), _json),
}
