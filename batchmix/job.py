"""The job file as checked, immutable values.

`read_job` is the only way in: it takes a TOML file, settings from the command line, or both, and either returns a
`Job` in which everything is known to be of its type, or raises `JobError` in words that name the setting.
"""

from __future__ import annotations

import datetime
import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec

from batchmix.cron import Schedule, nominal_date
from batchmix.errors import JobError
from batchmix.eval_table import Eval, checked_eval, tables_in

DEFAULT_BASE_URL = "https://aihubmix.com/v1"
REHEARSAL = "rehearsal:"
"""A base URL with this scheme starts the stand-in provider; its options stand behind a `?`."""
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")

Positive = Annotated[float, msgspec.Meta(gt=0)]
Count = Annotated[int, msgspec.Meta(ge=1, le=1_000_000_000)]


class Column(msgspec.Struct, frozen=True, rename={"source": "from", "name": "to"}):
    """An input column that is carried into the output, perhaps under another name."""

    source: str
    name: str


class Input(msgspec.Struct, frozen=True):
    """Where the rows come from, and what is asked about each."""

    path: str
    """Absolute, or `-` for stdin; may be a file, a folder or a glob."""
    prompt: str | None = None
    system: str | None = None
    messages: tuple[dict[str, Any], ...] | None = None
    id: str | None = None
    columns: tuple[str | Column, ...] | None = None
    """None carries all but the id, the Batch keys and an input run's result columns."""


class Limits(msgspec.Struct, frozen=True):
    """What the provider allows; what is None is not known."""

    requests_per_minute: Positive | None = None
    tokens_per_minute: Positive | None = None
    concurrency: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 512


class Price(msgspec.Struct, frozen=True):
    """USD per 1M tokens."""

    input: Annotated[float, msgspec.Meta(ge=0)]
    output: Annotated[float, msgspec.Meta(ge=0)]
    cache_read: Annotated[float, msgspec.Meta(ge=0)] | None = None
    """None: cached tokens cost what others do."""


class Model(msgspec.Struct, frozen=True):
    """One lane of a job: a model with its own parameters and limits."""

    id: str
    """What the provider calls it."""
    name: str
    """What the result column `model` calls it; unique in the job."""
    params: dict[str, Any]
    limits: Limits
    price: Price | None = None
    """What this entry's answers cost, where the entry says so."""


class Provider(msgspec.Struct, frozen=True):
    """The API's address, and where its secrets are found."""

    base_url: str
    api_key_env: str = "AIHUBMIX_API_KEY"
    headers: dict[str, str] = {}

    @property
    def rehearsal(self) -> bool:
        """Whether the stand-in provider answers."""
        return self.base_url.startswith(REHEARSAL)

    @property
    def path(self) -> str:
        """The URL path of the API's root, such as `/v1`."""
        return "/v1" if self.rehearsal else urlsplit(self.base_url).path


class Retry(msgspec.Struct, frozen=True):
    """How hard to try, for each row and start."""

    attempts: Count = 6
    outage_s: Positive = 600.0
    """How long to wait for a provider that is down before the run stops."""


class Timeouts(msgspec.Struct, frozen=True):
    """Bounds in seconds."""

    total_s: Positive = 600.0
    idle_s: Positive = 120.0
    """How long a streamed answer may be silent, before its first byte too."""
    connect_s: Positive = 30.0
    row_s: Positive | None = None
    """How long after its first attempt a row may be asked again; None: as long as it has attempts."""
    job_s: Positive | None = None
    """How long one start of the run may take."""
    drain_s: Annotated[float, msgspec.Meta(ge=0)] = 60.0


class Budget(msgspec.Struct, frozen=True):
    """What the whole run may use, over all its starts."""

    max_usd: Positive | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """Of prompts and answers."""


class Reuse(msgspec.Struct, frozen=True, rename={"folders": "from"}):
    """Where answers may be taken from instead of being asked for."""

    folders: tuple[str, ...] = ()
    """Run folders, relative to the working directory as the output is."""


