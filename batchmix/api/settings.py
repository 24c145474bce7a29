"""The keyword arguments that describe a job in Python, and the checked job that they make."""

from __future__ import annotations

import datetime
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

import msgspec

from batchmix.answers.schema import read_schema
from batchmix.api.examples import Examples, with_examples
from batchmix.engine.run import Options
from batchmix.errors import JobError
from batchmix.formats.display import clean
from batchmix.job import CheckedJob, closest, job_of_call, merge_settings, single
from batchmix.job.call import FLAGS, settings_of_flags
from batchmix.job.mistakes import mistakes_in_table

Table = Mapping[str, Any]
"""A table of the job file, with the same keys: `limits={"concurrency": 64}`."""


class JobKeywords(TypedDict, total=False):
    """The keyword arguments that describe a job, beside the input, `prompt`, `model` and `out`.

    The first are short names for single settings. The others are the tables of the job file; jobs/job-file.md lists
    their keys. A short name overrides the same setting in a table.
    """

    system: str
    """The template of the system message."""
    messages: Sequence[Mapping[str, Any]]
    """The templates of all messages, instead of `prompt` and `system`."""
    examples: Examples
    """Pairs of a question and its answer, which stand before the prompt: `[("I loved it", "pos")]`.

    The question is the value of the only column that the prompt reads, or a dict of all columns that it reads.
    """
    schema: type | str | os.PathLike[str] | Mapping[str, Any]
    """What each answer must be: a pydantic model or another class with a JSON Schema, a schema, or its file."""
    base_url: str
    """The API's address; `"rehearsal:"` for the rehearsal provider."""
    rpm: float
    """The provider's limit of requests per minute."""
    tpm: float
    """The provider's limit of tokens per minute."""
    concurrency: int
    """The most requests in flight."""
    deadline: float
    """Stop after so many seconds. The next start sends the rest."""

    date: datetime.date
    """The date, or the time, at which the run is due: for `{date}` in its path, and the column `night`."""
    name: str
    """The run's name."""
    models: Sequence[Table]
    """Several models, instead of `model`: `[{"id": "gpt-4o-mini"}, {"id": "gpt-4.1-mini", "limits": {…}}]`."""
    samples: int
    """How many answers to each row by each model."""
    input: Table
    """Columns with a meaning, and those that are carried into the results: `{"id": "ticket", "columns": ["text"]}`."""
    params: Table
    """Goes into each request body as it is: `{"temperature": 0}`."""
    answer: Table
    """What each answer must be, and what happens if it is not: `{"schema": Review, "repair": 2, "flatten": True}`."""
    provider: Table
    """The API's address and the names of the variables with its secrets: `{"api_key_env": "MY_KEY"}`."""
    limits: Table
    """The provider's limits, as far as they are known: `{"requests_per_minute": 600}`."""
    retry: Table
    """How often a row is retried: `{"attempts": 3}`."""
    timeouts: Table
    """Seconds: `{"total_s": 60}`."""
    budget: Table
    """Caps for the whole run, over all its starts: `{"max_usd": 5.0}`."""
    reuse: Table
    """Answers that need not be paid for again: `{"from": ["runs/yesterday"], "dedupe": True}`."""
    cache: Table
    """How the provider's prompt cache is used: `{"mark": "5m"}`."""
    prices: Mapping[str, Table]
    """Prices in USD per 1M tokens, by model: `{"gpt-4o-mini": {"input": 0.15, "output": 0.6}}`."""
    output: Table
    """The run folder and its parts: `{"shard_rows": 1000, "mode": "0640"}`."""
    eval: Table
    """What `evaluate` and the command line score: `{"target": "label", "scorers": [{"kind": "exact"}]}`."""
    schedule: Table
    """When `batchmix schedule` runs the job: `{"cron": "30 2 * * *"}`."""


class StartSettings(TypedDict, total=False):
    """The keyword arguments of one start, which change no request."""

    limit: int
    """Only the input's first rows."""
    canary: int
    """Send only so many random rows of each model. A later start sends the rest."""
    update: bool
    """Send changed requests again, and drop answers of removed rows."""
    retry_rejected: bool
    """Send rows again that the provider rejected."""
    bad_rows: Literal["refuse", "reject"]
    """Refuse an input with bad rows, which is the default, or give each bad row a result with its error."""
    keep_going: bool
    """Continue even if the first rows are all refused for one reason."""
    progress: Literal["auto", "bar", "log", "none"]
    """`auto`, which is the default, shows it in a notebook, `bar` and `log` on stderr, `none` nowhere."""


class Settings(JobKeywords, StartSettings, total=False):
    """The keyword arguments of a call that runs or plans a job: those of the job, and those of this start."""


_OF_JOB = frozenset(JobKeywords.__annotations__)
_OF_START = frozenset(StartSettings.__annotations__)
_Rows = Annotated[int, msgspec.Meta(ge=1)] | None


