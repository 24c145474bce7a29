"""`batchmix export`."""

from __future__ import annotations

from pathlib import Path

import click

from batchmix.cli.options import Choice, LocalPath, verbose_option
from batchmix.cli.output import complain, log_to_stderr, say
from batchmix.formats.amounts import counted


@click.command("export")
@click.argument("folder", metavar="RUN", type=LocalPath())
@click.argument("file", metavar="FILE", type=LocalPath())
@click.option(
    "--format",
    "form",
    type=Choice(["name", "openai-batch"]),
    default="name",
    show_default=True,
    help="As the file's name says, or as the output and error files of an OpenAI batch.",
)
@verbose_option
def command(folder: Path, file: Path, *, form: str, verbose: int) -> int:
    """Write a run's results into one file: .parquet, .jsonl or .csv; or into the two files of an OpenAI batch.

    Works on a run that is not finished too: rows without a result are left out. So are those that can't be read where
    a part is damaged; that is told, and the exit code is 1.

    \b
    Example:
      batchmix export runs/quickstart answers.csv
      batchmix export runs/quickstart output.jsonl --format openai-batch
    """
    log_to_stderr(verbose)
    from batchmix.engine import reader

    lost: list[str] = []
    rows, warnings = reader.export(folder, file, openai_batch=form == "openai-batch", lost=lost)
    for warning in warnings:
        complain(warning)
    say(f"{file}: {counted(rows, 'row')}")
    return 1 if lost else 0
