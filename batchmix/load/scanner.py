"""Scans the input of a job: finds its files, spools some, and reads all rows once, or reuses an earlier scan."""

from __future__ import annotations

from pathlib import Path

import msgspec

from batchmix.errors import InputError
from batchmix.job import QUERY
from batchmix.load.column_types import column_type_names
from batchmix.load.decompress import Readable
from batchmix.load.files import STDIN, Source, Stamp, file_digest, has_size, head_of, shown, stamp
from batchmix.load.foreign_files import wrong_content
from batchmix.load.prompt_sources import PromptSources
from batchmix.load.prompts import Mode, detect_mode, has_template, rows_must_name_models
from batchmix.load.run_rows import missing_parts
from batchmix.load.scan import RowChecker, Scan, ScanOptions
from batchmix.load.sources import RUN, find_sources, is_spooled, open_reader
from batchmix.load.spool import Spool, relocated
from batchmix.load.weights import weight_source
from batchmix.remote.files import each, is_url

_COMPARED = (
    "format", "mode", "limit", "sources", "rows", "shard_rows", "shards", "columns", "models", "required", "bad_rows",
    "types", "weight",
)  # fmt: skip
"""The fields that are equal in two scans of the same rows."""


class _Files(msgspec.Struct, frozen=True):
    """The files of an input, as in the fields of `Scan` with the same names."""

    sources: tuple[Source, ...]
    stamps: tuple[Stamp | None, ...]
    paths: tuple[str, ...]
    digests: tuple[str, ...]


class InputScanner:
    """Scans the input of a job. Each object scans once. `spool` is the folder for spooled files."""

    def __init__(self, prompt_sources: PromptSources, options: ScanOptions, spool: Path) -> None:
        self._prompt_sources = prompt_sources
        self._job = prompt_sources.job
        self._options = options
        self._root = spool
        self._spool: Spool | None = None

    def scan(self, previous: Scan | None, stream: Readable | None) -> tuple[Scan, Path | None]:
        """Return the scan, and the folder with newly spooled files (None if there are none).

        `previous` is an earlier scan to reuse. `stream` is the piped input, if there is any. Raises `InputError`,
        `JobError` and `NoSpace`, after removing newly spooled files.
        """
        if has_template(self._job):
            _ = self._prompt_sources.template  # an error in a template is found before the data is read
        sources = find_sources(self._job.input.path)
        stamps = tuple(each(_stamp_of, sources, remote=is_url(sources[0].path)))
        if sources[0].is_stream and stream is None and (previous is None or previous.sources != sources):
            raise InputError(_nothing_in(sources[0]))
        same = None
        if previous is not None:
            previous = _relocated(previous, self._root)
            suffices = self._suffices(previous)
            if stream is None and (suffices or any(map(is_spooled, sources))):
                same = _refreshed(previous, sources, stamps)
            if same is not None and suffices:
                return msgspec.structs.replace(same, models=() if self._job.models else same.models), None
        try:
            if same is None:
                same_files = self._spooled(sources, stamps, stream)
            else:  # the bytes are unchanged, so the spooled files of the earlier scan are used again
                same_files = _Files(sources, stamps, same.paths, same.digests)
            return self._new_scan(previous, same_files)
        except BaseException:
            if self._spool is not None:
                self._spool.discard()
            raise

    def _suffices(self, previous: Scan) -> bool:
        """Return whether an earlier scan checked everything that this job needs. Raises `JobError`."""
        job, options = self._job, self._options
        if (previous.limit, previous.shard_rows) != (options.limit, options.shard_rows):
            return False
        if previous.bad_rows > 0 and not options.reject_bad_rows:
            return False
        if (previous.mode is Mode.TEMPLATE) != has_template(job):
            return False
        of_messages = previous.mode in (Mode.PLAIN, Mode.BODIES)
        if of_messages and (previous.mode is Mode.BODIES) != rows_must_name_models(job):
            return False
        prompts = self._prompt_sources.source(previous.mode, previous.columns)
        if previous.mode is Mode.PLAIN and job.input.system is not None and "messages" in previous.columns:
            return False
        if previous.model_column != job.input.model or (prompts.names_model and not previous.models):
            return False
        return (
            prompts.required <= set(previous.required)
            and prompts.param_columns <= set(previous.param_columns)
            and column_type_names(job).items() <= previous.types.items()
            and weight_source(job) in {None, previous.weight}
        )

    def _new_scan(self, previous: Scan | None, files: _Files) -> tuple[Scan, Path | None]:
        if self._spool is not None:
            self._spool.finish()
        if previous is not None and previous.shards:
            self._options = msgspec.structs.replace(self._options, earlier_digest=previous.shards[0].digest)
        scan = self._scanned(files)
        if previous is not None and self._spool is not None and _same_rows(previous, scan):
            self._spool.discard()
            return msgspec.structs.replace(previous, stamps=files.stamps), None
        return scan, self._spool.folder if self._spool is not None else None

    def _spooled(
        self, sources: tuple[Source, ...], stamps: tuple[Stamp | None, ...], stream: Readable | None
    ) -> _Files:
        """Spool the sources that must be spooled. Raises `InputError` if a file's content does not fit its name."""
        sends_rows = not has_template(self._job)
        paths, digests = [], []
        for number, source in enumerate(sources):
            path, digest = source.path, ""
            if is_spooled(source):
                if self._spool is None:
                    self._spool = Spool(self._root, sends_rows=sends_rows)
                path, digest = self._spool.add(number, source, stream if source.is_stream else None)
                digest = digest if source.is_stream else file_digest(source.path)
            elif source.format != RUN and (problem := wrong_content(source, head_of(path), sends_rows=sends_rows)):
                raise InputError(f"{source.label}: {problem}")
            paths.append(path)
            digests.append(digest)
        return _Files(sources, stamps, tuple(paths), tuple(digests))

    def _scanned(self, files: _Files) -> Scan:
        job, options = self._job, self._options
        reader = open_reader(files.sources, files.paths)
        mode = detect_mode(job, reader.first_row())
        prompts = self._prompt_sources.source(mode, reader.columns)
        checker = RowChecker(prompts, reject_bad_rows=options.reject_bad_rows)
        content = reader.scan(prompts, checker, options)
        if content.rows == 0:
            label = files.sources[0].label if files.sources[0].is_stream else shown(job.input.path)
            raise InputError(f"{label}: there are no rows in it")
        checker.finish()
        return Scan(
            format=files.sources[0].format,
            mode=mode,
            limit=options.limit,
            sources=files.sources,
            stamps=files.stamps,
            digests=files.digests,
            paths=files.paths,
            sizes=tuple(_size_of(source, path) for source, path in zip(files.sources, files.paths, strict=True)),
            rows=content.rows,
            shard_rows=options.shard_rows,
            shards=content.shards,
            columns=content.columns,
            models=checker.models,
            required=tuple(sorted(prompts.required)),
            bad_rows=checker.bad_rows,
            model_column=job.input.model,
            types=column_type_names(job),
            weight=weight_source(job),
            param_columns=tuple(sorted(prompts.param_columns & content.columns.keys())),
            proven=content.proven,
        )


