"""The command `batchmix report`."""

from __future__ import annotations

from pathlib import Path

import click

from batchmix.cli.options import LocalPath, RunFolder, verbose_option
from batchmix.cli.output import echo, echo_error, log_to_stderr
from batchmix.errors import UsageError


@click.command("report")
@click.argument("folder", metavar="RUN|ROOT", type=RunFolder(writes=True))
@click.option("--against", metavar="RUN", type=LocalPath(), help="A run to compare it with.  [default: its baseline]")
@verbose_option
def command(folder: Path, *, against: Path | None, verbose: int) -> int:
    """Write RUN/report.html: one page with scores, models and their history. It needs no other file and no script.

    For a folder that holds runs, write ROOT/index.html: all jobs and nights, with links to the reports. The exit code
    is 1 if something can't be read.

    \b
    Examples:
      batchmix report runs/nightly-2026-11-23 --against runs/nightly-2026-11-22
      batchmix report runs
    """
    log_to_stderr(verbose)
    from batchmix.engine import reader
    from batchmix.reports.report_page import write_report

    if _holds_runs(folder):
        return _index(folder, against)
    damaged = reader.damaged_parts(folder)
    for message in damaged:
        echo_error(f"{message}; the report leaves it out")
    echo(str(write_report(folder, against)))
    return 1 if damaged else 0


def _holds_runs(folder: Path) -> bool:
    """Return whether there are runs in a folder, which is no run itself."""
    from batchmix.store.run_folder import Layout, run_folders

    layout = Layout(folder)
    return not layout.run_json.exists() and not layout.data.exists() and bool(run_folders(folder))


def _index(root: Path, against: Path | None) -> int:
    from batchmix.reports.index_page import write_index

    if against is not None:
        raise UsageError(f"{root}: is no run, so --against says nothing; name one of its runs")
    path, unreadable = write_index(root)
    for message in unreadable:
        echo_error(message)
    echo(str(path))
    return 1 if unreadable else 0
