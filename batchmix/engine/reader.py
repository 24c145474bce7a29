"""Reads a run folder without a lock, even while another process writes to it."""

from __future__ import annotations

import difflib
import io
import itertools
import logging
import os
from collections.abc import Collection, Iterator
from pathlib import Path

import msgspec
import pyarrow as pa

from batchmix.engine.resume import previous_scan
from batchmix.engine.selection import Selection
from batchmix.errors import InputError, RunError, Stopped, UsageError
from batchmix.job import CheckedJob
from batchmix.job.secrets import secrets_if_set
from batchmix.load import Dataset, ScanOptions, open_dataset
from batchmix.prices.cost import Prices
from batchmix.records import Request
from batchmix.remote.files import is_url
from batchmix.responses.endpoints import CHAT, endpoint_of
from batchmix.store.batch_files import errors_path, write_batch_files
from batchmix.store.export_file import Carried, Export
from batchmix.store.inventory import Inventory
from batchmix.store.parts import list_parts
from batchmix.store.run_folder import Layout, RunFile, run_folders
from batchmix.store.schema import RESULT_COLUMNS, part_schema
from batchmix.store.view import View, read_view

_logger = logging.getLogger(__name__)
_SHOWN = 5
"""Maximum number of runs that an error message lists. Others are only counted."""


def look(folder: Path) -> View:
    """Read a run folder and return a view of it. Raises `RunError`."""
    run = run_of(folder)
    return read_view(_layout(folder, run), prices_of(run))


def export(
    folder: Path,
    file: Path,
    *,
    openai_batch: bool = False,
    selection: Selection | None = None,
    lost: list[str] | None = None,
) -> tuple[int, list[str]]:
    """Export a run's results to one file, or to the two files of an OpenAI batch; return the row count and warnings.

    Unreadable data in the parts is left out. The warnings about it are also added to `lost`. Raises `UsageError`.
    """
    run, selection = run_of(folder), selection or Selection()
    if openai_batch and selection.columns is not None:
        raise UsageError("columns: the files of an OpenAI batch have fixed ones; leave this out")
    refuse_input(run, file, errors_path(file))
    chosen = selection.of(_schema(run, folder))
    exporting = Export(_layout(folder, run), run, chosen, prices_of(run))
    warnings: list[str] = []
    mode = recorded_job_in(run).output.permissions
    carried = _carried_or_empty(run, folder, warnings)
    if openai_batch:
        _check_shapes(run, folder)
        write_batch_files(file, exporting.batches(carried), several=run.results > run.rows, mode=mode)
    else:
        exporting.write(file, carried, mode)
    if lost is not None:
        lost.extend(exporting.lost)
    return exporting.rows, warnings + exporting.lost


def refuse_input(run: RunFile, *files: Path) -> None:
    """Raise `UsageError` if one of the files, which are to be written, is a run's input."""
    scan = previous_scan(run)
    for source in scan.sources if scan else ():
        for path in files:
            if not is_url(source.path) and path.exists() and Path(source.path).exists() and path.samefile(source.path):
                raise UsageError(f"{path}: is the run's input; name another file")


def results(
    folder: Path, columns: Collection[str], lost: list[str] | None = None, where: str | None = None
) -> Iterator[pa.RecordBatch]:
    """Yield some columns of a run's results so far, in row order; with `where`, of those for which it holds.

    The columns have the same order as in a part. Columns that the run does not have are left out. Unreadable data in
    the parts is left out too, with a message in `lost`. Raises `RunError`.
    """
    run = run_of(folder)
    whole = _schema(run, folder)
    names = tuple(name for name in whole.names if name in columns)
    exporting = Export(_layout(folder, run), run, Selection(names, where).of(whole), prices_of(run))
    yield from exporting.batches(_carried_or_empty(run, folder, []))
    if lost is not None:
        lost.extend(exporting.lost)


def result_schema(folder: Path) -> pa.Schema:
    """Return the schema of a run's results. Raises `RunError`."""
    run = run_of(folder)
    return _schema(run, folder)


def _schema(run: RunFile, folder: Path) -> pa.Schema:
    return part_schema(run.carried_schema(), Layout(folder).identity(run), run.typed)


def damaged_parts(folder: Path) -> list[str]:
    """Read all parts of a run, and return a message for each damaged part. Raises `RunError`."""
    run_of(folder)
    return list(Inventory(Layout(folder), whole=True).damaged_parts.values())


def job_of(folder: Path) -> CheckedJob:
    """Return the job as recorded in a run folder. Raises `RunError`."""
    return recorded_job_in(run_of(folder))


def _carried_or_empty(run: RunFile, folder: Path, warnings: list[str]) -> Carried:
    job, schema = recorded_job_in(run), run.carried_schema()

    def carried(index: int) -> Iterator[pa.RecordBatch]:
        """Yield a shard's carried columns, or nulls if the input has changed or can't be read."""
        try:
            yield from _carried(run, job, folder, index)
        except (UsageError, Stopped) as error:
            warnings.append(f"shard {index}: the input's columns are left empty: {error}")
            first = index * run.shard_rows
            rows = max(0, min(run.shard_rows, run.rows - first))
            empty = [pa.nulls(rows, field.type) for field in schema]
            yield pa.RecordBatch.from_arrays(empty, schema=schema)

    return carried