def _stamp_of(source: Source) -> Stamp | None:
    """Return a source's stamp. None for a stream, and for a part that a run does not have yet."""
    return None if source.is_stream or _is_to_come(source) else stamp(source.path)


def _size_of(source: Source, path: str) -> int:
    return -1 if _is_to_come(source) else stamp(path).size


def _is_to_come(source: Source) -> bool:
    return source.format == RUN and missing_parts((source.path,)) > 0


def _again(source: Source) -> str:
    if source.path.startswith(QUERY):
        return "run the job again with --update"
    return "pipe the rows in again" if source.path == STDIN else "hand the same rows over again, from Python"


def _nothing_in(source: Source) -> str:
    """Return the message for a stream without a byte."""
    if source.path == STDIN:
        return "stdin is empty; pipe the rows in, as in: batchmix run - … < prompts.jsonl"
    return (
        f"input.path: {source.path} stands for rows that were handed over from Python, and the run folder has no copy"
        " of them; give the run folder (batchmix resume RUN), or a file"
    )


def _relocated(previous: Scan, spool: Path) -> Scan:
    """Return a scan with the paths of its spooled files in this run folder, which may have been moved since."""
    pairs = zip(previous.sources, previous.paths, strict=True)
    paths = tuple(relocated(path, spool) if is_spooled(source) else path for source, path in pairs)
    return msgspec.structs.replace(previous, paths=paths)


def _refreshed(previous: Scan, sources: tuple[Source, ...], stamps: tuple[Stamp | None, ...]) -> Scan | None:
    """Return an earlier scan with the current stamps if the input still has the same bytes. Otherwise return None.

    Nothing is read if the stamps of all files prove that. Otherwise files are hashed, but not parsed. Raises
    `InputError`.
    """
    if previous.sources != sources:
        return None
    unproven = False
    for number, (source, now) in enumerate(zip(sources, stamps, strict=True)):
        if is_spooled(source) and not has_size(previous.paths[number], previous.sizes[number]):
            if source.is_stream:
                raise InputError(f"the spooled copy of {source.label} is gone; {_again(source)}")
            return None
        old_stamp = previous.stamps[number]
        if now is None or (old_stamp is not None and old_stamp.proves(now)):
            continue
        if is_spooled(source):
            if file_digest(source.path) != previous.digests[number]:
                return None
        elif now.size != previous.sizes[number]:
            return None
        else:
            unproven = True
    if unproven and not _same_bytes(previous):
        return None
    return msgspec.structs.replace(previous, stamps=stamps)


def _same_bytes(previous: Scan) -> bool:
    try:
        reader = open_reader(previous.sources, previous.paths)
    except InputError:
        return False
    return reader.has_same_bytes(previous)


def _same_rows(previous: Scan, scan: Scan) -> bool:
    """Return whether two scans found the same rows, and the spooled files of the earlier scan still exist."""
    whole = all(has_size(*pair) for pair in zip(previous.paths, previous.sizes, strict=True))
    return whole and all(getattr(previous, name) == getattr(scan, name) for name in _COMPARED)
