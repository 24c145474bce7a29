"""Turns a checked job back into settings, as a job file has them, and into the text of a job file."""

from __future__ import annotations

from typing import Any

import msgspec
import tomli_w

from batchmix.errors import JobError
from batchmix.job.answer_table import schema_as_text
from batchmix.job.table import KeyPath, dotted
from batchmix.job.values import CheckedJob, Model

_ORDER = (
    "name", "model", "samples", "models", "input", "params", "answer", "provider", "limits", "retry", "timeouts",
    "budget", "reuse", "prices", "output", "eval", "schedule",
)  # fmt: skip
"""The order of the tables in the text, which is that of the examples in `jobs/`."""
_HEAD = """\
# A job of batchmix; what is not here has its default.
#
#   batchmix run THIS_FILE.toml
"""


def job_settings(job: CheckedJob) -> dict[str, Any]:
    """Return the nested settings of a job: what its job file would say, without defaults.

    `read_job(None, settings)` returns the job again, but for where each parameter was given (`places`), and for the
    date (`night`) that only the output's path had. The paths of input and output are absolute, with `{date}` filled in.
    """
    settings = _without_defaults(job)
    del settings["models"]
    settings |= _models_of(job)
    paths = {name: getattr(job.output, name) for name in ("path", "publish", "delta_table")}
    settings["output"] = settings.get("output", {}) | {name: _literal(path) for name, path in paths.items() if path}
    return {name: settings[name] for name in _ORDER if name in settings}


def to_toml(job: CheckedJob) -> str:
    """Return the text of a job file for a job. In each table, tables stand below the other keys.

    Raises `JobError` for a null, which TOML does not have.
    """
    settings = job_settings(job)
    if job.answer:
        settings["answer"]["schema"] = schema_as_text(job.answer.schema)
    if (path := _null_in(settings)) is not None:
        raise JobError(f"{dotted(path)}: is null, which a TOML file can't hold; give it with --set {dotted(path)}=null")
    # tomli-w ends the lines of a long text with \n only, so a text with \r is written on one line.
    return f"{_HEAD}\n{tomli_w.dumps(settings, multiline_strings=not _holds_return(settings))}"


def _without_defaults(value: msgspec.Struct) -> dict[str, Any]:
    """Return a table as nested settings, without those that have their defaults."""
    config = value.__struct_config__
    settings: dict[str, Any] = {config.tag_field: config.tag} if config.tag_field else {}
    for field in msgspec.structs.fields(value):
        inner = getattr(value, field.name)
        default = field.default
        if field.default_factory is not msgspec.NODEFAULT:
            default = field.default_factory()
        if inner is not None and (default is msgspec.NODEFAULT or inner != default):
            settings[field.encode_name] = _plain(inner)
    for name, other in (("to", "from"), ("name", config.tag_field)):  # these two default to the value of another key
        if other in settings and settings.get(name) == settings[other]:
            del settings[name]
    return settings


def _plain(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        return _without_defaults(value)
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def _models_of(job: CheckedJob) -> dict[str, Any]:
    """Return the setting `model` for one model that is like the job, otherwise `models`. Empty without any model."""
    entries = [_entry(job, model) for model in job.models]
    if len(entries) == 1 and len(entries[0]) == 1:
        return {"model": entries[0]["id"]}
    return {"models": entries} if entries else {}


def _entry(job: CheckedJob, model: Model) -> dict[str, Any]:
    """Return one table of `[[models]]`: what the model has beside the job's own parameters and limits."""
    entry: dict[str, Any] = {"id": model.id}
    if model.name != model.id:
        entry["name"] = model.name
    # Compared as JSON: 1, 1.0 and true are equal in Python, but make different requests.
    own = {
        key: _plain(value)
        for key, value in model.params.items()
        if key not in job.params or msgspec.json.encode(value) != msgspec.json.encode(job.params[key])
    }
    if own:
        entry["params"] = own
    if model.limits != job.limits:
        entry["limits"] = _without_defaults(model.limits)
    if model.price is not None:
        entry["prices"] = _without_defaults(model.price)
    return entry


def _literal(path: str) -> str:
    """Return a template of a path that yields the path itself."""
    return path.replace("{", "{{").replace("}", "}}")


def _null_in(value: Any, path: KeyPath = ()) -> KeyPath | None:
    """Return the path of the first null in nested settings. None if there is none."""
    if value is None:
        return path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return next((found for key, below in inner if (found := _null_in(below, (*path, key))) is not None), None)


def _holds_return(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_holds_return, value.values()))
    return any(map(_holds_return, value)) if isinstance(value, list) else isinstance(value, str) and "\r" in value
