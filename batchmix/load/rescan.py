"""Whether an earlier scan still says everything about an input."""

from __future__ import annotations

from pathlib import Path

import msgspec

from batchmix.errors import InputError
from batchmix.job import Job
from batchmix.load.column_types import told_types
from batchmix.load.jsonl import segments_digest
from batchmix.load.parquet import ParquetInput
from batchmix.load.prompts import asking_for, names_models, templated
from batchmix.load.scan import Cut, Scan
from batchmix.load.sources import PARQUET, STDIN, Source, Stamp, file_digest, has_size
from batchmix.load.spool import here


def localised(known: Scan, spool: Path) -> Scan:
    """Return a scan whose spooled files are looked for in this run folder, wherever it was when they were written."""
    pairs = zip(known.sources, known.paths, strict=True)
    paths = tuple(here(path, spool) if source.spooled else path for source, path in pairs)
    return msgspec.structs.replace(known, paths=paths)


def fits(known: Scan, job: Job, cut: Cut) -> bool:
    """Return whether a scan found out what this job needs to know. Raises `JobError`."""
    if (known.limit, known.shard_rows) != (cut.limit, cut.shard_rows) or (known.bad_rows > 0 and not cut.reject):
        return False
    if (known.mode == "template") != templated(job):
        return False
    if known.mode in ("plain", "bodies") and (known.mode == "bodies") != names_models(job):
        return False
    asking = asking_for(job, known.mode, known.kinds)
    if known.mode == "plain" and job.input.system is not None and "messages" in known.kinds:
        return False
    if known.model_column != job.input.model or (asking.own_model and not known.models):
        return False
    return (
        asking.used <= set(known.used)
        and asking.own <= set(known.own)
        and told_types(job).items() <= known.told.items()
    )


def refreshed(known: Scan, sources: tuple[Source, ...], stamps: tuple[Stamp | None, ...]) -> Scan | None:
    """Return the scan, with today's stamps, if the input's bytes are those that it saw; else None.

    Files whose status proves it are believed, others are read, but not parsed. Raises `InputError`.
    """
    if known.sources != sources:
        return None
    hashed = False
    for number, (source, now) in enumerate(zip(sources, stamps, strict=True)):
        if source.spooled and not has_size(known.paths[number], known.sizes[number]):
            if source.path == STDIN:
                raise InputError("what was spooled of stdin is gone; pipe the rows in again")
            return None
        then = known.stamps[number]
        if now is None or (then is not None and then.proves(now)):
            continue
        if source.spooled:
            if file_digest(source.path) != known.digests[number]:
                return None
        elif now.size != known.sizes[number]:
            return None
        else:
            hashed = True
    if hashed and not _same_bytes(known):
        return None
    return msgspec.structs.replace(known, stamps=stamps)


def _same_bytes(known: Scan) -> bool:
    if known.format == PARQUET:
        try:
            source = ParquetInput(list(known.paths))
        except InputError:
            return False
        if source.rows < known.rows or source.names != list(known.kinds):
            return False
        ranges = [(span.first, span.stop) for span in known.spans]
        return source.digests(ranges) == [span.digest for span in known.spans]
    return all(segments_digest(list(known.paths), span.segments) == span.digest for span in known.spans)


def same_rows(known: Scan, scan: Scan) -> bool:
    """Return whether two scans saw the same rows in the same places, and the spool of the first is still whole."""
    names = (
        "format",
        "mode",
        "limit",
        "sources",
        "rows",
        "shard_rows",
        "spans",
        "kinds",
        "models",
        "used",
        "bad_rows",
        "told",
    )
    whole = all(has_size(*pair) for pair in zip(known.paths, known.sizes, strict=True))
    return whole and all(getattr(known, name) == getattr(scan, name) for name in names)
