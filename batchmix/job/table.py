"""The job file as a person writes it: which keys there are, and of what types."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from batchmix.cron import Schedule
from batchmix.errors import JobError
from batchmix.eval_table import Eval, tables_in
from batchmix.job.values import Budget, Count, Input, Limits, Price, Retry, Reuse, Timeouts


class ModelEntry(msgspec.Struct, frozen=True):
    """One of `[[models]]`; what is None is as for the whole job."""

    id: str
    name: str | None = None
    params: dict[str, Any] = {}
    limits: Limits | None = None
    prices: Price | None = None


class ProviderTable(msgspec.Struct, frozen=True):
    """`[provider]`."""

    base_url: str | None = None
    api_key_env: str = "AIHUBMIX_API_KEY"
    headers: dict[str, str] = {}


class OutputTable(msgspec.Struct, frozen=True):
    """`[output]`; the path is still a template."""

    path: str = "runs/{name}"
    shard_rows: Count = 10_000
    raw: bool = True


class JobTable(msgspec.Struct, frozen=True):
    """The file as a person writes it."""

    input: Input
    name: str | None = None
    model: str | None = None
    models: tuple[ModelEntry, ...] = ()
    samples: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1
    params: dict[str, Any] = {}
    provider: ProviderTable = ProviderTable()
    limits: Limits = Limits()
    retry: Retry = Retry()
    timeouts: Timeouts = Timeouts()
    budget: Budget = Budget()
    reuse: Reuse = Reuse()
    prices: dict[str, Price] = {}
    output: OutputTable = OutputTable()
    schedule: Schedule | None = None
    eval: Eval | None = None


_TABLES: dict[str, type] = {
    "input": Input,
    "provider": ProviderTable,
    "limits": Limits,
    "retry": Retry,
    "timeouts": Timeouts,
    "budget": Budget,
    "reuse": Reuse,
    "output": OutputTable,
    "schedule": Schedule,
}


def check_keys(raw: Mapping[str, Any]) -> None:
    """Raise `JobError` for a key that there is not, and name the nearest that there is."""
    _check(raw, JobTable, "")
    for name, table in _TABLES.items():
        if isinstance(raw.get(name), Mapping):
            _check(raw[name], table, f"{name}.")
    for prefix, entry, kind in tables_in(raw.get("eval")):
        _check(entry, kind, prefix)
    prices = raw.get("prices")
    for model, price in prices.items() if isinstance(prices, Mapping) else ():
        if isinstance(price, Mapping):
            _check(price, Price, f'prices."{model}".')
    models = raw.get("models")
    for entry in models if isinstance(models, list) else ():
        if isinstance(entry, Mapping):
            _check(entry, ModelEntry, "models.")
            for key, inner in {"limits": Limits, "prices": Price}.items():
                if isinstance(entry.get(key), Mapping):
                    _check(entry[key], inner, f"models.{key}.")


def _check(raw: Mapping[str, Any], table: type, prefix: str) -> None:
    known = {field.encode_name for field in msgspec.structs.fields(table)}
    for key in raw:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"did you mean {prefix}{near[0]}?" if near else f"known are {', '.join(sorted(known))}"
            raise JobError(f"unknown setting {prefix}{key}: {hint}")


def check_finite(value: Any, place: str) -> None:
    """Raise `JobError` for `inf` and `nan`, which TOML has and JSON does not, anywhere in the file."""
    if isinstance(value, float) and not math.isfinite(value):
        raise JobError(f"{place}: {value} is no number to count with; where nothing is to bound it, leave it out")
    if isinstance(value, Mapping):
        for key, inner in value.items():
            check_finite(inner, f"{place}.{key}" if place else key)
    elif isinstance(value, list):
        for inner in value:
            check_finite(inner, place)


def converted(raw: Mapping[str, Any]) -> JobTable:
    """Return the table with all values of their types. Raises `JobError`."""
    if "input" not in raw or (isinstance(raw["input"], Mapping) and "path" not in raw["input"]):
        raise JobError("input.path is missing: the JSONL or Parquet file with the rows")
    if "model" in raw and "models" in raw:
        raise JobError("give either model or [[models]], not both")
    try:
        return msgspec.convert(dict(raw), JobTable)
    except msgspec.ValidationError as error:
        reason, _, where = str(error).partition(" - at `$")
        setting = where.strip("`").lstrip(".") or "the job"
        raise JobError(f"{setting}: {_plain(reason)}") from None


def _plain(reason: str) -> str:
    words = {
        "`str`": "text", "`int`": "a whole number", "`float`": "a number", "`bool`": "true or false",
        "`object`": "a table", "`array`": "a list", "`null`": "nothing", " | nothing": "",
    }  # fmt: skip
    for word, plain in words.items():
        reason = reason.replace(word, plain)
    return reason[:1].lower() + reason[1:]
