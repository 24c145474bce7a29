"""Reads a job from a TOML file, settings from the command line, or both, and checks settings against each other."""

from __future__ import annotations

import contextlib
import datetime
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from batchmix.errors import JobError
from batchmix.job.addresses import absolute, checked_local, checked_url
from batchmix.job.answer_table import checked_answer
from batchmix.job.columns import checked_columns
from batchmix.job.cron import due_words
from batchmix.job.eval_table import checked_eval, with_fields
from batchmix.job.mistakes import Mistake, mistakes_in
from batchmix.job.scorer_files import with_scorer_files
from batchmix.job.secrets import secrets_if_set
from batchmix.job.settings import merged, setting_in
from batchmix.job.steps import chain_of
from batchmix.job.table import JobTable, ModelEntry
from batchmix.job.toml_file import Places, read_toml
from batchmix.job.values import DEFAULT_BASE_URL, MEMORY, QUERY, REHEARSAL, CheckedJob, Input, Model, Output, Provider
from batchmix.remote.files import is_url
from batchmix.remote.objects import is_remote

_MAX_NAME_CHARS = 200
_MAX_MISTAKES = 30
"""The maximum number of mistakes that are shown. Any more are only counted."""
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_WORD = re.compile(r"\{\{|\}\}|\{(\w*)\}")
"""A word in braces in `output.path`, such as `{date}`, or a doubled brace, which stands for one."""
_STDIN = frozenset({"-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"})
_PIPES = ("/dev/fd/", "/proc/self/fd/")
"""The folders of the files that a shell creates for `<(…)`. Their names are numbers that change from call to call."""


def read_job(
    path: Path | None,
    settings: Mapping[str, Any],
    environ: Mapping[str, str] = os.environ,
    scheduled: datetime.date | None = None,
    option: str = "--set ",
) -> CheckedJob:
    """Return the checked job from a file and the command line's settings, which override the file.

    `settings` is nested like the file. A top-level one that is None leaves out what the file says. An input path in the
    file is relative to the file. All other paths are relative to the working directory. `scheduled` is the date, or the
    time, at which the run is due, or None for the last scheduled time. `option` stands before a setting where a message
    says that `settings` gave it. Raises `JobError` if a setting is wrong.
    """
    try:
        text, raw = read_toml(path) if path else ("", {})
    except JobError as error:
        raise JobError(f"{path}{error}") from error.__cause__
    places = Places(path, text, settings, option)
    raw = {name: value for name, value in merged(raw, settings).items() if value is not None}
    _check(raw, places)

    def read(raw: Mapping[str, Any]) -> CheckedJob:
        table = msgspec.convert(raw, JobTable)
        named = "path" if table.input.query is None else "query"
        source = _checked_input(table.input, _folder(path, settings, "input", named))
        table = _with_scorer_files(table, _folder(path, settings, "eval", "scorers"), environ)
        job = _placed(_checked(table, source, path, environ, scheduled), places)
        return _with_answer(job, table, _folder(path, settings, "answer", "schema"), environ)

    try:
        job = chain_of(raw, read) if raw.get("steps") else read(raw)
    except JobError as error:
        setting = str(error).partition(":")[0].split(".")
        raise JobError(f"{places.prefix_for(tuple(setting))}{error}") from error.__cause__
    return job if path is None else msgspec.structs.replace(job, scorer_folder=str(path.absolute().parent))


def _check(raw: Mapping[str, Any], places: Places) -> None:
    """Raise `JobError` if any settings are wrong. The message lists all mistakes, each with its line."""
    mistakes = mistakes_in(raw)
    if "model" in raw and "models" in raw:
        mistakes.append(Mistake(("models",), "give either model or [[models]], not both"))
    texts = [f"{places.prefix_for(mistake.path)}{mistake.text}" for mistake in mistakes]
    if len(texts) == 1:
        raise JobError(texts[0])
    if texts:
        more = [f"and {len(texts) - _MAX_MISTAKES} more"] if len(texts) > _MAX_MISTAKES else []
        raise JobError("\n  ".join([f"{len(texts)} settings of the job are wrong:", *texts[:_MAX_MISTAKES], *more]))


def _placed(job: CheckedJob, places: Places) -> CheckedJob:
    """Return the job with `places` filled in, which says where each parameter was given."""
    of_job = places.of_job()
    models = tuple(
        msgspec.structs.replace(model, places=of_job | places.of_entry(number))
        for number, model in enumerate(job.models)
    )
    return msgspec.structs.replace(job, models=models, places=of_job)


