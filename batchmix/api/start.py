"""Prepares the run that a call describes, and starts it in a worker thread."""

from __future__ import annotations

import contextlib
import functools
import glob
import hashlib
import logging
import os
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import msgspec

from batchmix.api.job import Job
from batchmix.api.messages import how_to_go_on, speaking_python
from batchmix.api.run import Run
from batchmix.api.settings import JobKeywords, Settings, answer_class, changed_settings, checked_job, start_options
from batchmix.api.worker import Worker, check_threads, done_in_thread
from batchmix.engine.canary import forecast
from batchmix.engine.local_output import local_output, with_output
from batchmix.engine.recorded_job import resumed
from batchmix.engine.run import Options, run_job
from batchmix.engine.run_status import RunStatus
from batchmix.engine.shutdown import StopRequest
from batchmix.errors import BatchmixError, InputError, JobError, UsageError
from batchmix.formats.display import clean
from batchmix.job import MEMORY, CheckedJob, job_settings, merge_settings
from batchmix.job.secrets import read_secrets
from batchmix.progress.shown import progress_shown
from batchmix.redact import Secrets
from batchmix.remote.objects import is_remote
from batchmix.store.result_feed import ResultQueue
from batchmix.store.view import View
from batchmix.tables.memory_rows import memory_rows, name_of_text

if TYPE_CHECKING:
    from batchmix.verdict.outcome import Evaluation, PreparedEvaluation

_logger = logging.getLogger(__name__)
_NAME = "table"
"""The name of a run over data in memory, unless it has a name or a folder."""
_DIGITS = 12
"""The number of digits of the digest in the name of a run folder."""


class PreparedCall(msgspec.Struct, frozen=True):
    """A checked job with its rows, ready to start."""

    job: CheckedJob
    options: Options
    progress: str | None
    run_status: RunStatus
    answer_class: type | None = None
    """The class that the call gives as the schema of the answers."""
    where: str = ""
    """The run folder, or its URL. Set when the run starts."""
    copy: contextlib.ExitStack = msgspec.field(default_factory=contextlib.ExitStack)
    """Closed when the run has ended: what changed in the copy of a folder in object storage is then there."""

    def shown(self) -> AbstractContextManager[None]:
        """Show the progress during the block, which the caller enters in its own thread and task."""
        return progress_shown(self.run_status, self.progress)

    def discard(self) -> None:
        """Close the rows in memory."""
        if self.options.rows is not None:
            self.options.rows.close()


class Arguments(msgspec.Struct, frozen=True):
    """The arguments of a call that runs or plans a job."""

    data: Any
    prompt: str | None
    model: str | None
    out: str | os.PathLike[str] | None
    settings: Settings


@speaking_python()
def prepared_call(
    arguments: Arguments, stop_request: StopRequest | None = None, *, runs: Path | None = None
) -> PreparedCall:
    """Return what a call describes. Rows in memory are written to a temporary file. Raises `UsageError`.

    `data` is a path, a `Job`, a `Run` to go on with, or rows in memory. The settings are checked before the rows are
    read, and `stop_request` before each of them. `runs` is the folder for a run over rows in memory without `out`; None
    for the default.
    """
    data, prompt, model, out, settings = msgspec.structs.astuple(arguments)
    options, progress = start_options(settings), settings.get("progress")
    keywords: JobKeywords = settings
    given = [name for name, value in (("prompt", prompt), ("model", model), ("out", out)) if value is not None]
    if isinstance(data, Run):
        if given:
            raise JobError(f"{given[0]}: the run says this, and goes on with it; for another run, give the rows")
        return resumed_call(data, settings)
    if isinstance(data, Job):
        given += keywords.keys() & JobKeywords.__annotations__.keys()
        if given:
            raise JobError(f"{given[0]}: the Job says this; give it to bm.Job(…)")
        return PreparedCall(data.checked, options, progress, RunStatus(), data.answer_class)
    if isinstance(data, str | os.PathLike):
        _check_is_path(os.fspath(data))
        job = checked_job(data, prompt, model, out, keywords)
        return PreparedCall(job, options, progress, RunStatus(), answer_class(settings))
    job, rows = _with_rows(arguments, stop_request or StopRequest(), runs)
    options = msgspec.structs.replace(options, rows=rows)
    return PreparedCall(job, options, progress, RunStatus(), answer_class(settings))


def _with_rows(arguments: Arguments, stop_request: StopRequest, runs: Path | None) -> tuple[CheckedJob, BinaryIO]:
    """Return the job over rows in memory, and the rows in a temporary file. See `prepared_call`."""
    data, prompt, model, out, settings = msgspec.structs.astuple(arguments)
    keywords: JobKeywords = settings
    job = checked_job(f"{MEMORY}jsonl", prompt, model, out, cast("JobKeywords", {"name": _NAME, **keywords}))
    if out is not None and "name" not in keywords:
        named = cast("JobKeywords", {**keywords, "name": Path(job.output.path).resolve().name})
        job = checked_job(f"{MEMORY}jsonl", prompt, model, out, named)
    is_default = out is None and "path" not in keywords.get("output", {})
    folder = runs / job.name if is_default and runs else Path(job.output.path)
    beside = Path(tempfile.gettempdir()) if is_remote(job.output.path) else _existing(folder.parent)
    rows = memory_rows(data, beside, name_of_text(job.input), stop_request)
    try:
        if not rows.rows:
            raise InputError("data: there are no rows in it")
        job = _with_input(job, f"{MEMORY}{rows.format}")
        if is_default:
            job = _with_output(job, folder.with_name(f"{folder.name}-{_digest(job, rows.digest)}"))
    except BaseException:
        rows.file.close()
        raise
    return job, rows.file


