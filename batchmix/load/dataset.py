"""The room's face: an input that was scanned, whose shards can be read in any order, any number of times."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import pyarrow as pa

from batchmix.errors import InputChanged, InputError
from batchmix.job import Job, Model
from batchmix.load.arrow_rows import row_dicts
from batchmix.load.carried_columns import carried_columns
from batchmix.load.csv_lines import decoder_of
from batchmix.load.decompress import piped
from batchmix.load.jsonl import BadLineError, digest_text, read_lines, segments_digest, stripped
from batchmix.load.opening import Opening
from batchmix.load.parquet import Cursor, ParquetInput
from batchmix.load.parquet_scan import columns_read
from batchmix.load.prompts import prompt_source
from batchmix.load.requests import RequestBuilder
from batchmix.load.row_params import warn_unsent_columns
from batchmix.load.scan import Scan, ScanOptions, ShardRange
from batchmix.load.sources import stamp
from batchmix.load.spool import drop_others, remove_spool
from batchmix.load.streaming import STREAMING
from batchmix.load.template_check import check_reads
from batchmix.records import RejectedRow, Request

_BATCH_REQUESTS = 128
_CARRIED_ROWS = 256

_Line = tuple[int, int] | None
"""Number of the file and of the line in it; None for Parquet."""
_Row = tuple[int, dict[str, Any] | str, _Line]
"""A row's index, its values or what is wrong with it, and where it stands."""


