"""Reads a job's input after its scan: requests and carried columns of any shard, in any order, any number of times."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, cast

import msgspec
import pyarrow as pa

from batchmix.answers.asking import Asking, Way
from batchmix.errors import InputChanged, InputError
from batchmix.job import QUERY, CheckedJob, Model
from batchmix.load.carried_columns import carried_columns
from batchmix.load.decompress import piped
from batchmix.load.parameters import warn_unsent_columns
from batchmix.load.prompt_sources import PromptSources
from batchmix.load.prompts import Mode, has_template
from batchmix.load.query import query_result
from batchmix.load.requests import RequestBuilder
from batchmix.load.row_reader import changed
from batchmix.load.run_rows import RunReader
from batchmix.load.scan import Scan, ScanOptions
from batchmix.load.scanner import InputScanner
from batchmix.load.sources import open_reader
from batchmix.load.spool import drop_others, remove_spool
from batchmix.load.template_check import check_template_columns
from batchmix.records import Failure, RejectedRow, Request
from batchmix.responses.streaming import STREAMING

_BATCH_REQUESTS = 128


class Dataset:
    """A scanned input. Several threads may read it at once, each with its own `requests` and `carried` iterators."""

    def __init__(
        self,
        prompt_sources: PromptSources,
        scan: Scan,
        spool: Path,
        new_spool: Path | None,
        reserved: frozenset[str],
    ) -> None:
        job = prompt_sources.job
        self.scan = scan
        self._job = job
        self._spool = spool
        """The folder below which the input was spooled, perhaps along with earlier inputs of the run."""
        self._new_spool = new_spool
        """The folder with the files that this start spooled. None if it spooled nothing."""
        self._reader = open_reader(scan.sources, scan.paths)
        self._prompts = prompt_sources.source(scan.mode, scan.columns)
        check_template_columns(job, scan, prompt_sources.template.reads if has_template(job) else None)
        warn_unsent_columns(job, scan.columns, scan.mode, self._prompts.param_columns)
        self._carried = carried_columns(job, scan, self._reader, reserved)
        self.carried_schema: pa.Schema = self._carried.schema
        """The schema of the batches of `carried`: `custom_id`, then carried columns by their names in the output."""
        self.row_params = tuple(sorted(self._prompts.param_columns))
        """The input columns that are sent as request parameters, sorted."""
        self.has_paths = scan.mode is Mode.BATCH
        """Whether each row names the URL path that it is sent to. If so, one input may have several paths."""
        self.models = job.models or tuple(
            Model(name, name, job.params, job.limits, places=job.places) for name in scan.models
        )
        """The models to which requests are sent: the job's models, or else the models that the rows name."""

    def settle_ways(self, ways: Mapping[str, str]) -> None:
        """Set how the schema of the answers is sent to each model, by the models' names."""
        self.models = tuple(msgspec.structs.replace(model, way=ways[model.name]) for model in self.models)

    def parts_of(self, shard: int) -> set[int]:
        """Return which parts of the run that is the input have the rows of a shard. Empty for any other input."""
        span = self.scan.shards[shard]
        return self._reader.parts_of(span) if isinstance(self._reader, RunReader) else set()

    def arrived(self, shard: int) -> None:
        """Take note of the input of a shard, which was not there, or not final, during the scan."""
        assert isinstance(self._reader, RunReader)
        shards = list(self.scan.shards)
        shards[shard] = self._reader.digested(shards[shard])
        self.scan = msgspec.structs.replace(self.scan, shards=tuple(shards))

    def prove(self) -> None:
        """Check that every row's values fit the carried columns, unless a scan has checked that already.

        Raises `InputError`.
        """
        self.scan = msgspec.structs.replace(self.scan, proven=self._reader.prove(self._carried, self.scan))

    def requests(
        self, shard: int, model: Model, rows: frozenset[int] | None = None
    ) -> Iterator[list[Request | RejectedRow]]:
        """Yield a shard's requests to a model in row order, in lists of about a hundred.

        If `rows` is given, only the requests of these rows are yielded. If rows name their models, only rows that name
        this model are included. A row that is too bad to name a model is included for the first model. Raises
        `InputChanged`.
        """
        asking = self._asking(model)
        builder = RequestBuilder(self._prompts, model, self._job.samples, self._job.provider.path, asking)
        takes_bad = self._job.models or not self.scan.models or self.scan.models[0] == model.name
        span, problem_of = self.scan.shards[shard], self._prompts.problem
        built: list[Request | RejectedRow] = []
        with _changes_reported():
            for batch in self._reader.rows(span, self._prompts, model.name):
                for index, row, line in batch:
                    if isinstance(row, Failure):
                        if takes_bad and (rows is None or index in rows):
                            built += builder.refused(index, row)
                        continue
                    problem = row if isinstance(row, str) else problem_of(row)
                    if (
                        problem is not None
                        and not self.scan.bad_rows
                        and not self._reader.is_unchanged(span, self.scan)
                    ):
                        raise changed(span)
                    if rows is not None and index not in rows:
                        continue
                    if problem is None and not isinstance(row, str):
                        built += builder.requests(index, row, line)
                    elif takes_bad:
                        built += builder.rejected(index, f"{self._reader.place(index, line)}: {problem}")
                    if len(built) >= _BATCH_REQUESTS:
                        yield built
                        built = []
                if built and len(batch) < _BATCH_REQUESTS:  # their rows are long
                    yield built
                    built = []
        if built:
            yield built

    def carried(self, shard: int) -> Iterator[pa.RecordBatch]:
        """Yield the carried columns of a shard in batches, one record per row, in order. Raises `InputChanged`."""
        span = self.scan.shards[shard]
        with _changes_reported():
            try:
                yield from self._reader.carried(span, self._carried, self.scan)
            except (pa.ArrowException, OverflowError, ValueError, TypeError, AttributeError):
                if not self._reader.is_unchanged(span, self.scan):  # the file now has values of other types
                    raise changed(span) from None
                raise

    def place_of(self, request: Request, model: Model, parameter: str) -> str:
        """Return where the user finds a parameter of a request: in the job file, or at a row that has the parameter."""
        name = parameter.partition(".")[0]
        asking = self._asking(model)
        body = json.loads(request.body) if asking or self._prompts.has_row_params else {}
        if asking and asking.has_put(name, body):
            return "it holds the schema of [answer]; choose another answer.send, such as prompt"
        # STREAMING keys may be in the body without being in the row.
        in_row = self._prompts.has_row_params and name not in STREAMING and name in body
        if in_row and (name not in model.params or body[name] != model.params[name]):
            return self._reader.place(request.row, request.line)
        return model.places.get(name, "[params]")

    def _asking(self, model: Model) -> Asking | None:
        answer = self._job.answer
        return Asking(answer.schema, cast("Way", model.way)) if answer and model.way else None

    def drop_stale_spools(self) -> None:
        """Remove the spooled files of earlier inputs. Call this only once the current input is accepted."""
        drop_others(self._spool, {Path(path).parent for path in self.scan.paths})
        self._new_spool = None

    def discard(self) -> None:
        """Remove the files that this start spooled, because the input was not accepted."""
        if self._new_spool is not None:
            remove_spool(self._new_spool)


