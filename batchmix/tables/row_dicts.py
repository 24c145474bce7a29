"""Rows that are Python objects, as JSON lines.

Values that JSON lacks are written as batchmix writes them when it reads them from Parquet (jobs/input.md).
"""

from __future__ import annotations

import base64
import dataclasses
import datetime
import decimal
import enum
import json
import os
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec
import pyarrow as pa

from batchmix.errors import InputError
from batchmix.formats.arrow_values import values
from batchmix.formats.display import clean, quoted
from batchmix.tables.libraries import is_from, type_shown

_SIMPLE = frozenset({str, int, bool, type(None)})
"""The types that msgspec writes as `json` does, ten times faster. Of floats it would lose infinity."""


def json_lines(rows: Iterable[Any], name_of_text: str) -> Iterator[bytes]:
    """Yield each row as a JSON line. Raises `InputError`, which names the row, counted from 0, and the column."""
    for number, row in enumerate(rows):
        yield json_line(row_dict(row, number, name_of_text), number)


def row_dict(row: Any, number: int, name_of_text: str) -> dict[str, Any]:
    """Return a row as a dictionary, whose keys are the columns. Raises `InputError`."""
    columns = {name_of_text: str(row)} if isinstance(row, str) else _as_dict(row)
    if columns is None:
        raise InputError(
            f"row {number} is of the type {type_shown(row)}; a row is a dictionary, a dataclass, a Struct of msgspec,"
            " a model of pydantic, a named tuple, or a string"
        )
    for name in columns:
        if not isinstance(name, str):
            raise InputError(f"row {number}: the name of a column must be a string, not {clean(repr(name), 60)}")
    return columns


def json_line(row: dict[str, Any], number: int) -> bytes:
    """Return a row as a JSON line. Raises `InputError`."""
    try:
        return _line(row)
    except (TypeError, ValueError, OverflowError, RecursionError):
        for name, value in row.items():
            try:
                _line({name: value})
            except RecursionError:
                raise InputError(f"row {number}: the column {quoted(name)} is nested too deeply") from None
            except (TypeError, ValueError, OverflowError) as error:
                raise InputError(f"row {number}: the column {quoted(name)}: {clean(str(error))}") from error
        raise


def _line(row: dict[str, Any]) -> bytes:
    if _SIMPLE.issuperset(map(type, row.values())):
        try:
            return msgspec.json.encode(row) + b"\n"
        except (ValueError, TypeError, OverflowError):  # lone surrogates, whole numbers beyond 64 bits
            pass
    text = _encode(row)
    try:
        return text.encode() + b"\n"
    except UnicodeEncodeError:  # lone surrogates stay escapes
        return _encode_ascii(row).encode() + b"\n"


def _as_dict(value: Any) -> dict[str, Any] | None:
    """Return the fields of an object by name. None if it has none."""
    if isinstance(value, Mapping):
        return value if type(value) is dict else dict(value)
    if isinstance(value, msgspec.Struct):
        return msgspec.structs.asdict(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if is_from(value, "pydantic", "BaseModel"):
        fields: dict[str, Any] = value.model_dump()
        return fields
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        named: dict[str, Any] = value._asdict()
        return named
    return None


def _plain(value: Any) -> Any:
    """Return a value that JSON lacks as one that JSON has. Raises `TypeError` and `ValueError`."""
    write = _WRITERS.get(type(value))
    if write is not None:
        return write(value)
    if (fields := _as_dict(value)) is not None:
        return fields
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, set | frozenset):
        raise TypeError("a set has no order, so that its request would differ each time; make it a sorted list")
    if is_from(value, "numpy", "ndarray"):
        return _array(value)
    if is_from(value, "pandas", "Period", "Interval"):
        return str(value)
    try:
        column = pa.array(_series(value), from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        raise TypeError(
            f"JSON has no form for values of the type {type_shown(value)}; convert it first, such as with str()"
        ) from None
    return values(column)[0]


def _series(value: Any) -> Any:
    """Return a value as a column of one row, from which Arrow takes the type."""
    if is_from(value, "pandas", "Timestamp", "Timedelta"):
        return sys.modules["pandas"].Series([value])  # otherwise Arrow cuts off nanoseconds
    if is_from(value, "numpy", "generic"):
        return [None] if value != value else value.reshape(1)
    return [value]


def _array(value: Any) -> Any:
    """Return the items of an array of numpy. Arrays inside are converted in turn."""
    if value.ndim != 1:
        return list(value) if value.ndim else value[()]
    try:
        return values(pa.array(value, from_pandas=False))
    except (pa.ArrowException, TypeError):
        return value.tolist()


def _datetime(value: datetime.datetime) -> Any:
    offset = value.utcoffset()
    if offset is None:
        return value.isoformat()
    if offset % datetime.timedelta(minutes=1):
        return values(pa.array([value]))[0]
    return value.replace(tzinfo=None).isoformat() + "Z" if not offset else value.isoformat()


def _time(value: datetime.time) -> str:
    if value.tzinfo is not None:
        raise TypeError("a time of day with a time zone has no form that all readers know; convert it with str()")
    return value.isoformat()


def _decimal(value: decimal.Decimal) -> str | None:
    return format(value, "f") if value.is_finite() else None


def _base64(value: bytes | bytearray | memoryview) -> str:
    return base64.b64encode(value).decode()


_WRITERS: dict[type, Callable[[Any], Any]] = {
    datetime.datetime: _datetime,
    datetime.date: datetime.date.isoformat,
    datetime.time: _time,
    decimal.Decimal: _decimal,
    uuid.UUID: str,
    bytes: _base64,
    bytearray: _base64,
    memoryview: _base64,
}
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=_plain).encode
_encode_ascii = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"), default=_plain).encode