def _checked(
    table: JobTable, source: Input, path: Path | None, environ: Mapping[str, str], scheduled: datetime.date | None
) -> CheckedJob:
    name = table.name if table.name is not None else _plain(_default_name(path, table.input))
    if not re.fullmatch(r"[^/\x00-\x1f\x7f]+", name) or len(name) > _MAX_NAME_CHARS or name in {".", ".."}:
        raise JobError("name: must be a plain name of 1 to 200 characters without / in it")
    if table.schedule:
        table.schedule.check()
    words = {"name": name} | due_words(table.schedule, scheduled, datetime.datetime.now(datetime.UTC))
    has_night = table.schedule is not None or scheduled is not None or "date" in _words_in(table.output.path)
    if table.reuse.dedupe and not table.output.raw:
        raise JobError("reuse.dedupe: needs the column raw, which output.raw = false leaves out")
    for folder in table.reuse.folders:
        checked_local(folder, "reuse.from", "copy that run here first")
    if table.eval and table.eval.against:
        checked_local(table.eval.against, "eval.against", "copy that run here first")
    models = _models(table)
    if models and table.input.model is not None:
        raise JobError("input.model: the rows name their models there; take model and [[models]] out, or input.model")
    for scorer in table.eval.scorers if table.eval else ():
        _check_params(getattr(scorer, "params", {}))
    output = _checked_output(table.output, words)
    settings = msgspec.structs.asdict(table)
    del settings["model"], settings["answer"], settings["steps"]  # a `CheckedJob` has them in another form
    settings |= {
        "name": name,
        "models": models,
        "night": datetime.date.fromisoformat(words["date"]) if has_night else None,
        "input": _beside(source, output),
        "provider": _checked_provider(table.provider, environ),
        "output": output,
        "eval": checked_eval(table.eval, tuple(model.name for model in models)) if table.eval else None,
    }
    return CheckedJob(**settings)


def _plain(stem: str) -> str:
    """Turn a file's name into a valid job name: replace forbidden characters, and shorten it."""
    return re.sub(r"[/\x00-\x1f\x7f]", "_", stem)[:_MAX_NAME_CHARS]


def _default_name(path: Path | None, given: Input) -> str:
    source = given.path or given.run or ""
    if path:
        return path.stem
    if source in _STDIN or source.startswith(_PIPES):
        return "stdin"
    if source.startswith(MEMORY):
        return "data"
    stem = Path(source).name.partition(".")[0]
    return re.sub(r"[*?\[\]]+", "", stem) or "batch"


def _models(table: JobTable) -> tuple[Model, ...]:
    entries = table.models or ((ModelEntry(table.model),) if table.model is not None else ())
    models: list[Model] = []
    for entry in entries:
        params = {**table.params, **entry.params}
        _check_params(params)
        if not entry.id.strip() or not (entry.name is None or entry.name.strip()):
            raise JobError("model: is empty; give the model's id, such as gpt-4o-mini")
        checked = {"name": entry.name or entry.id, "params": params, "limits": entry.limits or table.limits}
        models.append(Model(**msgspec.structs.asdict(entry) | checked))
    names = [model.name for model in models]
    for name in names:
        if names.count(name) > 1:
            raise JobError(f"models: {name!r} is there twice; give each entry a name of its own")
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


def _folder(path: Path | None, settings: Mapping[str, Any], *setting: str) -> Path:
    """Return the folder that a relative path in a setting starts from.

    It is the job file's folder, or the working directory if the path was given on the command line.
    """
    return Path.cwd() if path is None or setting_in(settings, setting) is not None else path.absolute().parent


def _with_answer(job: CheckedJob, table: JobTable, folder: Path, environ: Mapping[str, str]) -> CheckedJob:
    if table.answer is None:
        return job
    params = {"params": job.params} | {f"models.{model.name}.params": model.params for model in job.models}
    with _redacted(job.provider, environ):
        answer = checked_answer(table.answer, folder, params)
    return msgspec.structs.replace(job, answer=answer, eval=job.eval and with_fields(job.eval, answer))


def _with_scorer_files(table: JobTable, folder: Path, environ: Mapping[str, str]) -> JobTable:
    if table.eval is None:
        return table
    with _redacted(table.provider, environ):
        return msgspec.structs.replace(table, eval=with_scorer_files(table.eval, folder))


@contextlib.contextmanager
def _redacted(provider: Provider, environ: Mapping[str, str]) -> Iterator[None]:
    """Remove the key from an error, which may say what a schema's module said, and that can read the key."""
    try:
        yield
    except JobError as error:
        # The rehearsal needs no key, so that none would be looked for. The module can read it all the same.
        provider = msgspec.structs.replace(provider, base_url=DEFAULT_BASE_URL)
        raise JobError(secrets_if_set(provider, environ).redacted_text(str(error))) from error.__cause__


