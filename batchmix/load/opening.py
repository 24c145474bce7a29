"""How an input is opened: found, spooled if need be, and scanned or known from before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from batchmix.errors import InputError
from batchmix.job import Job
from batchmix.load.files import JSONL, PARQUET, Source, Stamp, file_digest, find_sources, one_format, shown, stamp
from batchmix.load.jsonl import BadLineError, Segment, decode_row, read_lines, segments_digest, stripped
from batchmix.load.parquet import Cursor, ParquetInput
from batchmix.load.requests import Asking, BatchAsking, PlainAsking, TemplateAsking
from batchmix.load.scan import BadRows, JsonlScan, Models, Scan, Span
from batchmix.load.spool import STDIN, Spool, first_block, standard_input, with_first

Progress = Callable[[int], None]


def asking_for(job: Job, mode: str) -> Asking:
    """Return how rows become requests in a mode. Raises `JobError`."""
    modes: dict[str, Callable[[Job], Asking]] = {"template": TemplateAsking, "plain": PlainAsking, "batch": BatchAsking}
    return modes[mode](job)


class Opening:
    """One opening of a job's input."""

    def __init__(self, job: Job, spool: Path, shard_rows: int, limit: int | None, *, reject: bool) -> None:
        self._job = job
        self._spool_root = spool
        self._shard_rows = shard_rows
        self._limit = limit
        self._reject = reject
        self._spool: Spool | None = None

    def scan(self, known: Scan | None, stdin: BinaryIO | None, on_progress: Progress) -> tuple[Scan, Path | None]:
        """Return the scan, and the folder of what was newly spooled. Raises `InputError` and `NoSpace`."""
        if self._job.input.path == STDIN:
            sources: tuple[Source, ...] = (Source(STDIN, JSONL),)
        else:
            sources = find_sources(self._job.input.path)
        if self._job.input.prompt is not None or self._job.input.messages is not None:
            asking_for(self._job, "template")  # an error in a template is found before the data is touched
        kind = one_format(sources)
        stamps = tuple(None if source.path == STDIN else stamp(source.path) for source in sources)
        stream = self._piped(known, stdin) if kind == JSONL and sources[0].path == STDIN else None
        if known is not None and stream is None and self._is_same(known, sources, stamps):
            return known, None
        try:
            return self._new_scan(known, sources, stamps, stream, on_progress)
        except BaseException:
            if self._spool is not None:
                self._spool.discard()
            raise

    def _piped(self, known: Scan | None, stdin: BinaryIO | None) -> Any:
        """Return stdin with rows in it, or None where it is empty or a terminal, which means to resume."""
        stream = stdin if stdin is not None else standard_input()
        first = first_block(stream) if stream is not None else b""
        if first and stream is not None:
            return with_first(first, stream)
        if known is None or known.sources[0].path != STDIN:
            raise InputError("stdin is empty; pipe the rows in: batchmix run - … < prompts.jsonl")
        return None

    def _is_same(self, known: Scan, sources: tuple[Source, ...], stamps: tuple[Stamp | None, ...]) -> bool:
        """Return whether an earlier scan still says everything."""
        job_columns = () if known.mode == "batch" else asking_for(self._job, known.mode).used
        collects = known.mode == "batch" and not self._job.models
        if (
            known.sources != sources
            or known.limit != self._limit
            or known.shard_rows != self._shard_rows
            or (known.bad_rows > 0 and not self._reject)
            or (known.mode == "template") != (self._job.input.prompt is not None or self._job.input.messages is not None)
            or not set(job_columns) <= set(known.used)
            or (collects and not known.models)
        ):
            return False
        if known.mode == "plain" and self._job.input.system is not None and "messages" in known.kinds:
            return False
        return all(self._is_same_file(known, number, now) for number, now in enumerate(stamps)) and _spans_hold(known, stamps)

    def _is_same_file(self, known: Scan, number: int, now: Stamp | None) -> bool:
        spooled = known.paths[number] != known.sources[number].path
        if spooled and not _has_size(known.paths[number], known.sizes[number]):
            if now is None:
                raise InputError("what was spooled of stdin is gone; pipe the rows in again")
            return False
        if now is None or _unchanged(known.stamps[number], now):
            return True
        if spooled:
            return file_digest(known.sources[number].path) == known.digests[number]
        return now.size == known.sizes[number]

    def _new_scan(
        self, known: Scan | None, sources: tuple[Source, ...], stamps: tuple[Stamp | None, ...], stream: Any,
        on_progress: Progress,
    ) -> tuple[Scan, Path | None]:  # fmt: skip
        paths, digests = self._spooled(sources, stream)
        if self._spool is not None:
            self._spool.finish()
        scan = self._scanned(sources, stamps, paths, digests, on_progress)
        if scan.rows == 0:
            raise InputError(f"{_label(sources[0])}: there are no rows in it")
        same = known is not None and known.sources == sources and known.spans and _contents(known) == _contents(scan)
        if same and known is not None and self._spool is not None and all(_has_size(*pair) for pair in zip(known.paths, known.sizes, strict=True)):
            self._spool.discard()
            return known, None
        return scan, self._spool.folder if self._spool is not None else None

    def _spooled(self, sources: tuple[Source, ...], stream: Any) -> tuple[list[str], list[str]]:
        """Return where each source can be read, and digests of those that were spooled."""
        paths, digests = [], []
        for number, source in enumerate(sources):
            if source.path != STDIN and source.compression is None:
                paths.append(source.path)
                digests.append("")
                continue
            if self._spool is None:
                self._spool = Spool(self._spool_root)
            path, digest = self._spool.add(number, source, stream if source.path == STDIN else None)
            paths.append(path)
            digests.append(digest if source.path == STDIN else file_digest(source.path))
        return paths, digests

    def _scanned(
        self, sources: tuple[Source, ...], stamps: tuple[Stamp | None, ...], paths: list[str], digests: list[str],
        on_progress: Progress,
    ) -> Scan:  # fmt: skip
        labels = [_label(source) for source in sources]
        parquet = ParquetInput(paths) if sources[0].format == PARQUET else None
        mode = self._mode(_first_row(paths) if parquet is None else dict.fromkeys(parquet.schema.names))
        asking = asking_for(self._job, mode)
        bad = BadRows(reject=self._reject)
        models = Models(collect=mode == "batch" and not self._job.models)
        if parquet is None:
            scanning = JsonlScan(paths, labels, asking.problem, bad, models)
            scanning.run(self._shard_rows, self._limit, on_progress)
            rows, spans, kinds = scanning.rows, tuple(scanning.spans), scanning.kinds
        else:
            rows, spans = self._scan_parquet(parquet, asking, mode, bad, models, on_progress)
            kinds = dict.fromkeys(parquet.schema.names, 0)
        bad.refuse_any()
        return Scan(
            format=sources[0].format,
            mode=mode,
            limit=self._limit,
            sources=sources,
            stamps=stamps,
            digests=tuple(digests),
            paths=tuple(paths),
            sizes=tuple(Path(path).stat().st_size for path in paths),
            rows=rows,
            shard_rows=self._shard_rows,
            spans=spans,
            kinds=kinds,
            models=models.names,
            used=tuple(sorted(asking.used)),
            bad_rows=bad.count,
        )

    def _mode(self, first: dict[str, Any]) -> str:
        if self._job.input.prompt is not None or self._job.input.messages is not None:
            return "template"
        if "body" in first and first.keys() & {"custom_id", "method", "url"}:
            return "batch"
        return "plain"

    def _scan_parquet(
        self, parquet: ParquetInput, asking: Asking, mode: str, bad: BadRows, models: Models, on_progress: Progress
    ) -> tuple[int, tuple[Span, ...]]:
        """Read the columns that requests are made from through once."""
        from batchmix.load.dataset import parquet_row, span_digests

        names = parquet.schema.names
        rows = parquet.rows if self._limit is None else min(self._limit, parquet.rows)
        missing = asking.problem(dict.fromkeys(names)) if mode != "batch" else None
        if missing is not None and rows and "has" in missing.split()[:1]:
            raise InputError(f"{parquet.place(0).rpartition(', ')[0]}: {missing}")
        columns = [name for name in names if asking.reads is None or name in asking.reads]
        seen = 0
        for batch in Cursor(parquet, columns).read(0, rows) if columns else ():
            for values in batch.to_pylist():
                row = parquet_row(values, mode)
                problem = asking.problem(row)
                if problem is not None:
                    bad.add(parquet.place(seen), problem)
                else:
                    models.note(row)
                seen += 1
            on_progress(seen)
        ranges = [(first, min(first + self._shard_rows, rows)) for first in range(0, rows, self._shard_rows)]
        digests = span_digests(parquet, ranges)
        return rows, tuple(Span(first, stop, digest) for (first, stop), digest in zip(ranges, digests, strict=True))


