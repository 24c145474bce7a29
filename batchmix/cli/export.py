"""The command `batchmix export`."""

from __future__ import annotations

from pathlib import Path

import click

from batchmix.cli.options import LocalPath, OneOf, RunFolder, verbose_option
from batchmix.cli.output import echo, echo_error, log_to_stderr
from batchmix.formats.amounts import counted

_FORMATS = ("name", "openai-batch", "openai-finetune", "sharegpt", "hf")
_LOGS = ("inspect", "lm-eval")
"""The formats of other tools' logs, which have the scores too."""


@click.command("export")
@click.argument("folder", metavar="RUN", type=RunFolder())
@click.argument("file", metavar="FILE", type=LocalPath())
@click.option(
    "--format",
    "form",
    type=OneOf([*_FORMATS, *_LOGS]),
    default="name",
    show_default=True,
    help="Choose the format by the file's name; or write the output and error files of an OpenAI batch, conversations"
    " to train on, a dataset folder of Hugging Face, a log of Inspect AI, or a folder as of lm-evaluation-harness.",
)
@click.option(
    "--columns",
    metavar="NAME,…",
    help="Only these columns, in this order. answer.city is a value within a column; response=draft renames one.",
)
@click.option("--where", metavar="TEMPLATE", help="Only results for which this is true: \"{{ status == 'ok' }}\".")
@verbose_option
def command(folder: Path, file: Path, *, form: str, verbose: int, **chosen: str | None) -> int:
    """Write a run's results into one file: .parquet, .jsonl or .csv; or as other tools write theirs.

    An unfinished run can be exported: rows without a result are left out. Rows in damaged parts are left out too, with
    a warning and exit code 1.

    \b
    Example:
      batchmix export runs/quickstart answers.csv
      batchmix export runs/quickstart drafts.jsonl --columns custom_id,response=draft --where "{{ status == 'ok' }}"
      batchmix export runs/quickstart output.jsonl --format openai-batch
      batchmix export runs/quickstart logs/quickstart.json --format inspect
    """
    log_to_stderr(verbose)
    from batchmix.engine.selection import Selection
    from batchmix.errors import UsageError
    from batchmix.reports.exports import export_as

    if form in _LOGS:
        if any(value is not None for value in chosen.values()):
            raise UsageError(f"--columns, --where: a log for {form} has all results; leave them out")
        return _log(folder, file, form)
    lost: list[str] = []
    columns = chosen["columns"]
    selection = Selection(None if columns is None else tuple(columns.split(",")), chosen["where"])
    rows, warnings = export_as(form, folder, file, selection, lost)
    for warning in warnings:
        echo_error(warning)
    echo(f"{file}: {counted(rows, 'row')}")
    return 1 if lost else 0


def _log(folder: Path, path: Path, form: str) -> int:
    from batchmix.reports.exchange import exchanged_run
    from batchmix.reports.inspect_log import write_inspect_logs
    from batchmix.reports.lm_eval_files import write_lm_eval_files

    run = exchanged_run(folder)
    write = write_inspect_logs if form == "inspect" else write_lm_eval_files
    count, paths = write(run, path, run.job.output.permissions)
    for warning in run.warnings:
        echo_error(warning)
    for written in paths:
        echo(str(written))
    echo(counted(count, "result"))
    return 1 if run.lost else 0
