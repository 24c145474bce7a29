"""The typed answers of a run as instances of a class."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from batchmix.answers.model import pydantic_adapter
from batchmix.engine import reader
from batchmix.errors import UsageError
from batchmix.formats.display import clean
from batchmix.formats.lenient_json import json_bytes
from batchmix.store.schema import ANSWERED

if TYPE_CHECKING:
    from batchmix.api.run import Run

_KEY = ("row", "model", "sample")


def typed_values(run: Run, model: type | None) -> list[Any]:
    """Return the value of each result of a run, None where there is no valid answer. Raises `UsageError`.

    The values are instances of `model`; without one, JSON values.
    """
    typed = reader.run_of(run.folder).typed
    if typed is None:
        raise UsageError(f"{run.folder}: its answers are any text; for typed ones, give a schema: bm.run(…, schema=…)")
    convert = _converter(model) if model else None
    answers: list[Any] = []
    for batch in run.scan([*_KEY, *ANSWERED]):
        values = typed.values(*(batch.column(name).to_pylist() for name in ANSWERED))
        if convert:
            for at, value in enumerate(values):
                try:
                    values[at] = None if value is None else _instance(convert, value)
                except Exception as error:  # the class may be of any library, and raise what it likes
                    row, name, sample = (batch.column(key)[at].as_py() for key in _KEY)
                    raise UsageError(
                        f"{run.folder}: row {row}, model {name}, sample {sample}: the answer fits the schema, but not"
                        f" {clean(repr(model))}: {clean(str(error))}; run.answers(dict) returns the JSON values"
                    ) from error
        answers += values
    return answers


def _instance(convert: Callable[[Any], Any], value: Any) -> Any:
    """Return the instance of a class for a JSON value. 4.0 is an integer for a schema, but not for each class."""
    try:
        return convert(value)
    except Exception:  # noqa: BLE001 - the class may be of any library, and raise what it likes
        return convert(_with_integers(value))


def _with_integers(value: Any) -> Any:
    """Return a JSON value with its whole numbers as integers."""
    if isinstance(value, dict):
        return {key: _with_integers(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_with_integers(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _converter(model: Any) -> Callable[[Any], Any]:
    """Return what makes instances of a class from JSON values."""
    adapter = pydantic_adapter(model)
    validate = getattr(model, "model_validate_json", None) or getattr(adapter, "validate_json", None)
    if callable(validate):  # pydantic's; from JSON, a strict model takes texts as dates
        return lambda value: validate(json_bytes(value))
    return functools.partial(msgspec.convert, type=model, str_keys=True)
