"""The job and the options with which a run goes on from its folder alone, as `run.json` recorded them."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from batchmix.engine import reader
from batchmix.engine.prepare import Options
from batchmix.engine.resume import previous_scan
from batchmix.errors import InputError, JobError, RunUnreadable
from batchmix.job import CheckedJob, job_settings, merge_settings, read_job, setting_in
from batchmix.job.mistakes import masked_mistake
from batchmix.load import find_sources
from batchmix.store.run_folder import Layout, RunFile


def recorded_job(folder: Path, settings: Mapping[str, Any]) -> CheckedJob:
    """Return the job of a run, changed by nested settings, with the given folder as its run folder.

    Raises `RunError` if the folder is no run or its `run.json` is damaged, and `JobError` if a setting is wrong or
    masked: a run folder keeps no secrets, so `settings` must give these again.
    """
    run = reader.run_of(folder)
    layout = Layout(folder)
    if not layout.run_is_whole():
        raise RunUnreadable(layout.run_json, "was damaged or changed, its checksum does not hold")
    if setting_in(settings, ("output", "path")) is not None:
        raise JobError(f"output.path: is {folder}, the run that goes on; to write elsewhere, run the job anew")
    for path in map(tuple, run.masked):
        if setting_in(settings, path) is None:
            raise JobError(masked_mistake(path).text)
    job = read_job(
        None, merge_settings([job_settings(reader.recorded_job_in(run)), settings]), option=f"{layout.run_json}: "
    )
    output = msgspec.structs.replace(job.output, path=os.path.abspath(folder))  # noqa: PTH100 - links are kept
    return msgspec.structs.replace(job, output=output)


def resumed(folder: Path, settings: Mapping[str, Any], options: Options) -> tuple[CheckedJob, Options]:
    """Return the job of `recorded_job`, and the options for its next start.

    Where the options say nothing, the first rows are those of the last start (`limit`), and bad rows are rejected if
    they were. Rows that were piped in or handed over in memory are read from the folder's copy. Raises also
    `InputError` if the input is gone.
    """
    job = recorded_job(folder, settings)
    run = reader.run_of(folder)
    given = setting_in(settings, ("input", "path")) is not None
    stream = None if given else _stream_of(run)
    if stream is not None:
        job = msgspec.structs.replace(job, input=msgspec.structs.replace(job.input, path=stream))
    elif not given:
        _check_input(job)
    return job, msgspec.structs.replace(
        options,
        limit=options.limit or run.scan.get("limit"),
        reject_bad_rows=options.reject_bad_rows or bool(run.scan.get("bad_rows")),
        rows=options.rows if stream is None else io.BytesIO(),
    )


def _stream_of(run: RunFile) -> str | None:
    """Return the input's path if the rows came through a pipe or from memory. None if they are in files."""
    scan = previous_scan(run)
    return scan.sources[0].path if scan is not None and scan.sources[0].is_stream else None


def _check_input(job: CheckedJob) -> None:
    """Raise `InputError` if the input's files are gone. The message says how to give their new path."""
    try:
        find_sources(job.input.path)
    except InputError as error:
        raise InputError(f"{error}; if it was moved, give its new path: --set input.path=…") from error