@contextlib.contextmanager
def _changes_reported() -> Iterator[None]:
    """Raise `InputChanged` instead of `InputError`: the scan could read the file, so the file has changed since."""
    try:
        yield
    except InputError as error:
        raise InputChanged(f"{error}; the answers so far are kept; give the same command again") from error


def open_dataset(
    job: CheckedJob,
    options: ScanOptions,
    *,
    spool: Path,
    previous: Scan | None = None,
    stdin: BinaryIO | None = None,
) -> Dataset:
    """Scan the job's input, and return it as a `Dataset`.

    `previous` is an earlier scan, which is reused if nothing changed. `spool` is the folder for spooled files. `stdin`
    replaces the process's standard input. Raises `InputError` or `JobError` if something is wrong with the input or the
    job, and `NoSpace` if the disk is too full to spool the input.
    """
    prompt_sources = PromptSources(job)
    has_result = previous is not None and previous.sources[0].path == job.input.path and not options.query_again
    queried = contextlib.nullcontext() if has_result else query_result(job.input.path, spool)
    with queried if job.input.path.startswith(QUERY) else piped(stdin, job.input.path) as stream:
        scan, new_spool = InputScanner(prompt_sources, options, spool).scan(previous, stream)
    try:
        dataset = Dataset(prompt_sources, scan, spool, new_spool, options.reserved)
        dataset.prove()
    except BaseException:
        if new_spool is not None:
            remove_spool(new_spool)
        raise
    return dataset
