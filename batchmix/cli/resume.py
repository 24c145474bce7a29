"""The command `batchmix resume`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from batchmix.cli.options import (
    RunFolder,
    output_options,
    restart_options,
    sending_options,
    verbose_option,
)
from batchmix.cli.output import log_to_stderr
from batchmix.cli.run import run_and_report, run_options_of
from batchmix.cli.ways_out import ways_out_options
from batchmix.errors import JobError
from batchmix.job import CheckedJob, merge_settings, parse_setting
from batchmix.job.call import settings_of_flags
from batchmix.records import CHAIN_FILE
from batchmix.scorers.indirect import Custom


@click.command("resume")
@click.argument("folder", metavar="RUN", type=RunFolder(writes=True))
@restart_options
@sending_options
@output_options
@ways_out_options
@verbose_option
def command(folder: Path, settings: tuple[str, ...], **options: Any) -> int:
    """Go on with a run from its folder alone.

    The job is the one that the folder has recorded, changed by the options given here. Rows that were piped in, or that
    came from Python, are read from the folder's copy. The folder may have been moved. Without --limit, the rows are
    those of the last start.

    \b
    Examples:
      batchmix resume runs/first
      batchmix resume runs/first --retry-rejected --concurrency 64

    Exit codes: as of batchmix run; 0 also if nothing was left to send.
    """
    log_to_stderr(options["verbose"])
    from batchmix.engine.recorded_job import resumed

    if folder.suffix == ".toml" or folder.is_file():
        raise JobError(f"{folder}: is a file, and RUN is a run folder; did you mean batchmix run {folder}?")
    given = merge_settings([*map(parse_setting, settings), settings_of_flags(options)])
    if (folder / CHAIN_FILE).exists():
        from batchmix.cli.chain import run_steps
        from batchmix.engine.chain import recorded_chain

        return run_steps(recorded_chain(folder, given), run_options_of(options), options)
    job, run_options = resumed(folder, given, run_options_of(options))
    _check_scorers(job, folder)
    return run_and_report(job, run_options, options)


def _check_scorers(job: CheckedJob, folder: Path) -> None:
    """Raise `JobError` if the evaluation needs code, which a run folder must not name: it may come from others."""
    own = [scorer.name for scorer in (job.eval.scorers if job.eval else ()) if isinstance(scorer, Custom)]
    if own:
        raise JobError(
            f"eval.scorers: {own[0]} is a function of your own, and a run folder names no code; resume with the job"
            f" file (batchmix run JOB.toml --out {folder}), or leave the evaluation out (--set eval=null)"
        )
