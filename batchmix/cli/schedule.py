"""`batchmix schedule`."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import click

from batchmix.cli.options import Choice, LocalPath, verbose_option
from batchmix.cli.output import complain, log_to_stderr, say_exactly
from batchmix.job.secrets import read_secrets
from batchmix.schedule.units import Kind


@click.command("schedule")
@click.argument("paths", metavar="JOB.toml...", nargs=-1, required=True, type=LocalPath())
@click.option("--once", is_flag=True, help="Run what is due, then end.")
@click.option("--state", type=LocalPath(), metavar="DIR", default=Path("runs/schedule"),
              show_default=True, help="The folder that says what ran when, a file for each job.")  # fmt: skip
@click.option("--print", "printed", type=Choice([kind.value for kind in Kind]),
              help="Print what another scheduler needs to call it, and run nothing.")  # fmt: skip
@verbose_option
def command(paths: tuple[Path, ...], **options: Any) -> int:
    """Run jobs by themselves, by the [schedule] of each.

    It stays in the foreground until it is interrupted. A night that was missed is made up, the latest only; a run
    that was killed goes on where it was.

    \b
    Examples:
      batchmix schedule jobs/nightly/*.toml
      batchmix schedule jobs/nightly/capitals.toml --once
      batchmix schedule jobs/nightly/capitals.toml --print systemd

    Exit codes: 130 and 143 interrupted, after draining; with --once the highest of its runs (see batchmix run).
    """
    log_to_stderr(options["verbose"])
    from batchmix.schedule.jobs import scheduled_jobs
    from batchmix.schedule.runner import Way, keep
    from batchmix.schedule.units import Place, unit

    state = options["state"].absolute()
    if options["printed"]:
        place = Place(Path.cwd(), state)
        units = [unit(Kind(options["printed"]), job, place) for job in scheduled_jobs(list(paths))]
        say_exactly("\n".join(units))
        return 0
    jobs = scheduled_jobs(list(paths))
    for scheduled in jobs:
        read_secrets(scheduled.job.provider, os.environ)
    for scheduled in jobs:
        if not scheduled.folder_for_each_night:
            complain(f"{scheduled.path}: output.path has no {{date}}: each night only asks what is new since the last")
    return keep(jobs, Way(state, once=options["once"], say=_say))


def _say(text: str) -> None:
    complain(f"{time.strftime('%Y-%m-%d %H:%M:%S %z')} {text}")
