"""How an input is opened: found, spooled if need be, and scanned or previous from before."""

from __future__ import annotations

from pathlib import Path

import msgspec

from batchmix.errors import InputError
from batchmix.job import Job
from batchmix.load.column_types import column_type_names
from batchmix.load.csv_lines import decoder_of
from batchmix.load.decompress import Readable
from batchmix.load.foreign_files import what_it_is
from batchmix.load.jsonl import first_row
from batchmix.load.parquet import ParquetInput
from batchmix.load.parquet_scan import scan_rows, shards_of
from batchmix.load.prompts import detect_mode, has_template, prompt_source
from batchmix.load.rescan import fits, refreshed, relocated, same_rows
from batchmix.load.scan import JsonlScan, OnProgress, RowChecker, Scan, ScanOptions
from batchmix.load.sources import PARQUET, STDIN, Source, Stamp, file_digest, find_sources, head_of, shown, stamp
from batchmix.load.spool import Spool

Stamps = tuple[Stamp | None, ...]


class Opening:
    """One opening of a job's input. `spool` is the folder that holds what is spooled."""

    def __init__(self, job: Job, cut: ScanOptions, spool: Path) -> None:
        self._job = job
        self._root = spool
        self._cut = cut
        self._spool: Spool | None = None

    def scan(self, previous: Scan | None, stream: Readable | None, on_progress: OnProgress) -> tuple[Scan, Path | None]:
        """Return the scan, and the folder of what was newly spooled. `stream` is stdin if something comes from it.

        Raises `InputError`, `JobError` and `NoSpace`; then nothing new is left in the spool.
        """
        if has_template(self._job):
            prompt_source(self._job, "template")  # an error in a template is found before the data is touched
        sources = find_sources(self._job.input.path)
        stamps = tuple(None if source.path == STDIN else stamp(source.path) for source in sources)
        if sources[0].path == STDIN and stream is None and (previous is None or previous.sources != sources):
            raise InputError("stdin is empty; pipe the rows in, as in: batchmix run - … < prompts.jsonl")
        same = None
        if previous is not None:
            previous = relocated(previous, self._root)
            fit = fits(previous, self._job, self._cut)
            if stream is None and (fit or any(source.spooled for source in sources)):
                same = refreshed(previous, sources, stamps)
            if same is not None and fit:
                return msgspec.structs.replace(same, models=() if self._job.models else same.models), None
        try:
            return self._new_scan(previous, same, sources, stamps, stream, on_progress)
        except BaseException:
            if self._spool is not None:
                self._spool.discard()
            raise

    def _new_scan(
        self, previous: Scan | None, same: Scan | None, sources: tuple[Source, ...], stamps: Stamps,
        stream: Readable | None, on_progress: OnProgress,
    ) -> tuple[Scan, Path | None]:  # fmt: skip
        """Scan the input; `same` is an earlier scan of the same bytes, whose spool will do."""
        files = same if same is not None else self._spooled(sources, stream)
        if self._spool is not None:
            self._spool.finish()
        scan = self._scanned(sources, stamps, files.paths, files.digests, on_progress)
        if previous is not None and self._spool is not None and same_rows(previous, scan):
            self._spool.discard()
            return msgspec.structs.replace(previous, stamps=stamps), None
        return scan, self._spool.folder if self._spool is not None else None

    def _spooled(self, sources: tuple[Source, ...], stream: Readable | None) -> _Files:
        paths, digests = [], []
        for number, source in enumerate(sources):
            path, digest = source.path, ""
            if source.spooled:
                if self._spool is None:
                    self._spool = Spool(self._root, asks_rows=not has_template(self._job))
                path, digest = self._spool.add(number, source, stream if source.path == STDIN else None)
                digest = digest if source.path == STDIN else file_digest(source.path)
            elif found := what_it_is(source, head_of(path), asks_rows=not has_template(self._job)):
                raise InputError(f"{source.label}: {found}")
            paths.append(path)
            digests.append(digest)
        return _Files(tuple(paths), tuple(digests))

    def _scanned(
        self, sources: tuple[Source, ...], stamps: Stamps, paths: tuple[str, ...], digests: tuple[str, ...],
        on_progress: OnProgress,
    ) -> Scan:  # fmt: skip
        parquet = ParquetInput(list(paths)) if sources[0].format == PARQUET else None
        mode = detect_mode(self._job, first_row(list(paths)) if parquet is None else dict.fromkeys(parquet.names))
        prompts = prompt_source(self._job, mode, parquet.names if parquet is not None else None)
        checker = RowChecker(prompts, reject=self._cut.reject)
        if parquet is None:
            labels, decode = [source.label for source in sources], decoder_of(sources[0].format)
            scanning = JsonlScan(list(paths), labels, checker, on_progress, decode)
            scanning.run(self._cut.shard_rows, self._cut.limit)
            rows, shards, columns = scanning.rows, tuple(scanning.shards), scanning.columns
        else:
            rows = parquet.rows if self._cut.limit is None else min(self._cut.limit, parquet.rows)
            scan_rows(parquet, prompts, mode, checker, rows, on_progress)
            shards, columns = shards_of(parquet, rows, self._cut.shard_rows), dict.fromkeys(parquet.names, 0)
        if rows == 0:
            raise InputError(f"{_shown_input(self._job.input.path)}: there are no rows in it")
        checker.finish()
        return Scan(
            format=sources[0].format,
            mode=mode,
            limit=self._cut.limit,
            sources=sources,
            stamps=stamps,
            digests=digests,
            paths=paths,
            sizes=tuple(stamp(path).size for path in paths),
            rows=rows,
            shard_rows=self._cut.shard_rows,
            shards=shards,
            columns=columns,
            models=checker.models,
            required=tuple(sorted(prompts.required)),
            bad_rows=checker.bad_rows,
            model_column=self._job.input.model,
            types=column_type_names(self._job),
            param_columns=tuple(sorted(prompts.param_columns & columns.keys())),
        )


class _Files(msgspec.Struct, frozen=True):
    """Where the sources can be read, and digests of those that were spooled."""

    paths: tuple[str, ...]
    digests: tuple[str, ...]


def _shown_input(path: str) -> str:
    return "stdin" if path == STDIN else shown(path)
