"""A job with steps, as `batchmix run`, `plan` and `status` show it."""

from __future__ import annotations

import os
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchmix.cli.output import echo, echo_error, echo_json, hide_secrets, shown_name
from batchmix.engine.run_status import RunStatus
from batchmix.errors import BatchmixError, JobError, UsageError
from batchmix.formats.amounts import counted, usd
from batchmix.job import CheckedJob
from batchmix.job.secrets import read_secrets
from batchmix.remote.objects import is_remote

if TYPE_CHECKING:
    from batchmix.engine.run import Options
    from batchmix.store.view import View

_NOT_FOR_STEPS = ("models", "canary", "junit", "markdown", "scheduled")


def refuse_for_steps(options: dict[str, Any]) -> None:
    """Raise `JobError` for an option that a job with steps can't have."""
    for name in _NOT_FOR_STEPS:
        if options.get(name):
            raise JobError(
                f"--{name}: a job with [[steps]] can't have it; give the folder of a step to batchmix resume"
            )


def run_steps(job: CheckedJob, run_options: Options, options: dict[str, Any]) -> int:
    """Run a job with steps, print the summary of each, and return the exit code."""
    from batchmix.engine.chain import run_chain
    from batchmix.engine.start_record import exit_code
    from batchmix.progress.shown import progress_shown, terminal_mode

    refuse_for_steps(options)
    secrets = read_secrets(job.provider, os.environ)
    hide_secrets(secrets)
    run_status, stopped = RunStatus(), None
    began = time.monotonic()
    with progress_shown(run_status, terminal_mode(options["progress"])):
        try:
            run_chain(job, secrets, run_options, run_status)
        except UsageError:
            raise
        except BatchmixError as error:
            stopped = error
    for warning in run_status.warnings:
        echo_error(warning)
    views = views_of_steps(Path(job.output.path))
    if options["as_json"]:
        echo_json(chain_record(job.name, views))
    else:
        _print(views, f"{time.monotonic() - began:.1f} s")
    if stopped is None:
        return max(exit_code(view) for view in views.values() if view)
    echo_error(f"{stopped}\nTo resume all steps: batchmix resume {shlex.quote(_shown(job.output.path))}")
    return stopped.exit_code


def _shown(folder: str) -> str:
    """Return the URL of a folder in object storage, or else its path from the working directory."""
    named = shown_name(folder)
    return named if is_remote(named) else os.path.relpath(folder)


def plan_steps(job: CheckedJob, run_options: Options, options: dict[str, Any]) -> int:
    """Show what a job with steps would send: exactly for the first step, and as an estimate for the others."""
    from batchmix.engine.chain_plan import chain_plan

    refuse_for_steps(options)
    steps = chain_plan(job, run_options)
    if options["as_json"]:
        echo_json({"name": job.name, "steps": [step.as_json() for step in steps]})
        return 0
    for step in steps:
        bounds = "unknown" if step.least_usd is None else f"{usd(step.least_usd)} and more"
        if step.least_usd is not None and step.most_usd is not None:
            bounds = f"{usd(step.least_usd)} to {usd(step.most_usd)}"
        echo(f"{step.name}: {'at most ' if step.is_estimate else ''}{counted(step.requests, 'request')} to send")
        echo(f"  tokens       about {step.prompt_tokens:,} in")
        echo(f"  cost         {bounds}{step.is_estimate * ', estimated from made-up answers'}")
    total = [step.most_usd for step in steps if step.most_usd is not None]
    if len(total) == len(steps):
        echo(f"{len(steps)} steps: at most about {usd(sum(total))}")
    return 0


def views_of_steps(folder: Path) -> dict[str, View | None]:
    """Return a view of each step of a chain, by name, in their order. None for a step that has not begun."""
    from batchmix.engine import reader
    from batchmix.engine.chain import read_chain

    chain = read_chain(folder)
    names = chain.steps if chain else []
    return {name: reader.look(folder / name) if (folder / name / "run.json").exists() else None for name in names}


def chain_record(name: str, views: dict[str, View | None]) -> dict[str, Any]:
    """Return what there is to say of a chain, for `--json`."""
    costs = [view.totals.cost_usd for view in views.values() if view and view.totals.cost_usd is not None]
    return {
        "name": name,
        "complete": all(view is not None and view.unanswered == 0 for view in views.values()),
        "cost_usd": sum(costs) if costs else None,
        "steps": {step: view.summary() if view else None for step, view in views.items()},
    }


def _print(views: dict[str, View | None], took: str) -> None:
    from batchmix.cli.summary import state_lines

    for name, view in views.items():
        for line in state_lines(view) if view else [f"{name}: has not begun"]:
            echo(line)
    cost = chain_record("", views)["cost_usd"]
    total = "" if cost is None else f", {usd(cost)}"
    echo(f"{len(views)} steps{total}{took and f', {took}'}")


def show_chain(folder: Path, *, as_json: bool) -> int:
    """Show the state of all steps of a chain. Return 1 if parts of any are damaged or missing."""
    from batchmix.engine.chain import read_chain

    chain, views = read_chain(folder), views_of_steps(folder)
    assert chain is not None
    if as_json:
        echo_json(chain_record(chain.name, views))
    else:
        _print(views, "")
    return int(any(view.lost for view in views.values() if view))
