"""`batchmix eval`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from batchmix.cli.options import verbose_option
from batchmix.cli.output import log_to_stderr, say, say_json
from batchmix.job import Job, merge_settings, parse_setting, read_job

if TYPE_CHECKING:
    from batchmix.evaluate.measure import Metrics


@click.command("eval")
@click.argument("folder", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("job_file", metavar="[JOB.toml]", required=False, type=click.Path(path_type=Path))
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Override any setting of the job file.")
@click.option("--json", "as_json", is_flag=True, help="Print the metrics as JSON.")
@verbose_option
def command(folder: Path, job_file: Path | None, settings: tuple[str, ...], **options: Any) -> int:
    """Score the answers that a run has, and show the metrics; nothing is asked again.

    The scorers are those of the job file, or else of the job that the run was made by. Scores stand in
    RUN/evaluation/scores.parquet, metrics in RUN/evaluation/metrics.json.

    \b
    Example:
      batchmix eval runs/nightly jobs/nightly.toml
    """
    log_to_stderr(options["verbose"])
    from batchmix import reading
    from batchmix.evaluate.evaluation import evaluate, prepared

    made_by = reading.job_of(folder)
    given = read_job(job_file, merge_settings([parse_setting(setting) for setting in settings])) if job_file else None
    job = _evaluated(made_by, given)
    found = evaluate(folder, job, prepared(job, job_file.parent if job_file else None))
    conclusion = concluded(folder, job, found)
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


def concluded(root: Path, job: Job, metrics: Metrics) -> Conclusion:
    """Return what a run's metrics come to, compared with the run that the job names, and add them to the history."""
    from batchmix.cli.diff import record
    from batchmix.cli.differences import diff_lines, missed_lines
    from batchmix.cli.tables import metrics_lines
    from batchmix.evaluate.diff import diff
    from batchmix.evaluate.evaluation import against
    from batchmix.evaluate.guards import missed
    from batchmix.evaluate.history import write_history

    write_history(root.resolve().parent)
    baseline = against(root, job)
    compared = diff(baseline, root) if baseline else None
    misses = missed(metrics)
    whole = msgspec.to_builtins(metrics, str_keys=True)
    return Conclusion(
        lines=metrics_lines(metrics) + (["", *diff_lines(compared, [])] if compared else missed_lines(misses)),
        record=whole | {"missed": misses, "diff": record(compared) if compared else None},
        exit_code=1 if misses or (compared is not None and compared.worse) else 0,
    )


def _evaluated(made_by: Job, given: Job | None) -> Job:
    return made_by if given is None else msgspec.structs.replace(made_by, eval=given.eval, provider=given.provider)
