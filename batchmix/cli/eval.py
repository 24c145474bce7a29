"""The command `batchmix eval`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from batchmix.cli.options import LocalPath, OneOf, verbose_option
from batchmix.cli.output import echo, echo_error, echo_json, hide_secrets, log_to_stderr
from batchmix.engine import signals
from batchmix.engine.run_status import RunStatus
from batchmix.errors import Interrupted, Stopped
from batchmix.job import CheckedJob, merge_settings, parse_setting, read_job
from batchmix.job.eval_table import Eval
from batchmix.job.secrets import read_secrets
from batchmix.redact import Secrets
from batchmix.scorers.kinds import Judge

if TYPE_CHECKING:
    from batchmix.evaluation.judge import JudgeContext
    from batchmix.evaluation.measure import Metrics
    from batchmix.evaluation.scoring import PreparedScorer


@click.command("eval")
@click.argument("folder", metavar="RUN", type=LocalPath())
@click.argument("job_file", metavar="[JOB.toml]", required=False, type=LocalPath())
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Override any setting of the job file.")
@click.option(
    "--progress",
    type=OneOf(["auto", "bar", "log", "none"]),
    default="auto",
    show_default=True,
    help="Show the progress of judges as a bar, as a line every 30 s, or not at all.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the metrics as JSON.")
@verbose_option
def command(folder: Path, job_file: Path | None, settings: tuple[str, ...], **options: Any) -> int:
    """Score the answers of a run and show the metrics; no row is sent again.

    Requests are only sent to judges, for answers that they have not judged yet.

    The scorers are those of the job file, or else of the run's own job. Scores are written to
    RUN/evaluation/scores.parquet, metrics to RUN/evaluation/metrics.json.

    \b
    Example:
      batchmix eval runs/nightly jobs/nightly.toml
    """
    log_to_stderr(options["verbose"])
    from batchmix.evaluation.evaluate_run import prepare_scorers
    from batchmix.evaluation.judge import JudgeContext

    job = _job_to_evaluate(folder, job_file, merge_settings(map(parse_setting, settings)))
    scorers = prepare_scorers(job)
    judged = any(score is None for _, score in scorers)
    secrets = read_secrets(job.provider, os.environ) if judged else Secrets()
    hide_secrets(secrets)
    outcome = run_evaluation(folder, JudgeContext(job, secrets, RunStatus()), scorers, options["progress"])
    if options["as_json"]:
        echo_json(outcome.record)
    else:
        for line in outcome.lines:
            echo(line)
    return outcome.exit_code


class EvalOutcome(msgspec.Struct, frozen=True):
    """The outcome of an evaluation in three forms: lines of text, a record for `--json`, and an exit code."""

    lines: list[str]
    record: dict[str, Any]
    exit_code: int
    """1 if a threshold is missed or a guarded metric is significantly worse, else 0."""


def run_evaluation(
    root: Path, judge_context: JudgeContext, scorers: list[PreparedScorer], progress: str
) -> EvalOutcome:
    """Evaluate a run and show the progress of its judges."""
    from batchmix.evaluation.evaluate_run import evaluate_run
    from batchmix.progress.shown import progress_shown, terminal_mode

    judged = any(score is None for _, score in scorers)
    try:
        mode = terminal_mode(progress) if judged else "none"
        with progress_shown(judge_context.run_status, mode), signals.signals_as_errors():
            metrics = evaluate_run(root, judge_context, scorers)
    except (Stopped, Interrupted):
        echo_error("the run itself is complete; the same command resumes its evaluation")
        raise
    return _outcome(root, judge_context.job, metrics)


def _outcome(root: Path, job: CheckedJob, metrics: Metrics) -> EvalOutcome:
    """Add a run's metrics to the history, and compare the run with the job's baseline, if there is one."""
    from batchmix.cli.diff import diff_record
    from batchmix.cli.diff_lines import diff_lines, missed_lines
    from batchmix.cli.tables import metrics_lines
    from batchmix.evaluation.comparison import compare_runs
    from batchmix.evaluation.evaluate_run import baseline_of
    from batchmix.evaluation.history import write_history
    from batchmix.evaluation.measure import missed_thresholds
    from batchmix.store.run_folder import Layout

    write_history(root.resolve().parent, Layout(root, mode=job.output.permissions).file_mode)
    baseline = baseline_of(root, job)
    compared = compare_runs(baseline, root) if baseline else None
    misses = missed_thresholds(metrics)
    whole = msgspec.to_builtins(metrics, str_keys=True)
    return EvalOutcome(
        lines=metrics_lines(metrics) + (["", *diff_lines(compared, [])] if compared else missed_lines(misses)),
        record=whole | {"missed": misses, "diff": diff_record(compared) if compared else None},
        exit_code=1 if misses or (compared is not None and compared.worse) else 0,
    )


def _job_to_evaluate(folder: Path, job_file: Path | None, settings: dict[str, Any]) -> CheckedJob:
    """Return the job of a run. A job file, if given, replaces the evaluation and the settings of the provider."""
    from batchmix.engine import reader
    from batchmix.engine.recorded_job import recorded_job

    original = reader.job_of(folder)
    if job_file is not None:
        given = read_job(job_file, settings)
        names = ("eval", "provider", "limits", "retry", "timeouts", "prices", "scorer_folder")
        return msgspec.structs.replace(original, **{name: getattr(given, name) for name in names})
    sends = any(isinstance(scorer, Judge) for scorer in (original.eval or Eval()).scorers)
    return recorded_job(folder, settings) if sends or settings else original
