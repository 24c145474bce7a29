"""The command `batchmix run`."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from batchmix.cli.confirm import confirmed
from batchmix.cli.eval import evaluation_code, evaluation_lines, evaluation_record, run_evaluation
from batchmix.cli.options import (
    job_from,
    job_options,
    output_options,
    sending_options,
    shown_local_output,
    verbose_option,
)
from batchmix.cli.output import echo, echo_error, echo_json, hide_secrets, log_to_stderr
from batchmix.cli.ways_out import WaysOut, checked_ways_out, ways_out_options
from batchmix.engine.run_status import RunStatus
from batchmix.errors import BatchmixError, BudgetSpent, JobRefused, PartDamaged, Stopped, UsageError
from batchmix.http.proxies import is_loopback
from batchmix.job import CheckedJob
from batchmix.job.masking import shown_call
from batchmix.job.secrets import read_secrets
from batchmix.redact import Secrets

if TYPE_CHECKING:
    from batchmix.engine.run import Options
    from batchmix.store.view import View
    from batchmix.verdict.outcome import Evaluation, PreparedEvaluation


_SIGNALLED = 128
"""The exit codes from here on are those of a run that was interrupted."""


@click.command("run")
@job_options
@sending_options
@click.option(
    "--canary", type=click.IntRange(min=1), metavar="N", help="Send N rows first, and forecast the cost of the rest."
)
@click.option("--yes", is_flag=True, help="Send the rest after the canary without confirmation.")
@output_options
@ways_out_options
@click.option("--scheduled", is_flag=True, hidden=True)
@verbose_option
def command(source: str, settings: tuple[str, ...], **options: Any) -> int:
    """Run a job, or resume it.

    The same command resumes a run that was stopped or killed; rows that have an answer are not sent again.

    \b
    Examples:
      batchmix run jobs/quickstart.toml
      batchmix run prompts.jsonl --model gpt-4o-mini --out runs/first
      batchmix run job.toml --limit 100 --set params.temperature=0.5
      batchmix run job.toml --canary 50

    Exit codes: 0 all answered, 1 some rows or the evaluation failed, 2 nothing was sent, 3 stopped early (once the
    cause is fixed, the same command resumes), 130 and 143 interrupted (the same command resumes).
    """
    log_to_stderr(options["verbose"])
    with shown_local_output(job_from(source, settings, options), wait=options["scheduled"]) as job:
        if job.steps:
            from batchmix.cli.chain import run_steps

            return run_steps(job, run_options_of(options), options)
        if options["scheduled"]:
            return _run_scheduled(job, options)
        return run_and_report(job, run_options_of(options), options)


def _run_scheduled(job: CheckedJob, options: dict[str, Any]) -> int:
    """Run a job for a scheduler, and write its report, also if the run or its evaluation was stopped."""
    _drain_when_stdin_ends()
    try:
        code = run_and_report(job, run_options_of(options), options)
    except Stopped:
        _write_report(Path(job.output.path))
        raise
    if code < _SIGNALLED:
        _write_report(Path(job.output.path))
    return code


def _write_report(folder: Path) -> None:
    """Write the report of a run, compared with its baseline if it has one, and renew the indexes that lead to it.

    If that fails, the run has not failed.
    """
    from batchmix.reports.index_page import renew_indexes
    from batchmix.reports.report_page import write_report
    from batchmix.store.run_folder import Layout
    from batchmix.verdict.verdict_file import read_verdict

    verdict = read_verdict(Layout(folder))
    try:
        write_report(folder, verdict.baseline.folder(folder) if verdict and verdict.baseline else None)
        renew_indexes(folder)
    except (BatchmixError, OSError) as error:
        echo_error(f"{folder}: the report could not be written: {error}")


def run_and_report(job: CheckedJob, run_options: Options, options: dict[str, Any]) -> int:
    """Run a job, show its progress, print its summary, and evaluate it. Return the exit code. Raises `UsageError`.

    `options` are those of the command line, such as `progress` and `as_json`.
    """
    ways_out = checked_ways_out(options)
    secrets = read_secrets(job.provider, os.environ)
    hide_secrets(secrets)
    _warn_of_plain_http(job.provider.base_url)
    from batchmix.engine.start_record import exit_code
    from batchmix.progress.shown import progress_shown, terminal_mode

    prepared = _prepared_evaluation(job, secrets, run_options)
    if options.get("canary") and not _canary_accepted(job, run_options, options):
        return Stopped.exit_code
    run_status = RunStatus()
    began = time.monotonic()
    with progress_shown(run_status, terminal_mode(options["progress"])):
        view, stopped = _run(job, secrets, run_options, run_status)
    for warning in run_status.warnings:
        echo_error(warning)
    told = options["as_json"] or ways_out.prints
    if not told:
        _print_summary(view, run_status, time.monotonic() - began)
    evaluation = None
    if prepared is not None and stopped is None:
        evaluation = run_evaluation(prepared, options["progress"], ways_out)
    _write_outcome(ways_out, Path(job.output.path), evaluation, view, stopped)
    if options["as_json"] and view is not None:
        echo_json(view.summary() | ({"evaluation": evaluation_record(evaluation)} if evaluation else {}))
    elif evaluation and not told:
        echo("\n".join(["", *evaluation_lines(evaluation)]))
    if stopped is None and view is not None:
        return max(exit_code(view), evaluation_code(evaluation) if evaluation else 0)
    assert stopped is not None
    echo_error(f"{stopped}\n{_how_to_resume(stopped)}: {_same_command()}")
    return stopped.exit_code


def _run(
    job: CheckedJob, secrets: Secrets, options: Options, run_status: RunStatus
) -> tuple[View | None, BatchmixError | None]:
    """Run a job. Return the content of its run folder, and the error that stopped it early. Raises `UsageError`."""
    from batchmix.engine.run import run_job

    try:
        return run_job(job, secrets, options, run_status), None
    except UsageError:
        raise
    except BatchmixError as error:
        return _current_view(Path(job.output.path)), error


def _current_view(folder: Path) -> View | None:
    """Return the state of a run that was stopped. None if the run can't be read, or had not begun."""
    from batchmix.engine import reader

    with contextlib.suppress(BatchmixError, OSError):  # the reason for the stop matters more
        return reader.look(folder)
    return None


