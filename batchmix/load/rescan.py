"""Whether an earlier scan still says everything about an input."""

from __future__ import annotations

from pathlib import Path

import msgspec

from batchmix.errors import InputError
from batchmix.job import Job
from batchmix.load.column_types import column_type_names
from batchmix.load.jsonl import segments_digest
from batchmix.load.parquet import ParquetInput
from batchmix.load.prompts import has_template, prompt_source, rows_must_name_models
from batchmix.load.scan import Scan, ScanOptions
from batchmix.load.sources import PARQUET, STDIN, Source, Stamp, file_digest, has_size
from batchmix.load.spool import here


def relocated(previous: Scan, spool: Path) -> Scan:
    """Return a scan whose spooled files are looked for in this run folder, wherever it was when they were written."""
    pairs = zip(previous.sources, previous.paths, strict=True)
    paths = tuple(here(path, spool) if source.spooled else path for source, path in pairs)
    return msgspec.structs.replace(previous, paths=paths)


def fits(previous: Scan, job: Job, cut: ScanOptions) -> bool:
    """Return whether a scan found out what this job needs to know. Raises `JobError`."""
    if (previous.limit, previous.shard_rows) != (cut.limit, cut.shard_rows) or (
        previous.bad_rows > 0 and not cut.reject
    ):
        return False
    if (previous.mode == "template") != has_template(job):
        return False
    if previous.mode in ("plain", "bodies") and (previous.mode == "bodies") != rows_must_name_models(job):
        return False
    prompts = prompt_source(job, previous.mode, previous.columns)
    if previous.mode == "plain" and job.input.system is not None and "messages" in previous.columns:
        return False
    if previous.model_column != job.input.model or (prompts.names_model and not previous.models):
        return False
    return (
        prompts.required <= set(previous.required)
        and prompts.param_columns <= set(previous.param_columns)
        and column_type_names(job).items() <= previous.types.items()
    )


def refreshed(previous: Scan, sources: tuple[Source, ...], stamps: tuple[Stamp | None, ...]) -> Scan | None:
    """Return the scan, with today's stamps, if the input's bytes are those that it saw; else None.

    Files whose status proves it are believed, others are read, but not parsed. Raises `InputError`.
    """
    if previous.sources != sources:
        return None
    hashed = False
    for number, (source, now) in enumerate(zip(sources, stamps, strict=True)):
        if source.spooled and not has_size(previous.paths[number], previous.sizes[number]):
            if source.path == STDIN:
                raise InputError("what was spooled of stdin is gone; pipe the rows in again")
            return None
        then = previous.stamps[number]
        if now is None or (then is not None and then.proves(now)):
            continue
        if source.spooled:
            if file_digest(source.path) != previous.digests[number]:
                return None
        elif now.size != previous.sizes[number]:
            return None
        else:
            hashed = True
    if hashed and not _same_bytes(previous):
        return None
    return msgspec.structs.replace(previous, stamps=stamps)


def _same_bytes(previous: Scan) -> bool:
    if previous.format == PARQUET:
        try:
            source = ParquetInput(list(previous.paths))
        except InputError:
            return False
        if source.rows < previous.rows or source.names != list(previous.columns):
            return False
        ranges = [(span.first, span.stop) for span in previous.shards]
        return source.digests(ranges) == [span.digest for span in previous.shards]
    return all(segments_digest(list(previous.paths), span.segments) == span.digest for span in previous.shards)


def same_rows(previous: Scan, scan: Scan) -> bool:
    """Return whether two scans saw the same rows in the same places, and the spool of the first is still whole."""
    names = (
        "format",
        "mode",
        "limit",
        "sources",
        "rows",
        "shard_rows",
        "shards",
        "columns",
        "models",
        "required",
        "bad_rows",
        "types",
    )
    whole = all(has_size(*pair) for pair in zip(previous.paths, previous.sizes, strict=True))
    return whole and all(getattr(previous, name) == getattr(scan, name) for name in names)
