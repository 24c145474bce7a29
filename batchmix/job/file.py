"""How a job is read: a TOML file, settings from the command line, or both, and what must be true of them together."""

from __future__ import annotations

import datetime
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from batchmix.cron import nominal_date
from batchmix.errors import JobError
from batchmix.eval_table import checked_eval
from batchmix.job.places import Places
from batchmix.job.table import JobTable, ModelEntry, ProviderTable, check_finite, check_keys, converted
from batchmix.job.values import DEFAULT_BASE_URL, REHEARSAL, Input, Job, Model, Output, Provider

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


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
        text = _read_text(path) if path else ""
        raw = _parsed(text)
        check_keys(raw)
        if path and isinstance(raw.get("input"), dict) and isinstance(raw["input"].get("path"), str):
            raw["input"]["path"] = _absolute(raw["input"]["path"], path.parent)
        raw = _merged(raw, settings)
        check_keys(raw)
        check_finite(raw, "")
        table = converted(raw)
        job = _checked(table, path, environ, night)
        return _placed(job, Places(path, text, settings))
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


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise JobError("no such job file") from None
    except OSError as error:
        raise JobError(f"can't read the job file: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise JobError("the job file is not UTF-8 text") from error


def _parsed(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise JobError(f"not valid TOML: {error}") from error


def _placed(job: Job, places: Places) -> Job:
    """Return the job with the places of its parameters."""
    of_job = places.of_job()
    models = tuple(
        msgspec.structs.replace(model, places=of_job | places.of_entry(number))
        for number, model in enumerate(job.models)
    )
    return msgspec.structs.replace(job, models=models, places=of_job)


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _merged(old, value) if isinstance(old, dict) and isinstance(value, Mapping) else value
    return merged


def _absolute(path: str, folder: Path) -> str:
    return path if path == "-" or "://" in path else os.path.abspath(folder / Path(path).expanduser())  # noqa: PTH100 - keeps globs and links as they are


def _checked(table: JobTable, path: Path | None, environ: Mapping[str, str], night: datetime.date | None) -> Job:
    name = table.name if table.name is not None else _default_name(path, table.input.path)
    if not re.fullmatch(r"[^/\x00-\x1f\x7f]{1,200}", name) or name in {".", ".."}:
        raise JobError("name: must be a plain name of 1 to 200 characters without / in it")
    if table.schedule:
        table.schedule.check()
    date = night or nominal_date(table.schedule, datetime.datetime.now(datetime.UTC))
    if table.reuse.dedupe and not table.output.raw:
        raise JobError("reuse.dedupe: takes answers from the column raw, which output.raw = false leaves out")
    models = _models(table)
    if models and table.input.model is not None:
        raise JobError("input.model: the rows name their models there; take model and [[models]] out, or input.model")
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


def _models(table: JobTable) -> tuple[Model, ...]:
    entries = table.models or ((ModelEntry(table.model),) if table.model is not None else ())
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


def _checked_provider(table: ProviderTable, environ: Mapping[str, str]) -> Provider:
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
