"""`batchmix run`."""

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

from batchmix.cli.confirm import says_yes
from batchmix.cli.options import Choice, job_from, job_options, verbose_option
from batchmix.cli.output import complain, keep_secret, log_to_stderr, say, say_json
from batchmix.engine.status import RunStatus
from batchmix.errors import BatchmixError, BudgetSpent, JobRefused, PartDamaged, Stopped, UsageError
from batchmix.http.proxies import is_loopback
from batchmix.job import Job
from batchmix.job.masking import shown_call
from batchmix.job.secrets import read_secrets
from batchmix.redact import Secrets

if TYPE_CHECKING:
    from batchmix.cli.eval import Conclusion
    from batchmix.engine.run import Options
    from batchmix.evaluate.scoring import Asked
    from batchmix.store.view import View


@click.command("run")
@job_options
@click.option("--update", is_flag=True, help="Ask again, or drop answers, where the job or its input has changed.")
@click.option("--retry-rejected", is_flag=True, help="Ask again for rows that the provider rejected.")
@click.option(
    "--models", metavar="NAME,…", default="", help="Ask only these models of the job, such as one that was stopped."
)
@click.option("--keep-going", is_flag=True, help="Go on although the first rows are all refused for the same reason.")
@click.option(
    "--canary", type=click.IntRange(min=1), metavar="N", help="Send N rows first, and say what the rest will cost."
)
@click.option("--yes", is_flag=True, help="Go on after the canary without being asked.")
@click.option("--progress", type=Choice(["auto", "bar", "log", "none"]), default="auto", show_default=True,
              help="A bar, a line every 30 s, or nothing.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.option("--scheduled", is_flag=True, hidden=True)
@verbose_option
def command(source: str, settings: tuple[str, ...], **options: Any) -> int:
    """Run a job, or go on with it.

    The same command resumes a run that was stopped or killed: what has an answer is never asked again.

    \b
    Examples:
      batchmix run jobs/quickstart.toml
      batchmix run prompts.jsonl --model gpt-4o-mini --out runs/first
      batchmix run job.toml --limit 100 --set params.temperature=0.5
      batchmix run job.toml --canary 50

    Exit codes: 0 all answered, 1 some rows failed or the evaluation did, 2 nothing was sent, 3 stopped early (the same
    command resumes, once the cause is mended), 130 and 143 interrupted (the same command resumes).
    """
    log_to_stderr(options["verbose"])
    if options["scheduled"]:
        _drain_when_stdin_ends()
    job = job_from(source, settings, options)
    secrets = read_secrets(job.provider, os.environ)
    keep_secret(secrets)
    _warn_of_plain_http(job.provider.base_url)
    from batchmix.cli.progress import shown
    from batchmix.engine.run import exit_code, run_job

    scorers = _scorers(job, source)
    stopped: BatchmixError | None = None
    asked = _asked(options)
    if options["canary"] and not _canary_goes_on(job, asked, options):
        return Stopped.exit_code
    run_status = RunStatus()
    began = time.monotonic()
    view: View | None
    with shown(run_status, options["progress"]):
        try:
            view = run_job(job, secrets, asked, run_status)
        except UsageError:
            raise
        except BatchmixError as error:
            stopped, view = error, _what_is_there(Path(job.output.path))
    for warning in run_status.warnings:
        complain(warning)
    if not options["as_json"]:
        _say_how_it_stands(view, run_status, time.monotonic() - began)
    conclusion = _evaluated(job, secrets, scorers, options["progress"]) if stopped is None else None
    if options["as_json"] and view is not None:
        say_json(view.summary() | ({"evaluation": conclusion.record} if conclusion else {}))
    elif conclusion:
        say("\n".join(["", *conclusion.lines]))
    if stopped is None and view is not None:
        return max(exit_code(view), conclusion.exit_code if conclusion else 0)
    assert stopped is not None
    complain(f"{stopped}\n{_how_to_go_on(stopped)}: {_same_command()}")
    return stopped.exit_code


def _what_is_there(folder: Path) -> View | None:
    """Return how a run stands that was stopped, or None where it had not begun."""
    from batchmix.engine import reader

    with contextlib.suppress(BatchmixError, OSError):  # why it was stopped is what counts
        return reader.look(folder)
    return None


def _say_how_it_stands(view: View | None, run_status: RunStatus, elapsed_s: float) -> None:
    from batchmix.cli.summary import closing_lines

    for line in closing_lines(view, run_status, elapsed_s) if view else ():
        say(line)


def _asked(options: dict[str, Any]) -> Options:
    from batchmix.engine.run import Options

    return Options(
        limit=options["limit"],
        update=options["update"],
        retry_rejected=options["retry_rejected"],
        reject_bad_rows=options["bad_rows"] == "reject",
        keep_going=options["keep_going"],
        models=tuple(name.strip() for name in options["models"].split(",") if name.strip()),
        wait=options["scheduled"],
    )


def _canary_goes_on(job: Job, asked: Options, options: dict[str, Any]) -> bool:
    """Send the canary, say what it says, and return whether the rest is to be sent too."""
    from batchmix.cli.canary import say_forecast, send_canary

    found = send_canary(job, asked, options["canary"], options["progress"])
    if not options["as_json"]:
        say_forecast(found)
    if options["yes"] or not found.requests:
        return True
    if says_yes("Send the rest?"):
        return True
    complain(f"the rest was not sent; to go on: {_same_command()} --yes")
    return False


def _drain_when_stdin_ends() -> None:
    """Take the end of standard input, which `batchmix schedule` holds open, for a SIGTERM: it was killed."""

    def watch() -> None:
        while os.read(0, 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def _scorers(job: Job, source: str) -> list[Asked]:
    """Return what will score the answers; a mistake in it is found before anything is sent."""
    if job.eval is None:
        return []
    from batchmix.evaluate.evaluation import prepared

    return prepared(job, Path(source).parent if source.endswith(".toml") else None)


def _evaluated(job: Job, secrets: Secrets, scorers: list[Asked], progress: str) -> Conclusion | None:
    if job.eval is None:
        return None
    from batchmix.cli.eval import evaluated
    from batchmix.evaluate.judge import Asking

    return evaluated(Path(job.output.path), Asking(job, secrets, RunStatus()), scorers, progress)


def _how_to_go_on(stopped: BatchmixError) -> str:
    if isinstance(stopped, JobRefused | BudgetSpent):
        return "To go on, change that in the job or in this command, then give it again"
    if isinstance(stopped, PartDamaged):
        return "To go on, put a good copy back, or add --update to the command"
    return "To go on, give the same command again"


def _same_command() -> str:
    return shown_call(["batchmix", *(word for word in sys.argv[1:] if word != "--scheduled")])


def _warn_of_plain_http(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        complain("warning: the API key and all rows travel unencrypted: provider.base_url is plain http")