def _label(source: Source) -> str:
    return "stdin" if source.path == STDIN else source.label


def _first_row(paths: list[str]) -> dict[str, Any]:
    """Return the first row that can be read, which says what kind of rows these are."""
    for path in paths:
        for number, raw in read_lines(path, Segment(0, 0, 1 << 62, 1)):
            line = stripped(number, raw)
            if line:
                try:
                    return decode_row(line)
                except BadLineError:
                    continue
    return {}


def _unchanged(then: Stamp | None, now: Stamp) -> bool:
    return (
        then is not None
        and then.settled
        and (then.size, then.mtime_ns, then.ctime_ns, then.inode) == (now.size, now.mtime_ns, now.ctime_ns, now.inode)
    )


def _has_size(path: str, size: int) -> bool:
    try:
        return Path(path).stat().st_size == size
    except OSError:
        return False


def _spans_hold(known: Scan, stamps: tuple[Stamp | None, ...]) -> bool:
    """Return whether all bytes are those of the scan; files whose stamps say so are believed."""
    trusted = all(
        known.paths[number] != known.sources[number].path or (now is not None and _unchanged(known.stamps[number], now))
        for number, now in enumerate(stamps)
    )
    if trusted:
        return True
    if known.format == PARQUET:
        from batchmix.load.dataset import span_digests

        parquet = ParquetInput(list(known.paths))
        return span_digests(parquet, [(span.first, span.stop) for span in known.spans]) == [
            span.digest for span in known.spans
        ]
    return all(segments_digest(list(known.paths), span.segments) == span.digest for span in known.spans)


def _contents(scan: Scan) -> list[Any]:
    return [scan.limit, scan.shard_rows, scan.mode, [span.digest for span in scan.spans], scan.kinds, scan.models, scan.bad_rows]


__all__ = ["Opening", "asking_for", "shown"]
