"""`batchmix eval`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec

from batchmix.cli.options import verbose_option
from batchmix.cli.output import log_to_stderr, say, say_json
from batchmix.job import Job, merge_settings, parse_setting, read_job


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
    from batchmix.cli.tables import metrics_lines
    from batchmix.evaluate.evaluation import evaluate, prepared

    made_by = reading.job_of(folder)
    given = read_job(job_file, merge_settings([parse_setting(setting) for setting in settings])) if job_file else None
    job = _evaluated(made_by, given)
    found = evaluate(folder, job, prepared(job, job_file.parent if job_file else None))
    if options["as_json"]:
        say_json(msgspec.to_builtins(found, str_keys=True))
    else:
        for line in metrics_lines(found):
            say(line)
    return 0


def _evaluated(made_by: Job, given: Job | None) -> Job:
    return made_by if given is None else msgspec.structs.replace(made_by, eval=given.eval, provider=given.provider)