def _checked_input(source: Input, folder: Path) -> Input:
    if source.messages is not None and (source.prompt is not None or source.system is not None):
        raise JobError("input: give either messages, or prompt and system, not both")
    if source.messages is not None and not source.messages:
        raise JobError("input.messages: is empty")
    columns = None if source.columns is None else checked_columns(source.columns)
    if source.run is not None:
        return msgspec.structs.replace(source, columns=columns)
    if source.path in _STDIN:
        return msgspec.structs.replace(source, path="-", columns=columns)
    if source.query is not None:
        path = QUERY + msgspec.json.encode([str(folder), source.query]).decode()
        return msgspec.structs.replace(source, path=path, query=None, columns=columns)
    if source.path.startswith((MEMORY, QUERY)) or is_url(source.path):
        return msgspec.structs.replace(source, columns=columns)
    otherwise = "copy the file here first, or give an address with s3://, gs:// or az://"
    path = absolute(checked_local(source.path, "input.path", otherwise), folder, "input.path")
    return msgspec.structs.replace(source, path=path, columns=columns)


def _beside(source: Input, output: Output) -> Input:
    """Return the input with the path of the run that it names, which is beside the job's own run."""
    if source.run is None:
        return source
    if is_remote(output.path):  # the folder of a chain, which gets a copy with all its steps
        return msgspec.structs.replace(source, path=f"{output.path.rpartition('/')[0]}/{source.run}", run=None)
    named = checked_local(source.run, "input.run", "copy that run here first")
    path = absolute(named, Path(output.path).parent, "input.run")
    return msgspec.structs.replace(source, path=path, run=None)


def _checked_provider(provider: Provider, environ: Mapping[str, str]) -> Provider:
    url = provider.base_url or environ.get("AIHUBMIX_BASE_URL") or DEFAULT_BASE_URL
    if not url.startswith(REHEARSAL):
        url = checked_url(url)
    if provider.api_key_env and not _VARIABLE.fullmatch(provider.api_key_env):
        raise JobError(
            "provider.api_key_env: must be the name of an environment variable, such as AIHUBMIX_API_KEY, never the"
            " key itself (the value is not shown in case it is one)"
        )
    for name in provider.headers:
        if not re.fullmatch(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", name):
            raise JobError("provider.headers: a header's name holds characters that HTTP does not allow")
    return msgspec.structs.replace(provider, base_url=url)


def _checked_output(output: Output, words: Mapping[str, str]) -> Output:
    _check_mode(output.mode)
    path = _filled(output.path, words, "output.path")
    if not is_remote(path):
        path = _absolute(path, "output.path")
    publish, table = (
        _beside_runs(given, words, Path(path), f"output.{name}")
        for name, given in (("publish", output.publish), ("delta_table", output.delta_table))
    )
    return msgspec.structs.replace(output, path=path, publish=publish, delta_table=table)


def _beside_runs(template: str | None, words: Mapping[str, str], run: Path, what: str) -> str | None:
    """Return the absolute path of where results are delivered. Raises `JobError` if it lies among the run folders."""
    if template is None:
        return None
    filled = _filled(template, words, what)
    if what == "output.publish" and is_remote(filled):
        return filled.rstrip("/")
    target = Path(_absolute(filled, what))
    is_date = run.name.startswith(words["date"])
    if target.parent in {run, run.parent, run.parent.parent if is_date else run.parent}:
        raise JobError(
            f"{what}: {target} would lie among the runs, where whoever reads all of them would read its rows twice;"
            " choose a path elsewhere, such as published/{name}"
        )
    return str(target)


def _words_in(template: str) -> set[str]:
    return {match[1] for match in _WORD.finditer(template) if match[1]}


def _check_mode(mode: str | None) -> None:
    """Raise `JobError` unless `mode` is None or file permissions with which the owner can read and write."""
    if mode is not None and not re.fullmatch(r"0?6[0246][0246]", mode):
        raise JobError(
            'output.mode: must be permissions of files such as "0640", with 6 for the owner; folders can be entered'
            " where their files can be read"
        )


def _filled(template: str, words: Mapping[str, str], what: str) -> str:
    """Return a path with its words in braces replaced."""

    def value(match: re.Match[str]) -> str:
        if match[1] is None:
            return match[0][0]  # a doubled brace stands for one
        if match[1] == "time" and "time" not in words:
            raise JobError(f"{what}: {{time}} is the time at which a run is due; the job has no [schedule]")
        if match[1] not in words:
            raise JobError(f"{what}: {{{match[1]}}} is unknown; use {{name}}, {{date}} or {{time}}")
        return words[match[1]]

    filled = _WORD.sub(value, template)
    return filled.rstrip("/") if is_remote(filled) else filled


def _absolute(path: str, what: str) -> str:
    found = absolute(checked_local(path, what), Path.cwd(), what)
    if found.encode(errors="replace").decode() != found:
        raise JobError(f"{what}: is not UTF-8; choose another folder{' with --out' * (what == 'output.path')}")
    return found
