"""The room's face: an input that was scanned, whose shards can be read in any order, any number of times."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from batchmix.errors import InputChanged
from batchmix.job import Job, Model
from batchmix.load.carried import Carried, carried_columns
from batchmix.load.files import Source
from batchmix.load.jsonl import BadLineError, decode_row, read_lines, segments_digest, stripped
from batchmix.load.kinds import json_text, utf8
from batchmix.load.opening import Opening, asking_for
from batchmix.load.parquet import Cursor, ParquetInput, plain_values
from batchmix.load.requests import Maker
from batchmix.load.scan import Scan, Span
from batchmix.load.spool import drop_others
from batchmix.records import Request, Unsendable

_BATCH_REQUESTS = 128
_CARRIED_ROWS = 256


class Dataset:
    """A scanned input.

    Each of `requests` and `carried` may be read from one thread at a time; they don't disturb each other.
    """

    def __init__(self, job: Job, scan: Scan, spool: Path, new_spool: Path | None, reserved: frozenset[str]) -> None:
        self.scan = scan
        self._job = job
        self._spool = spool
        self._new_spool = new_spool
        self._parquet = ParquetInput(list(scan.paths)) if scan.format == "parquet" else None
        self._asking = asking_for(job, scan.mode)
        self._carried = carried_columns(job, scan, self._parquet, reserved)
        self._cursors: dict[str, Cursor] = {}

    @property
    def carried_schema(self) -> pa.Schema:
        """`custom_id` first, then the carried columns under their names in the output."""
        return self._carried.schema

    @property
    def rejected_rows(self) -> int:
        """Bad rows that were let through to be rejected one by one."""
        return self.scan.bad_rows

    def requests(self, shard: int, model: Model) -> Iterator[list[Request | Unsendable]]:
        """Yield a shard's requests to a model in row order, in lists of some hundred.

        Where rows name their models, only those of this one. Raises `InputChanged`.
        """
        maker = Maker(self._asking, model, self._job.samples, self._job.provider.path)
        made: list[Request | Unsendable] = []
        for index, row in self._rows(self.scan.spans[shard], model.name):
            if isinstance(row, str):
                made += maker.unsendable(index, row)
            else:
                made += maker.requests(index, row)
            if len(made) >= _BATCH_REQUESTS:
                yield made
                made = []
        if made:
            yield made

    def carried(self, shard: int) -> Iterator[pa.RecordBatch]:
        """Yield the carried columns of a shard, one record for each row, in order. Raises `InputChanged`."""
        span = self.scan.spans[shard]
        if self._parquet is not None:
            for first, batch in self._parquet_batches(span, self._carried.sources, "carried"):
                yield self._carried.from_arrow(first, batch)
        else:
            waiting: list[tuple[int, dict[str, Any]]] = []
            for index, row in self._json_rows(span):
                waiting.append((index, {} if isinstance(row, str) else row))
                if len(waiting) == _CARRIED_ROWS:
                    yield self._carried.from_json(waiting)
                    waiting = []
            if waiting:
                yield self._carried.from_json(waiting)
        self._check(span)

    def drop_stale_spools(self) -> None:
        """Remove what was spooled for earlier inputs, now that this one was accepted."""
        drop_others(self._spool, {Path(path).parent for path in self.scan.paths})
        self._new_spool = None

    def discard(self) -> None:
        """Remove what was spooled for this input, which was not accepted."""
        if self._new_spool is not None:
            drop_others(self._spool, set(self._spool.iterdir()) - {self._new_spool})

    def _check(self, span: Span) -> None:
        """Raise `InputChanged` if the bytes of a shard are no longer those of the scan."""
        if self._parquet is not None:
            digest = span_digests(self._parquet, [(span.first, span.stop)])[0]
        else:
            digest = segments_digest(list(self.scan.paths), span.segments)
        if digest != span.digest:
            raise InputChanged(
                f"the input changed while it was being worked on (rows {span.first} to {span.stop - 1});"
                " what was answered is kept; give the same command again"
            )

    def _rows(self, span: Span, purpose: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
        """Yield (index, row, or what is wrong with it) with the columns that requests are made from."""
        if self._parquet is None:
            checked = self.scan.bad_rows > 0
            for index, row in self._json_rows(span):
                problem = self._asking.problem(row) if checked and not isinstance(row, str) else None
                yield index, row if problem is None else problem
            return
        names = self._parquet.schema.names
        columns = [name for name in names if self._asking.reads is None or name in self._asking.reads]
        for first, batch in self._parquet_batches(span, columns, purpose):
            for offset, values in enumerate(batch.to_pylist()):
                row = parquet_row(values, self.scan.mode)
                yield first + offset, self._asking.problem(row) or row

    def _parquet_batches(self, span: Span, columns: list[str], purpose: str) -> Iterator[tuple[int, pa.RecordBatch]]:
        assert self._parquet is not None
        cursor = self._cursors.get(purpose)
        if cursor is None:
            cursor = self._cursors[purpose] = Cursor(self._parquet, columns)
        first = span.first
        for batch in cursor.read(span.first, span.stop):
            yield first, batch
            first += batch.num_rows

    def _json_rows(self, span: Span) -> Iterator[tuple[int, dict[str, Any] | str]]:
        index = span.first
        for segment in span.segments:
            for number, raw in read_lines(self.scan.paths[segment.file], segment):
                line = stripped(number, raw)
                if not line:
                    continue
                if index >= span.stop:
                    break
                try:
                    yield index, decode_row(line)
                except BadLineError as error:
                    if not self.scan.bad_rows:
                        self._check(span)
                    yield index, f"line {number} {error}"
                index += 1
        if index != span.stop:
            self._check(span)


def parquet_row(values: dict[str, Any], mode: str) -> dict[str, Any]:
    """Return a Parquet row as JSON would have given it: `messages` and `body` may come as structs or as JSON text."""
    if mode == "template":
        return values
    row = dict(values)
    for name in ("messages", "body"):
        value = row.get(name)
        if isinstance(value, str):
            try:
                row[name] = decode_row(b'{"v":%b}' % value.encode())["v"]
            except (BadLineError, UnicodeEncodeError):
                continue
        elif value is not None:
            row[name] = plain_values(value)
    return row


def span_digests(source: ParquetInput, ranges: list[tuple[int, int]]) -> list[str]:
    """Return the digest of each range of rows: of the bytes of the row groups that hold them."""
    import hashlib

    groups = source.digests()
    found = []
    for first, stop in ranges:
        here = [(max(first, a) - a, min(stop, b) - a, digest) for a, b, digest in groups if a < stop and b > first]
        found.append(hashlib.sha256(repr(here).encode()).hexdigest()[:32])
    return found


def open_dataset(
    job: Job,
    *,
    spool: Path,
    shard_rows: int,
    known: Scan | None = None,
    limit: int | None = None,
    reject_bad_rows: bool = False,
    reserved: frozenset[str] = frozenset(),
    stdin: BinaryIO | None = None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Dataset:
    """Return the job's input, scanned; `known` is an earlier scan, which is trusted where nothing has changed.

    `reserved` are names that no carried column may have. Raises `InputError` and `JobError` before anything is sent,
    and `NoSpace` where compressed input can't be spooled.
    """
    opening = Opening(job, spool, shard_rows, limit, reject=reject_bad_rows)
    scan, new_spool = opening.scan(known, stdin, on_progress)
    try:
        return Dataset(job, scan, spool, new_spool, reserved)
    except BaseException:
        if new_spool is not None:
            drop_others(spool, set(spool.iterdir()) - {new_spool})
        raise


__all__ = ["Carried", "Dataset", "Source", "json_text", "open_dataset", "utf8"]