def _check_shapes(run: RunFile, folder: Path) -> None:
    """Raise `UsageError` if raw answers are needed for an OpenAI batch, but were not stored.

    Without them, only chat completions can be rebuilt from the result columns.
    """
    job, scan = recorded_job_in(run), previous_scan(run)
    if job.output.raw or scan is None or scan.mode != "batch":
        return
    kept = f"{folder}: holds no raw answers (output.raw = false)"
    try:
        dataset = dataset_of(run, job, folder)
        shards = itertools.product(range(len(scan.shards)), dataset.models)
        batches = itertools.chain.from_iterable(itertools.starmap(dataset.requests, shards))
        requests = (request for request in itertools.chain.from_iterable(batches) if isinstance(request, Request))
        other = next((request for request in requests if endpoint_of(request.path).suffix != CHAT), None)
    except (UsageError, Stopped) as error:
        raise UsageError(f"{kept}, and their endpoints are unknown without the input: {error}") from error
    if other is not None:
        raise UsageError(
            f"{kept}, and those of {other.path} (row {other.row}) are not chat completions; export to .jsonl or"
            " .parquet"
        )


def _carried(run: RunFile, job: CheckedJob, folder: Path, index: int) -> list[pa.RecordBatch]:
    scan = previous_scan(run)
    dataset = dataset_of(run, job, folder)
    spans = dataset.scan.shards[index : index + 1]
    if scan is None or not spans or spans != scan.shards[index : index + 1]:
        dataset.discard()
        raise InputError("the input has changed")
    return list(dataset.carried(index))


def dataset_of(run: RunFile, job: CheckedJob, folder: Path) -> Dataset:
    """Return the input of a run, which is scanned again if it has changed. Raises `UsageError` or `Stopped`."""
    return open_dataset(
        job,
        ScanOptions(
            run.shard_rows, run.scan.get("limit"), reject_bad_rows=True, reserved=RESULT_COLUMNS | job.answer_columns
        ),
        spool=Layout(folder).input,
        previous=previous_scan(run),
        stdin=io.BytesIO(),  # input from a pipe is read from its copy in the spool
    )


def prices_of(run: RunFile) -> Prices:
    """Return the prices of a run. Raises `RunError`."""
    return Prices(run.prices, recorded_job_in(run).models)


def _layout(folder: Path, run: RunFile) -> Layout:
    """Return the layout of a run folder, with the run's secrets if the environment has them.

    They are masked in answers that are read from journals.
    """
    return Layout(folder, secrets=secrets_if_set(recorded_job_in(run).provider, os.environ))


def run_of(folder: Path) -> RunFile:
    """Return the `run.json` of a run folder. Raises `RunError`."""
    layout = Layout(folder)
    run = layout.read_run()
    if run is None:
        raise no_run(folder)
    if not layout.run_is_whole():
        _logger.warning("%s: was damaged or changed, its checksum does not hold", layout.run_json)
    return run


def no_run(folder: Path, root: Path | None = None) -> RunError:
    """Return the error for a folder that is not a run folder. The message suggests runs in the folder or beside it.

    `root` is another folder to search for runs, also by their jobs' names, for a user who gave the name of a job.
    """
    if list_parts(Layout(folder).data) or Layout(folder).journals():
        return RunError(
            f"{folder}: has no run.json, but holds answers; the command that made the run resumes from them, and"
            " writes it anew"
        )
    inside = run_folders(folder)
    places = (root, folder.parent) if root else (folder.parent,)
    folders = inside or list(dict.fromkeys(path for place in places for path in run_folders(place)))
    names = {path.name: str(path) for path in folders}
    names |= {
        name: name if name != folder.name else str(path) for path in folders if root and (name := _job_name(path))
    }
    near = [] if inside else difflib.get_close_matches(folder.name, names, n=1)
    if near:
        hint = f"; did you mean {names[near[0]]}?"
    elif folders:
        more = f" and {len(folders) - _SHOWN} more" if len(folders) > _SHOWN else ""
        hint = f"; there are the runs {', '.join(map(str, folders[:_SHOWN]))}{more}"
    else:
        hint = f"; there are no runs under {root}" if root else ""
    return RunError(f"{folder}: is not a run folder: it has no run.json{hint}")


def _job_name(folder: Path) -> str:
    try:
        run = Layout(folder).read_run()
    except RunError:
        return ""
    return run.name if run else ""


def recorded_job_in(run: RunFile) -> CheckedJob:
    """Return the job in a `run.json`, as it was recorded: some values are masked. Raises `RunError`."""
    try:
        return msgspec.convert(run.job, CheckedJob)
    except msgspec.ValidationError as error:
        raise RunError(f"run.json: its job can't be read by this version of batchmix: {error}") from error
