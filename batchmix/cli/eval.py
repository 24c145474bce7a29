"""The command `batchmix eval`."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from batchmix.cli.options import LocalPath, OneOf, RunFolder, verbose_option
from batchmix.cli.output import echo, echo_error, echo_json, hide_secrets, log_to_stderr
from batchmix.cli.tables import cell
from batchmix.cli.ways_out import WaysOut, checked_ways_out, ways_out_options
from batchmix.engine import signals
from batchmix.errors import Interrupted, Stopped
from batchmix.job import merge_settings, parse_setting, read_job, single

if TYPE_CHECKING:
    from batchmix.verdict.outcome import Evaluation, PreparedEvaluation


@click.command("eval")
@click.argument("folder", metavar="RUN", type=RunFolder(writes=True))
@click.argument("job_file", metavar="[JOB.toml]", required=False, type=LocalPath())
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Override any setting of the job file.")
@click.option(
    "--progress",
    type=OneOf(["auto", "bar", "log", "none"]),
    default="auto",
    show_default=True,
    help="Show the progress of judges as a bar, as a line every 30 s, or not at all.",
)
@click.option("--retry-rejected", is_flag=True, help="Ask judges again where the provider rejected the request.")
@click.option("--keep-going", is_flag=True, help="Continue even if a judge's first answers are all unusable.")
@click.option("--json", "as_json", is_flag=True, help="Print the metrics as JSON.")
@ways_out_options
@verbose_option
def command(folder: Path, job_file: Path | None, settings: tuple[str, ...], **options: Any) -> int:
    """Score the answers of a run and show the metrics; no row is sent again.

    Requests are only sent to judges, for answers that they have not judged yet, and with --retry-rejected also where
    the provider rejected the request.

    The scorers are those of the job file, or else of the run's own job. Scores are written to
    RUN/evaluation/scores.parquet, metrics to RUN/evaluation/metrics.json.

    \b
    Example:
      batchmix eval runs/nightly jobs/nightly.toml
    """
    log_to_stderr(options["verbose"])
    from batchmix.engine.prepare import Options
    from batchmix.verdict.outcome import prepared_evaluation

    ways_out = checked_ways_out(options)
    given = merge_settings(map(parse_setting, settings))
    other = single(read_job(job_file, given)) if job_file else None
    judging = Options(retry_rejected=options["retry_rejected"], keep_going=options["keep_going"])
    prepared = prepared_evaluation(folder, other, given, os.environ, judging)
    hide_secrets(prepared.context.secrets)
    evaluation = run_evaluation(prepared, options["progress"], ways_out)
    ways_out.evaluated(evaluation)
    if options["as_json"]:
        echo_json(evaluation_record(evaluation))
    elif not ways_out.prints:
        for line in evaluation_lines(evaluation):
            echo(line)
    return evaluation_code(evaluation)


def run_evaluation(prepared: PreparedEvaluation, progress: str, ways_out: WaysOut) -> Evaluation:
    """Evaluate a run and show the progress of its judges. If that is stopped, `ways_out` say so."""
    from batchmix.progress.shown import progress_shown, terminal_mode
    from batchmix.verdict.outcome import evaluated

    mode = terminal_mode(progress) if prepared.sends else "none"
    try:
        with progress_shown(prepared.context.run_status, mode), signals.signals_as_errors():
            return evaluated(prepared)
    except (Stopped, Interrupted) as error:
        from batchmix.reports.checks import stopped_check

        ways_out.without_evaluation(prepared.folder, stopped_check(f"the evaluation stopped early: {error}"))
        echo_error("the run itself is complete; the same command resumes its evaluation")
        raise


def evaluation_lines(evaluation: Evaluation) -> list[str]:
    """Return an evaluation as lines of text."""
    from batchmix.cli.diff_lines import alarm_lines, diff_lines
    from batchmix.cli.tables import metrics_lines

    diff, baseline = evaluation.diff, evaluation.baseline
    lines = metrics_lines(evaluation.metrics)
    if baseline is not None:
        lines += ["", cell(baseline.shown, 500)]
    if diff:
        lines += ["", *diff_lines(diff, [])]
    lines += alarm_lines([alarm for alarm in evaluation.alarms if diff is None or alarm not in diff.alarms])
    if evaluation.may_be_accepted:
        accept = shlex.join(["batchmix", "baseline", str(evaluation.folder)])
        lines.append(f"it alarms until it is over; if it is meant to stay, accept it: {accept}")
    return lines


def evaluation_record(evaluation: Evaluation) -> dict[str, Any]:
    """Return an evaluation for `--json`."""
    from batchmix.cli.diff import diff_record

    whole: dict[str, Any] = msgspec.to_builtins(evaluation.metrics, str_keys=True)
    compared = diff_record(evaluation.diff) if evaluation.diff else None
    verdict: dict[str, Any] = msgspec.to_builtins(evaluation.verdict)
    chosen = {key: verdict[key] for key in ("passed", "alarms", "against", "baseline", "trends", "dataset", "prompt")}
    return whole | {"missed": list(evaluation.missed), **chosen, "diff": compared}


def evaluation_code(evaluation: Evaluation) -> int:
    """Return the exit code: 1 if there is an alarm, else 0."""
    return 0 if evaluation.passed else 1