class Output(msgspec.Struct, frozen=True):
    """The run folder, and how its parts are cut."""

    path: str
    """Absolute."""
    shard_rows: Count = 10_000
    raw: bool = True


class Job(msgspec.Struct, frozen=True):
    """What a run is asked to do."""

    name: str
    models: tuple[Model, ...]
    """Empty where each row (an OpenAI Batch line) names its own."""
    input: Input
    provider: Provider
    output: Output
    samples: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1
    params: dict[str, Any] = {}
    """For models that have no entry of their own, because the rows name them."""
    limits: Limits = Limits()
    """For each model that has no entry of its own."""
    retry: Retry = Retry()
    timeouts: Timeouts = Timeouts()
    budget: Budget = Budget()
    reuse: Reuse = Reuse()
    prices: dict[str, Price] = {}
    schedule: Schedule | None = None
    eval: Eval | None = None
    """None: the answers are not judged."""

    def public(self) -> dict[str, Any]:
        """The job as JSON-able values, fit for a file: what may hold secrets (headers, `on_finish`) is left out."""
        record: dict[str, Any] = msgspec.to_builtins(self)
        record["provider"]["headers"] = dict.fromkeys(self.provider.headers, "***")
        if self.schedule:
            record["schedule"]["on_finish"] = []
        return record


class _ModelEntry(msgspec.Struct, frozen=True):
    id: str
    name: str | None = None
    params: dict[str, Any] = {}
    limits: Limits | None = None
    prices: Price | None = None


class _ProviderTable(msgspec.Struct, frozen=True):
    base_url: str | None = None
    api_key_env: str = "AIHUBMIX_API_KEY"
    headers: dict[str, str] = {}


class _OutputTable(msgspec.Struct, frozen=True):
    path: str = "runs/{name}"
    shard_rows: Count = 10_000
    raw: bool = True


class _JobTable(msgspec.Struct, frozen=True):
    """The file as a person writes it."""

    input: Input
    name: str | None = None
    model: str | None = None
    models: tuple[_ModelEntry, ...] = ()
    samples: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1
    params: dict[str, Any] = {}
    provider: _ProviderTable = _ProviderTable()
    limits: Limits = Limits()
    retry: Retry = Retry()
    timeouts: Timeouts = Timeouts()
    budget: Budget = Budget()
    reuse: Reuse = Reuse()
    prices: dict[str, Price] = {}
    output: _OutputTable = _OutputTable()
    schedule: Schedule | None = None
    eval: Eval | None = None


def read_job(
    path: Path | None,
    settings: Mapping[str, Any],
    environ: Mapping[str, str] = os.environ,
    night: datetime.date | None = None,
) -> Job:
    """Return the job that a file and the command line's settings describe; settings go before the file.

    `settings` is nested like the file. Paths in the file's input are relative to the file, all others to the
    working directory. `night` is what `{date}` stands for; None: the night most recently due. Raises `JobError`.
    """
    try:
        raw = _read_toml(path) if path else {}
        _check_table(raw)
        if path and isinstance(raw.get("input"), dict) and isinstance(raw["input"].get("path"), str):
            raw["input"]["path"] = _absolute(raw["input"]["path"], path.parent)
        raw = _merged(raw, settings)
        _check_table(raw)
        table = _converted(raw)
        return _checked(table, path, environ, night)
    except JobError as error:
        raise JobError(f"{path}: {error}" if path else str(error)) from error.__cause__


def parse_setting(text: str) -> dict[str, Any]:
    """Return `limits.concurrency=64` as `{"limits": {"concurrency": 64}}`; what is no TOML value is a string."""
    key, equals, value = text.partition("=")
    if not equals:
        raise JobError("--set takes KEY=VALUE, such as --set limits.concurrency=64")
    quoted = '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    for candidate in (value, quoted):
        try:
            return tomllib.loads(f"{key.strip()} = {candidate}")
        except tomllib.TOMLDecodeError:
            continue
    raise JobError("--set takes KEY=VALUE with a dotted key, such as --set limits.concurrency=64")