class Dataset:
    """A scanned input.

    Each pass over `requests` or `carried` may be read from one thread at a time; passes don't disturb each other.
    """

    def __init__(self, job: Job, scan: Scan, spool: Path, new_spool: Path | None, reserved: frozenset[str]) -> None:
        self.scan = scan
        self._job = job
        self._spool = spool
        self._new_spool = new_spool
        self._parquet = ParquetInput(list(scan.paths)) if scan.format == "parquet" else None
        self._decode = decoder_of(scan.format)
        self._prompts = prompt_source(job, scan.mode, scan.columns)
        check_reads(job, scan, self._prompts.reads)
        warn_unsent_columns(job, scan.columns, scan.mode, self._prompts.param_columns)
        self._carried = carried_columns(job, scan, self._parquet, reserved)
        self._parked: dict[tuple[str, str], Cursor] = {}

    @property
    def carried_schema(self) -> pa.Schema:
        """`custom_id` first, then the carried columns under their names in the output."""
        return self._carried.schema

    @property
    def row_params(self) -> tuple[str, ...]:
        """Columns that are sent as parameters of the rows' own."""
        return tuple(sorted(self._prompts.param_columns))

    def prove(self) -> None:
        """Make sure that the carried columns can be made of each row, as far as no scan did. Raises `InputError`."""
        if self._parquet is not None:
            proven = self._carried.prove(self._parquet, self.scan.rows, self.scan.proven)
            self.scan = msgspec.structs.replace(self.scan, proven=proven)

    @property
    def has_paths(self) -> bool:
        """Whether rows name the path that they go to, so that there may be several."""
        return self.scan.mode == "batch"

    def requests(
        self, shard: int, model: Model, rows: frozenset[int] | None = None
    ) -> Iterator[list[Request | RejectedRow]]:
        """Yield a shard's requests to a model in row order, in lists of some hundred; of `rows` only, if given.

        Where rows name their models, only those of this one; rows too bad to name one go to the first model. Raises
        `InputChanged`.
        """
        maker = RequestBuilder(self._prompts, model, self._job.samples, self._job.provider.path)
        takes_bad = self._job.models or not self.scan.models or self.scan.models[0] == model.name
        made: list[Request | RejectedRow] = []
        with self._reading():
            for index, row, line in self._rows(self.scan.shards[shard], model.name):
                if rows is not None and index not in rows:
                    continue
                if not isinstance(row, str):
                    made += maker.requests(index, row, line)
                elif takes_bad:
                    made += maker.rejected(index, row)
                if len(made) >= _BATCH_REQUESTS:
                    yield made
                    made = []
        if made:
            yield made

    def carried(self, shard: int) -> Iterator[pa.RecordBatch]:
        """Yield the carried columns of a shard, one record for each row, in order. Raises `InputChanged`."""
        span = self.scan.shards[shard]
        with self._reading():
            try:
                yield from self._carried_json(span) if self._parquet is None else self._carried_parquet(span)
            except (pa.ArrowException, OverflowError, ValueError, TypeError, AttributeError):
                self._check(span)  # values of other types than the scan's
                raise

    def _carried_parquet(self, span: ShardRange) -> Iterator[pa.RecordBatch]:
        for first, batch in self._parquet_batches(span, self._carried.sources, ("carried", "")):
            yield self._carried.from_arrow(first, batch)
        self._check(span)

    def _carried_json(self, span: ShardRange) -> Iterator[pa.RecordBatch]:
        digest = hashlib.sha256()
        waiting: list[tuple[int, dict[str, Any]]] = []
        for index, row, _ in self._json_rows(span, digest):
            waiting.append((index, {} if isinstance(row, str) else row))
            if len(waiting) == _CARRIED_ROWS:
                yield self._carried.from_json(waiting)
                waiting = []
        if waiting:
            yield self._carried.from_json(waiting)
        if digest_text(digest) != span.digest:
            raise _changed(span)

    def place_of(self, request: Request, model: Model, parameter: str) -> str:
        """Return where a person finds a parameter of a request: in the job, or in the row that brings its own."""
        name = parameter.partition(".")[0]
        own = self._prompts.has_row_params and name not in STREAMING  # a body may be streamed without having said so
        body = json.loads(request.body) if own else {}
        if name in body and (name not in model.params or body[name] != model.params[name]):
            return self._place(request.row, request.line)
        return model.places.get(name, "[params]")

    def drop_stale_spools(self) -> None:
        """Remove what was spooled for earlier inputs, now that this one was accepted."""
        drop_others(self._spool, {Path(path).parent for path in self.scan.paths})
        self._new_spool = None

    def discard(self) -> None:
        """Remove what was spooled for this input, which was not accepted."""
        if self._new_spool is not None:
            remove_spool(self._new_spool)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        """Tell errors of a file that the scan could read as what they are: changes."""
        try:
            yield
        except InputError as error:
            raise InputChanged(f"{error}; what was answered is kept; give the same command again") from error

    def _check(self, span: ShardRange) -> None:
        """Raise `InputChanged` if the bytes of a shard are no longer those of the scan."""
        if self._parquet is None:
            digest = segments_digest(list(self.scan.paths), span.segments)
        elif all(self._is_unchanged(file) for file in self._parquet.files_of(span.first, span.stop)):
            return
        else:
            digest = self._parquet.digests([(span.first, span.stop)])[0]
        if digest != span.digest:
            raise _changed(span)

    def _is_unchanged(self, file: int) -> bool:
        then = self.scan.stamps[file]
        return then is not None and then.proves(stamp(self.scan.paths[file]))

    def _rows(self, span: ShardRange, model: str) -> Iterator[_Row]:
        """Yield the rows of a shard, with the columns that requests need."""
        rows = self._json_rows(span) if self._parquet is None else self._parquet_rows(span, model)
        for index, row, where in rows:
            problem = row if isinstance(row, str) else self._prompts.problem(row)
            if problem is None:
                yield index, row, where
                continue
            if not self.scan.bad_rows:
                self._check(span)
            yield index, f"{self._place(index, where)}: {problem}", where

    def _place(self, index: int, where: _Line) -> str:
        if where is None:
            assert self._parquet is not None
            return self._parquet.place(index)
        file, number = where
        return f"{self.scan.sources[file].name}:{number}"

    def _parquet_rows(self, span: ShardRange, model: str) -> Iterator[_Row]:
        assert self._parquet is not None
        columns = columns_read(self._parquet, self._prompts)
        for first, batch in self._parquet_batches(span, columns, ("requests", model)):
            for index, row in enumerate(row_dicts(batch, self.scan.mode), first):
                yield index, row, None

    def _parquet_batches(
        self, span: ShardRange, columns: list[str], purpose: tuple[str, str]
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        assert self._parquet is not None
        # A pass takes the cursor that the last pass of its kind has left; two at once each have their own.
        cursor = self._parked.pop(purpose, None) or Cursor(self._parquet, columns)
        first = span.first
        for batch in cursor.read(span.first, span.stop):
            yield first, batch
            first += batch.num_rows
        self._parked[purpose] = cursor

    def _json_rows(self, span: ShardRange, digest: Any = None) -> Iterator[_Row]:
        """Yield a shard's rows; all bytes that are read go into `digest`."""
        index = span.first
        for segment in span.segments:
            for number, raw in read_lines(self.scan.paths[segment.file], segment):
                if digest is not None:
                    digest.update(raw)
                line = stripped(number, raw)
                if not line:
                    continue
                if index == span.stop:
                    raise _changed(span)
                try:
                    row: dict[str, Any] | str = self._decode(line)
                except BadLineError as error:
                    row = str(error)
                yield index, row, (segment.file, number)
                index += 1
        if index != span.stop:
            raise _changed(span)


def _changed(span: ShardRange) -> InputChanged:
    return InputChanged(
        f"the input changed while it was being worked on (rows {span.first} to {span.stop - 1}); what was answered is"
        " kept; give the same command again"
    )


def open_dataset(  # noqa: PLR0913 - the room's face; all but three are options
    job: Job,
    cut: ScanOptions,
    *,
    spool: Path,
    previous: Scan | None = None,
    reserved: frozenset[str] = frozenset(),
    stdin: BinaryIO | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Dataset:
    """Return the job's input, scanned; `previous` is an earlier scan, which is trusted where nothing has changed.

    `reserved` are names that no carried column may have; `stdin` stands in for the real one; `on_progress` is given
    the rows scanned so far. Raises `InputError` and `JobError` before anything is sent, and `NoSpace` where compressed
    input can't be spooled.
    """
    opening = Opening(job, cut, spool)
    with piped(stdin, job.input.path) as stream:
        scan, new_spool = opening.scan(previous, stream, on_progress or _ignore)
    try:
        dataset = Dataset(job, scan, spool, new_spool, reserved)
        dataset.prove()
    except BaseException:
        if new_spool is not None:
            remove_spool(new_spool)
        raise
    return dataset


def _ignore(_: int) -> None:
    pass
