"""The command `batchmix status`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from batchmix.cli.options import LocalPath, RunFolder, verbose_option
from batchmix.cli.output import echo, echo_json, log_to_stderr


@click.command("status")
@click.argument("folder", metavar="RUN|NAME", type=RunFolder())
@click.option(
    "--root",
    default="runs",
    show_default=True,
    metavar="DIR",
    type=LocalPath(),
    help="The folder with the runs of the job NAME.",
)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@verbose_option
def command(folder: Path, *, root: Path, as_json: bool, verbose: int) -> int:
    """Show the state of a run, even while it runs. For the name of a job, show its past runs and their scores.

    Lists requests that may have been billed twice: they were sent, but brought no response, or one with neither an
    answer nor its usage. The exit code is 1 if parts are damaged or missing.

    \b
    Examples:
      batchmix status runs/quickstart
      batchmix status nightly --root runs
    """
    log_to_stderr(verbose)
    if not folder.exists() and _past(str(folder), root, as_json=as_json):
        return 0
    from batchmix.engine import reader

    if not folder.exists():
        raise reader.no_run(folder, root)
    from batchmix.engine.chain import read_chain

    if read_chain(folder):
        from batchmix.cli.chain import show_chain

        return show_chain(folder, as_json=as_json)
    view = reader.look(folder)
    from batchmix.verdict.pinned import is_pinned

    pinned = is_pinned(folder, view.run.name)
    if as_json:
        echo_json(_record(view) | {"pinned": pinned})
        return 1 if view.lost else 0
    from batchmix.cli.summary import state_lines, summary_row

    for line in state_lines(view):
        echo(line)
    if pinned:
        echo(summary_row("baseline", "pinned: later runs of the job are compared with it"))
    return 1 if view.lost else 0


def _past(name: str, root: Path, *, as_json: bool) -> bool:
    """Show the past runs of a job, and return whether there are any."""
    from batchmix.cli.past_runs import past_lines, past_record
    from batchmix.verdict.history import past_runs

    past = past_runs(root, name)
    if past and as_json:
        echo_json(past_record(past))
    elif past:
        for line in past_lines(past):
            echo(line)
    return bool(past)


def _record(view: Any) -> dict[str, Any]:
    from batchmix.cli.summary import progress_of_models, time_left

    starts, models = view.run.starts, progress_of_models(view)
    at_work = view.holder is not None
    return {
        **view.summary(),
        "running": view.holder is not None,
        "holder": view.holder,
        "answers_per_s": view.answers_per_s,
        "left_s": time_left(view, models) if at_work else None,
        "speeds": view.speeds or {},
        "limited_by": starts[-1].limited_now if at_work and starts else {},
        "in_flight": [_named(key) for key in view.in_flight],
        "maybe_billed_requests": [_named(key) for key in view.maybe_billed],
        "damage": view.damage,
        "starts": len(starts),
        "last_exit_code": starts[-1].exit_code if starts else None,
        "last_reason": starts[-1].reason if starts else "",
    }


def _named(key: tuple[int, str, int]) -> dict[str, Any]:
    return {"row": key[0], "model": key[1], "sample": key[2]}
