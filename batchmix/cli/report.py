"""The command `batchmix report`."""

from __future__ import annotations

from pathlib import Path

import click

from batchmix.cli.options import LocalPath, verbose_option
from batchmix.cli.output import echo, echo_error, log_to_stderr


@click.command("report")
@click.argument("folder", metavar="RUN", type=LocalPath())
@click.option("--against", metavar="RUN", type=LocalPath(), help="A run to compare it with.")
@verbose_option
def command(folder: Path, *, against: Path | None, verbose: int) -> int:
    """Write RUN/report.html: one page with scores, models and their history. It needs no other file and no script.

    \b
    Example:
      batchmix report runs/nightly-2026-11-23 --against runs/nightly-2026-11-22
    """
    log_to_stderr(verbose)
    from batchmix.engine import reader
    from batchmix.evaluation.report_page import write_report

    damaged = reader.damaged_parts(folder)
    for message in damaged:
        echo_error(f"{message}; the report leaves it out")
    echo(str(write_report(folder, against)))
    return 1 if damaged else 0
