"""The command `batchmix schedule`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from batchmix.cli.options import LocalPath, OneOf, verbose_option
from batchmix.cli.output import echo_error, echo_raw, log_to_stderr
from batchmix.errors import UsageError
from batchmix.schedule.units import UnitFormat


@click.command("schedule")
@click.argument("paths", metavar="JOB.toml...", nargs=-1, required=True, type=LocalPath())
@click.option("--once", is_flag=True, help="Run the jobs that are due, then exit.")
@click.option("--state", type=LocalPath(), metavar="DIR", default=Path("runs/schedule"),
              show_default=True, help="The folder with the time of the last run, a file for each job.")  # fmt: skip
@click.option("--print", "printed", type=OneOf([unit_format.value for unit_format in UnitFormat]),
              help="Print the configuration for another scheduler, and run nothing.")  # fmt: skip
@verbose_option
def command(paths: tuple[Path, ...], **options: Any) -> int:
    """Run jobs on their schedules, the [schedule] table of each.

    Stays in the foreground until it is interrupted. Of missed runs only the latest is made up; a run that was killed
    is resumed.

    \b
    Examples:
      batchmix schedule jobs/nightly/*.toml
      batchmix schedule jobs/nightly/capitals.toml --once
      batchmix schedule jobs/nightly/capitals.toml --print systemd

    Exit codes: 130 and 143 interrupted, after draining; with --once the highest of its runs (see batchmix run).
    """
    log_to_stderr(options["verbose"])
    from batchmix.schedule.job_runner import SchedulerOptions
    from batchmix.schedule.jobs import schedulable, scheduled_jobs
    from batchmix.schedule.runner import run_schedule
    from batchmix.schedule.units import UnitPaths, unit

    state = options["state"].absolute()
    if options["printed"]:
        unit_paths = UnitPaths(Path.cwd(), state)
        units = [unit(UnitFormat(options["printed"]), job, unit_paths) for job in scheduled_jobs(list(paths))]
        echo_raw("\n".join(units))
        return 0
    for found in schedulable(list(paths)):
        if not isinstance(found, UsageError) and not found.has_folder_per_run:
            echo_error(f"{found.path}: output.path has no {{date}}: each run sends only what is new since the last")
    return run_schedule(paths, SchedulerOptions(state, once=options["once"], report=_log))


def _log(text: str) -> None:
    echo_error(f"{time.strftime('%Y-%m-%d %H:%M:%S %z')} {text}")
