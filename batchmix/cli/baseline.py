"""The command `batchmix baseline`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from batchmix.cli.options import LocalPath, verbose_option
from batchmix.cli.output import echo, echo_error, log_to_stderr
from batchmix.errors import RunError


@click.command("baseline")
@click.argument("folder", metavar="RUN", type=LocalPath())
@click.option("--clear", is_flag=True, help="Take the pin off the job of this run.")
@verbose_option
def command(folder: Path, **options: Any) -> int:
    """Pin a run as the baseline of its job: its later runs are compared with this one, until one is better.

    This accepts the level of a run, such as after a change that was meant. The pin is kept in baselines.json, beside
    the run folders. It goes before the earlier run that eval.against would choose, but not before one that it names.
    Once a good run is significantly better than the pinned one, eval.against chooses again, from that run on.

    \b
    Examples:
      batchmix baseline runs/nightly-2026-11-23
      batchmix baseline runs/nightly-2026-11-23 --clear
    """
    log_to_stderr(options["verbose"])
    from batchmix.verdict.pinned import pin, pinned_jobs, read_pins

    root = folder.resolve().parent
    if options["clear"]:
        name = _name_of(folder, pinned_jobs(root))
        before = pin(root, name, None) if read_pins(root, name).pinned is not None else None
        echo(f"{name}: {before} is no longer the pinned baseline" if before else f"{name}: no run was pinned")
        return 0
    from batchmix.engine import reader
    from batchmix.evaluation.measure import read_metrics
    from batchmix.store.run_folder import Layout

    job, run, metrics = reader.job_of(folder), reader.run_of(folder), read_metrics(Layout(folder))
    before = pin(root, run.name, folder.resolve().name, Layout(folder, mode=job.output.permissions).file_mode)
    if run.is_try or not metrics.complete:
        echo_error(f"warning: {folder} has not every result of the job, so few rows can be compared with it")
    instead = f" in place of {before}" if before not in {None, folder.resolve().name} else ""
    echo(f"{run.name}: {folder.resolve().name} is the pinned baseline{instead}")
    return 0


def _name_of(folder: Path, pinned: dict[str, str]) -> str:
    """Return the name of the job of a run, which may be gone if it is a pinned one. Raises `RunError`."""
    from batchmix.engine import reader

    for name, run in pinned.items():
        if run == folder.resolve().name:
            return name
    try:
        return reader.run_of(folder).name
    except RunError as error:
        known = ", ".join(pinned.values())
        raise RunError(f"{error}; {f'pinned here: {known}' if known else 'no run is pinned here'}") from error
