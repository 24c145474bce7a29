"""`batchmix eval`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from batchmix.cli.options import Choice, LocalPath, verbose_option
from batchmix.cli.output import complain, keep_secret, log_to_stderr, say, say_json
from batchmix.engine import signals
from batchmix.engine.status import RunStatus
from batchmix.errors import Interrupted, JobError, Stopped
from batchmix.job import Job, merge_settings, parse_setting, read_job
from batchmix.job.eval_table import Eval, Judge
from batchmix.job.secrets import read_secrets
from batchmix.redact import Secrets

if TYPE_CHECKING:
    from batchmix.evaluate.judge import Asking
    from batchmix.evaluate.measure import Metrics
    from batchmix.evaluate.scoring import Asked


@click.command("eval")
@click.argument("folder", metavar="RUN", type=LocalPath())
@click.argument("job_file", metavar="[JOB.toml]", required=False, type=LocalPath())
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Override any setting of the job file.")
@click.option(
    "--progress",
    type=Choice(["auto", "bar", "log", "none"]),
    default="auto",
    show_default=True,
    help="How to show that a judge is asked: a bar, a line every 30 s, or nothing.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the metrics as JSON.")
@verbose_option
def command(folder: Path, job_file: Path | None, settings: tuple[str, ...], **options: Any) -> int:
    """Score the answers that a run has, and show the metrics; no row is asked again.

    Only judges are asked, for answers that they have not judged yet.

    The scorers are those of the job file, or else of the job that the run was made by. Scores stand in
    RUN/evaluation/scores.parquet, metrics in RUN/evaluation/metrics.json.

    \b
    Example:
      batchmix eval runs/nightly jobs/nightly.toml
    """
    log_to_stderr(options["verbose"])
    from batchmix.engine import reader
    from batchmix.evaluate.evaluation import prepared
    from batchmix.evaluate.judge import Asking

    made_by = reader.job_of(folder)
    given = read_job(job_file, merge_settings([parse_setting(setting) for setting in settings])) if job_file else None
    job = _asked(made_by, given)
    scorers = prepared(job, job_file.parent if job_file else None)
    judged = any(score is None for _, score in scorers)
    secrets = read_secrets(job.provider, os.environ) if judged else Secrets()
    keep_secret(secrets)
    conclusion = evaluated(folder, Asking(job, secrets, RunStatus()), scorers, options["progress"])
    if options["as_json"]:
        say_json(conclusion.record)
    else:
        for line in conclusion.lines:
            say(line)
    return conclusion.exit_code


class Conclusion(msgspec.Struct, frozen=True):
    """What an evaluation comes to: for a person, for a script, and as an exit code."""

    lines: list[str]
    record: dict[str, Any]
    exit_code: int
    """1 where a threshold is missed, or a guarded metric is significantly worse."""


def evaluated(root: Path, asking: Asking, scorers: list[Asked], progress: str) -> Conclusion:
    """Evaluate a run, show how its judges get on, and return what it comes to."""
    from batchmix.cli.progress import shown
    from batchmix.evaluate.evaluation import evaluate

    judged = any(score is None for _, score in scorers)
    try:
        with shown(asking.run_status, progress if judged else "none"), signals.signals_as_errors():
            metrics = evaluate(root, asking, scorers)
    except (Stopped, Interrupted):
        complain("the run itself is whole; the same command goes on with its evaluation")
        raise
    return _concluded(root, asking.job, metrics)


def _concluded(root: Path, job: Job, metrics: Metrics) -> Conclusion:
    """Return what a run's metrics come to, compared with the run that the job names, and add them to the history."""
    from batchmix.cli.diff import record
    from batchmix.cli.diff_lines import diff_lines, missed_lines
    from batchmix.cli.tables import metrics_lines
    from batchmix.evaluate.comparison import diff
    from batchmix.evaluate.evaluation import against
    from batchmix.evaluate.guards import missed
    from batchmix.evaluate.history import write_history
    from batchmix.store.filesystem import PRIVATE

    write_history(root.resolve().parent, PRIVATE if job.output.permissions is None else job.output.permissions)
    baseline = against(root, job)
    compared = diff(baseline, root) if baseline else None
    misses = missed(metrics)
    whole = msgspec.to_builtins(metrics, str_keys=True)
    return Conclusion(
        lines=metrics_lines(metrics) + (["", *diff_lines(compared, [])] if compared else missed_lines(misses)),
        record=whole | {"missed": misses, "diff": record(compared) if compared else None},
        exit_code=1 if misses or (compared is not None and compared.worse) else 0,
    )


def _asked(made_by: Job, given: Job | None) -> Job:
    """Return the job of a run, evaluated as another job file says."""
    if given is None:
        if made_by.provider.headers and any(isinstance(scorer, Judge) for scorer in (made_by.eval or Eval()).scorers):
            raise JobError("the job sends headers of its own, which no run folder keeps; give the job file")
        return made_by
    taken = {name: getattr(given, name) for name in ("eval", "provider", "limits", "retry", "timeouts", "prices")}
    return msgspec.structs.replace(made_by, **taken)
