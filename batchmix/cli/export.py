"""The command `batchmix export`."""

from __future__ import annotations

from pathlib import Path

import click

from batchmix.cli.options import LocalPath, OneOf, verbose_option
from batchmix.cli.output import echo, echo_error, log_to_stderr
from batchmix.formats.amounts import counted


@click.command("export")
@click.argument("folder", metavar="RUN", type=LocalPath())
@click.argument("file", metavar="FILE", type=LocalPath())
@click.option(
    "--format",
    "form",
    type=OneOf(["name", "openai-batch"]),
    default="name",
    show_default=True,
    help="Choose the format by the file's name, or write the output and error files of an OpenAI batch.",
)
@verbose_option
def command(folder: Path, file: Path, *, form: str, verbose: int) -> int:
    """Write a run's results into one file: .parquet, .jsonl or .csv; or into the two files of an OpenAI batch.

    An unfinished run can be exported: rows without a result are left out. Rows in damaged parts are left out too, with
    a warning and exit code 1.

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
        echo_error(warning)
    echo(f"{file}: {counted(rows, 'row')}")
    return 1 if lost else 0