def _print_summary(view: View | None, run_status: RunStatus, elapsed_s: float) -> None:
    from batchmix.cli.summary import closing_lines

    for line in closing_lines(view, run_status, elapsed_s) if view else ():
        echo(line)


def run_options_of(options: dict[str, Any]) -> Options:
    """Return the options of a start that a command line gives."""
    from batchmix.engine.run import Options

    return Options(
        limit=options["limit"],
        update=options["update"],
        retry_rejected=options["retry_rejected"],
        reject_bad_rows=options["bad_rows"] == "reject",
        keep_going=options["keep_going"],
        models=tuple(name.strip() for name in options["models"].split(",") if name.strip()),
        scheduled=options.get("scheduled", False),
    )


def _canary_accepted(job: CheckedJob, run_options: Options, options: dict[str, Any]) -> bool:
    """Send the canary, print its forecast, and return whether to send the rest."""
    from batchmix.cli.forecast import print_forecast, send_canary

    forecast = send_canary(job, run_options, options["canary"], options["progress"])
    if not options["as_json"]:
        print_forecast(forecast)
    if options["yes"] or not forecast.requests:
        return True
    if confirmed("Send the rest?"):
        return True
    echo_error(f"the rest was not sent; to send it: {_same_command()} --yes")
    return False


def _drain_when_stdin_ends() -> None:
    """Treat the end of standard input like SIGTERM.

    `batchmix schedule` keeps this input open, so its end means that the scheduler was killed.
    """

    def watch() -> None:
        while os.read(0, 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def _prepared_evaluation(job: CheckedJob, secrets: Secrets, options: Options) -> PreparedEvaluation | None:
    """Return the evaluation that follows the run. A mistake in it is found here, before any request is sent."""
    if job.eval is None:
        return None
    from batchmix.verdict.outcome import evaluation_of

    return evaluation_of(Path(job.output.path), job, secrets, options)


def _write_outcome(
    ways_out: WaysOut, folder: Path, evaluation: Evaluation | None, view: View | None, stopped: BatchmixError | None
) -> None:
    if ways_out.none:
        return
    from batchmix.reports.checks import answered_check, stopped_check

    if stopped is not None or view is None:
        ways_out.without_evaluation(folder, stopped_check(f"the run stopped early: {stopped}"))
        return
    answered = answered_check(view.asked - view.totals.as_asked)
    if evaluation is None:
        ways_out.without_evaluation(folder, answered)
    else:
        ways_out.evaluated(evaluation, [answered])


def _how_to_resume(stopped: BatchmixError) -> str:
    if isinstance(stopped, JobRefused | BudgetSpent):
        return "To resume, change that in the job or in this command, then run it again"
    if isinstance(stopped, PartDamaged):
        return "To resume, restore the part from a copy, or add --update to the command"
    return "To resume, run the same command again"


def _same_command() -> str:
    return shown_call(["batchmix", *(arg for arg in sys.argv[1:] if arg != "--scheduled")])


def _warn_of_plain_http(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        echo_error("warning: the API key and all rows travel unencrypted: provider.base_url is plain http")