def merge_settings(settings: list[dict[str, Any]]) -> dict[str, Any]:
    """Return nested settings as one; later ones go before earlier ones."""
    merged: dict[str, Any] = {}
    for setting in settings:
        merged = _merged(merged, setting)
    return merged


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise JobError("no such job file") from None
    except OSError as error:
        raise JobError(f"can't read the job file: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise JobError("the job file is not UTF-8 text") from error
    except tomllib.TOMLDecodeError as error:
        raise JobError(f"not valid TOML: {error}") from error


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _merged(old, value) if isinstance(old, dict) and isinstance(value, Mapping) else value
    return merged


def _absolute(path: str, folder: Path) -> str:
    return path if path == "-" or "://" in path else os.path.abspath(folder / Path(path).expanduser())  # noqa: PTH100 - keeps globs and links as they are


_TABLES: dict[str, type] = {
    "input": Input,
    "provider": _ProviderTable,
    "limits": Limits,
    "retry": Retry,
    "timeouts": Timeouts,
    "budget": Budget,
    "reuse": Reuse,
    "output": _OutputTable,
    "schedule": Schedule,
}


def _check_table(raw: Mapping[str, Any]) -> None:
    _check_keys(raw, _JobTable, "")
    for name, table in _TABLES.items():
        if isinstance(raw.get(name), Mapping):
            _check_keys(raw[name], table, f"{name}.")
    for prefix, entry, kind in tables_in(raw.get("eval")):
        _check_keys(entry, kind, prefix)
    prices = raw.get("prices")
    for model, price in prices.items() if isinstance(prices, Mapping) else ():
        if isinstance(price, Mapping):
            _check_keys(price, Price, f'prices."{model}".')
    models = raw.get("models")
    for entry in models if isinstance(models, list) else ():
        if isinstance(entry, Mapping):
            _check_keys(entry, _ModelEntry, "models.")
            for key, inner in {"limits": Limits, "prices": Price}.items():
                if isinstance(entry.get(key), Mapping):
                    _check_keys(entry[key], inner, f"models.{key}.")


def _check_keys(raw: Mapping[str, Any], table: type, prefix: str) -> None:
    known = {field.encode_name for field in msgspec.structs.fields(table)}
    for key in raw:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"did you mean {prefix}{near[0]}?" if near else f"known are {', '.join(sorted(known))}"
            raise JobError(f"unknown setting {prefix}{key}: {hint}")


def _converted(raw: Mapping[str, Any]) -> _JobTable:
    if "input" not in raw or (isinstance(raw["input"], Mapping) and "path" not in raw["input"]):
        raise JobError("input.path is missing: the JSONL or Parquet file with the rows")
    if "model" in raw and "models" in raw:
        raise JobError("give either model or [[models]], not both")
    try:
        return msgspec.convert(dict(raw), _JobTable)
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


def _checked(table: _JobTable, path: Path | None, environ: Mapping[str, str], night: datetime.date | None) -> Job:
    name = table.name if table.name is not None else _default_name(path, table.input.path)
    if not re.fullmatch(r"[^/\x00-\x1f\x7f]{1,200}", name) or name in {".", ".."}:
        raise JobError("name: must be a plain name of 1 to 200 characters without / in it")
    if table.schedule:
        table.schedule.check()
    date = night or nominal_date(table.schedule, datetime.datetime.now(datetime.UTC))
    models = _models(table)
    for scorer in table.eval.scorers if table.eval else ():
        _check_params(getattr(scorer, "params", {}))
    return Job(
        name=name,
        models=models,
        samples=table.samples,
        params=table.params,
        limits=table.limits,
        input=_checked_input(table.input),
        provider=_checked_provider(table.provider, environ),
        retry=table.retry,
        timeouts=table.timeouts,
        budget=table.budget,
        reuse=table.reuse,
        prices=table.prices,
        schedule=table.schedule,
        output=Output(_output_path(table.output.path, name, date), table.output.shard_rows, table.output.raw),
        eval=checked_eval(table.eval, tuple(model.name for model in models)) if table.eval else None,
    )


def _default_name(path: Path | None, source: str) -> str:
    if path:
        return path.stem
    if source == "-":
        return "stdin"
    stem = Path(source).name.partition(".")[0]
    return re.sub(r"[*?\[\]]+", "", stem) or "batch"


def _models(table: _JobTable) -> tuple[Model, ...]:
    entries = table.models or ((_ModelEntry(table.model),) if table.model is not None else ())
    models = []
    for entry in entries:
        params = {**table.params, **entry.params}
        _check_params(params)
        if not entry.id.strip() or not (entry.name is None or entry.name.strip()):
            raise JobError("model: is empty; give the model's id, such as gpt-4o-mini")
        models.append(Model(entry.id, entry.name or entry.id, params, entry.limits or table.limits, entry.prices))
    names = [model.name for model in models]
    for name in names:
        if names.count(name) > 1:
            raise JobError(f"models: {name!r} stands twice; give each entry a name of its own")
    _check_params(table.params)
    return tuple(models)


def _check_params(params: Mapping[str, Any]) -> None:
    for key, instead in {"model": "set model", "messages": "set input.messages"}.items():
        if key in params:
            raise JobError(f"params.{key}: does not belong here; {instead} instead")
    if not isinstance(params.get("stream", False), bool):
        raise JobError("params.stream: must be true or false")
    try:
        msgspec.json.encode(params)
    except (TypeError, ValueError) as error:
        raise JobError(f"params: {error}") from error


def _checked_input(source: Input) -> Input:
    if "://" in source.path:
        raise JobError(
            f"input.path: {source.path.partition('://')[0]}:// is not supported yet; copy the file here first"
        )
    if source.messages is not None and (source.prompt is not None or source.system is not None):
        raise JobError("input: give either messages, or prompt and system, not both")
    if source.messages is not None and not source.messages:
        raise JobError("input.messages: is empty")
    return msgspec.structs.replace(source, path=_absolute(source.path, Path.cwd()))


def _checked_provider(table: _ProviderTable, environ: Mapping[str, str]) -> Provider:
    url = table.base_url or environ.get("AIHUBMIX_BASE_URL") or DEFAULT_BASE_URL
    if not url.startswith(REHEARSAL):
        url = checked_url(url)
    if table.api_key_env and not _VARIABLE.fullmatch(table.api_key_env):
        raise JobError(
            "provider.api_key_env: must be the name of an environment variable, such as AIHUBMIX_API_KEY, never the"
            " key itself (the value is not shown in case it is one)"
        )
    for name in table.headers:
        if not re.fullmatch(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", name):
            raise JobError("provider.headers: a header's name has characters that HTTP does not allow")
    return Provider(url, table.api_key_env, table.headers)


def checked_url(url: str) -> str:
    """Return an API's address in its one form, with `/v1` where no path is given. Raises `JobError`."""
    try:
        parts = urlsplit(url.strip())
        _ = parts.port
    except ValueError as error:
        raise JobError(f"provider.base_url: {error}") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise JobError("provider.base_url: must be an http or https URL such as https://aihubmix.com/v1")
    if parts.username or parts.password:
        raise JobError("provider.base_url: must hold no user name or password; the key comes from provider.api_key_env")
    if parts.query or parts.fragment:
        raise JobError("provider.base_url: must end with the path, such as /v1")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/') or '/v1'}"


def _output_path(template: str, name: str, date: datetime.date) -> str:
    known = {"name": name, "date": date.isoformat()}

    def value(found: re.Match[str]) -> str:
        if found[1] not in known:
            raise JobError(f"output.path: {{{found[1]}}} is not known; use {{name}} or {{date}}")
        return known[found[1]]

    if not template.strip():
        raise JobError("output.path: is empty")
    return _absolute(re.sub(r"\{(\w*)\}", value, template), Path.cwd())