class StartKeywords(msgspec.Struct, frozen=True):
    """The keyword arguments of one start, checked."""

    limit: _Rows = None
    canary: _Rows = None
    update: bool = False
    retry_rejected: bool = False
    bad_rows: Literal["refuse", "reject"] = "refuse"
    keep_going: bool = False
    progress: Literal["auto", "bar", "log", "none"] = "auto"


def checked_job(
    source: str | os.PathLike[str] | None, prompt: str | None, model: str | None, out: str | os.PathLike[str] | None,
    settings: JobKeywords,
) -> CheckedJob:  # fmt: skip
    """Return the job that the arguments of a call describe. Raises `JobError`, which names the nearest right keyword.

    `source` is a job file, an input, or None if `settings["input"]` has the path. Relative paths start from the working
    directory. Keywords of a start (`start_options`) are left out.
    """
    given = _given(settings)
    for names in (given.get("models"), as_in_a_file(model)):
        if isinstance(names, list) and names and all(isinstance(name, str) for name in names):
            raise JobError(f"models: write models={[{'id': name} for name in names]}")
    flags = {name: given.pop(name, None) for name in FLAGS} | {
        "prompt": prompt,
        "model": model,
        "out": as_in_a_file(out),
    }
    examples, date = given.pop("examples", None), given.pop("date", None)
    if not isinstance(date, datetime.date | None):
        raise JobError(f"date: expected a datetime.date, got {type(date).__name__}; see datetime.date.fromisoformat")
    job = single(job_of_call(as_in_a_file(source), [given], flags, scheduled=date, option=""))
    if examples is not None:
        job = msgspec.structs.replace(job, input=with_examples(job.input, examples))
    return with_own_code(job)


def with_own_code(job: CheckedJob) -> CheckedJob:
    """Return a job that may import custom scorers from the working directory, unless it has a job file's folder.

    Unlike a run folder, which may come from somebody else, a program may name code of its own.
    """
    return job if job.scorer_folder else msgspec.structs.replace(job, scorer_folder=str(Path.cwd()))


def start_options(settings: StartSettings) -> Options:
    """Return the options of a start that are among the keyword arguments of a call. Raises `JobError`."""
    given = {key: value for key, value in settings.items() if key in _OF_START}
    mistakes = [mistake.text for mistake in mistakes_in_table(given, StartKeywords)]
    if mistakes:
        raise JobError("\n  ".join(mistakes))
    start = msgspec.convert(given, StartKeywords)
    return Options(
        limit=start.limit,
        update=start.update,
        retry_rejected=start.retry_rejected,
        reject_bad_rows=start.bad_rows == "reject",
        keep_going=start.keep_going,
        canary=start.canary,
    )


def changed_settings(settings: Settings) -> dict[str, Any]:
    """Return the settings of a job among the keyword arguments of a call that goes on with a run. Raises `JobError`."""
    given = _given(settings)
    for name in ("examples", "date"):
        if name in given:
            raise JobError(
                f"{name}: belong to the requests of the run, which go on as they are; call bm.run for others"
            )
    flags = {name: given.pop(name) for name in FLAGS if name in given}
    return merge_settings([given, settings_of_flags(flags)])


def answer_class(settings: JobKeywords, earlier: type | None = None) -> type | None:
    """Return the class among the keyword arguments of a call that says what the answers are. None if there is none.

    `earlier` is that of an earlier call, which holds as long as this one gives no schema.
    """
    given = settings.get("schema") or settings.get("answer", {}).get("schema")
    if given is None:
        return earlier
    return given if isinstance(given, type) else None


def _given(settings: JobKeywords | Settings) -> dict[str, Any]:
    """Return the keywords of a job as a job file would have them. Raises `JobError`."""
    given = {key: as_in_a_file(value) for key, value in settings.items() if key not in _OF_START}
    _check_names(given)
    for table in (given, given.get("answer")):
        if isinstance(table, dict) and not isinstance(table.get("schema"), str | dict | None):
            table["schema"] = read_schema(table["schema"], Path.cwd())  # a class, which no file can hold
    return given


def as_in_a_file(value: Any) -> Any:
    """Return a copy of a setting as a job file would have it: paths as text, tuples as lists, any mapping as a dict."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {_key(key): as_in_a_file(inner) for key, inner in value.items()}
    return [as_in_a_file(inner) for inner in value] if isinstance(value, list | tuple) else value


def _key(key: Any) -> str:
    """Return a key of a table as text: JSON has no others, but `{50256: -100}` is natural in Python."""
    if not isinstance(key, str | int) or isinstance(key, bool):
        raise JobError(f"the key {clean(repr(key), 60)} in a setting must be a text")
    return str(key)


def _check_names(given: Mapping[str, Any]) -> None:
    """Raise `JobError` for a misspelt keyword. What is like no keyword is left to the checks of the job."""
    known = _OF_JOB | _OF_START | {"prompt", "model", "out"}
    for name in given:
        if name not in known and (near := closest(name, sorted(known))):
            raise JobError(f"unknown keyword argument {name}: did you mean {near}?")