async def prepared_beside(arguments: Arguments) -> PreparedCall:
    """Do what `prepared_call` does, in a thread, without blocking the event loop. Cancelling stops it."""
    return await Worker(functools.partial(prepared_call, arguments)).wait_async()


def _check_is_path(path: str) -> None:
    """Raise `InputError` for a text that is no path, such as a prompt."""
    words = clean(path, 60)
    exists = os.path.exists(path)  # noqa: PTH110 - `Path.exists` may raise
    if len(path.split()) > 1 and not exists and not glob.has_magic(path):
        raise InputError(f"data: there is no file {words!r}; rows are a list, as in bm.run([{words!r}], …)")


def _existing(folder: Path) -> Path:
    """Return the folder, or its nearest parent that exists."""
    return next(path for path in (folder, *folder.parents) if os.path.isdir(path))  # noqa: PTH112 - `Path.is_dir` may raise


def _with_input(job: CheckedJob, path: str) -> CheckedJob:
    return msgspec.structs.replace(job, input=msgspec.structs.replace(job.input, path=path))


def _with_output(job: CheckedJob, folder: Path) -> CheckedJob:
    return msgspec.structs.replace(job, output=msgspec.structs.replace(job.output, path=str(folder)))


def _digest(job: CheckedJob, rows: str) -> str:
    """Return a digest of the rows and of all that their answers depend on."""
    public = job.public()
    parts = [rows, *(public[name] for name in ("input", "params", "samples")), public["provider"]["base_url"]]
    parts += [[model["id"], model["name"], model["params"]] for model in public["models"]]
    if job.answer:
        parts.append([job.answer.schema, job.answer.send])
    encoded = msgspec.json.encode(parts, order="deterministic")
    return hashlib.sha256(encoded).hexdigest()[:_DIGITS]


def finished(call: PreparedCall) -> Run:
    """Run in a thread, and wait for the end. Raises what `run_job` raises, and `JobError`."""
    return done_in_thread(_work(call))


def begin(call: PreparedCall, results: ResultQueue | None = None) -> Worker[Run]:
    """Start a run in a thread; return the worker to wait for. `results` gets each result. Raises `JobError`."""
    return Worker(_work(call, results))


@speaking_python()
def _work(call: PreparedCall, results: ResultQueue | None = None) -> Callable[[StopRequest], Run]:
    copy = contextlib.ExitStack()
    try:
        check_threads()  # here too, where the rows are closed
        where = call.job.output.path
        call = msgspec.structs.replace(call, job=copy.enter_context(local_output(call.job)), where=where, copy=copy)
        secrets = read_secrets(call.job.provider, os.environ)
        evaluation = None
        if call.job.eval:
            from batchmix.verdict.outcome import evaluation_of  # not at the top: most runs are not evaluated

            evaluation = evaluation_of(Path(call.job.output.path), call.job, secrets, call.options)
    except BaseException:
        call.discard()
        copy.close()
        raise
    return functools.partial(_execute, call, secrets, evaluation, results)


@speaking_python()
def _execute(
    call: PreparedCall,
    secrets: Secrets,
    evaluation: PreparedEvaluation | None,
    results: ResultQueue | None,
    stop_request: StopRequest,
) -> Run:
    """Run the job, and evaluate it if it says how. An error that ended a run that had begun has the run."""
    job = call.job
    run = Run(Path(job.output.path), job, call.answer_class)
    try:
        with call.copy:
            view = _sent(call, secrets, results, stop_request)
            if call.options.canary:
                run.forecast = forecast(view, job)
            elif evaluation is not None:
                run.evaluation = scored(evaluation, stop_request)
        return run
    except UsageError:
        raise
    except BatchmixError as error:
        raise error.reworded(functools.partial(how_to_go_on, error, call.where)).of_run(run) from error.__cause__
    finally:
        run.warnings = tuple(call.run_status.warnings)
        if is_remote(call.where):
            with contextlib.suppress(BatchmixError):  # then the copy in which the run has worked is still there
                run.read_from(call.where)


def scored(evaluation: PreparedEvaluation, stop_request: StopRequest) -> Evaluation:
    """Evaluate a run. Another thread can stop the judges through `stop_request`."""
    from batchmix.verdict.outcome import evaluated

    options = msgspec.structs.replace(evaluation.context.options, stop_request=stop_request)
    context = msgspec.structs.replace(evaluation.context, options=options)
    return evaluated(msgspec.structs.replace(evaluation, context=context))


def _sent(call: PreparedCall, secrets: Secrets, results: ResultQueue | None, stop_request: StopRequest) -> View:
    options = msgspec.structs.replace(call.options, results=results, stop_request=stop_request)
    try:
        return run_job(call.job, secrets, options, call.run_status)
    finally:
        call.discard()
        if results is not None:
            results.close()
        for warning in call.run_status.warnings:
            _logger.warning("%s", warning)


@speaking_python()
def resumed_call(run: Run, settings: Settings) -> PreparedCall:
    """Return the call that goes on with a run. Its job has the secrets that its folder lacks. Raises `UsageError`."""
    known = {} if run._job is None else job_settings(run._job)
    for table in ("input", "output"):
        known.get(table, {}).pop("path", None)  # those are the folder's
    known = merge_settings([known, changed_settings(settings)])
    job, options = resumed(run.folder, known, start_options(settings))
    if run.url is not None:
        job = with_output(job, run.url)
    given = answer_class(settings, run._answer_class)
    return PreparedCall(job, options, settings.get("progress"), RunStatus(), given)
