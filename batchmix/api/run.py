"""A run as a Python object: its results as tables or values, its state, and what can be done with it next."""

from __future__ import annotations

import contextlib
import os
import weakref
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Unpack, overload

import pyarrow as pa

from batchmix.api.results import Result, results_in
from batchmix.api.settings import Settings
from batchmix.engine import reader
from batchmix.engine.canary import Forecast
from batchmix.errors import PartDamaged, RowsFailed, UsageError
from batchmix.formats.amounts import counted
from batchmix.formats.pyarrow_setup import compute
from batchmix.job import CheckedJob
from batchmix.records import SKIPPED, Status
from batchmix.store.view import View
from batchmix.store.working_copy import read_copy

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

    from batchmix.verdict.outcome import Evaluation

T = TypeVar("T")

_FAILURE_COLUMNS = (
    "row", "custom_id", "model", "sample", "status", "error_type", "error_code", "error_message", "http_status",
    "attempts",
)  # fmt: skip


class Run:
    """A run folder: what was answered so far, and how it goes on.

    `bm.run` returns it; `bm.open` opens any run folder, also one that the command line made, also while it runs. Each
    attribute and method reads the folder anew. All raise `RunError` if the folder is not a run folder.

    >>> run = bm.run([{"text": "I loved it"}], "Classify: {{ text }}", model="gpt-4o-mini", base_url="rehearsal:")
    >>> run.status, len(run), run.folder.parent.name
    ('finished', 1, 'runs')
    """

    def __init__(self, folder: Path, job: CheckedJob | None = None, answer_class: type | None = None) -> None:
        self.folder = folder
        """The run folder. Of a run in object storage, a copy of what was there when it was opened, or had ended."""
        self.url: str | None = None
        """The URL of a run in object storage. None for a folder on this machine."""
        self._job = job
        """The job, if this process ran it. None if only the run folder has it, without secrets."""
        self._answer_class = answer_class
        """The class that the call gave as the schema of the answers."""
        self.forecast: Forecast | None = None
        """After a canary: the tokens, the cost and the time of the rest."""
        self.evaluation: Evaluation | None = None
        """After a job with `[eval]`: the scores. `bm.evaluate` evaluates any run."""
        self.warnings: tuple[str, ...] = ()
        """What the command line would have warned of at the end of the run, such as damage in the run folder."""

    def read_from(self, url: str) -> None:
        """Read a run in object storage as it is now, from a copy that goes with this object. Raises `RunError`."""
        copy = contextlib.ExitStack()
        self.folder, self.url = copy.enter_context(read_copy(url)), url
        weakref.finalize(self, copy.close)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the job, which may have secrets in it, and the class, which another process may lack."""
        return {**self.__dict__, "_job": None, "_answer_class": None}

    def __repr__(self) -> str:
        from batchmix.api.html import run_repr

        return self._shown(run_repr(self.folder))

    def _repr_html_(self) -> str:
        """Return the run as HTML, which a notebook shows at the end of a cell."""
        from batchmix.api.html import run_html

        return self._shown(run_html(self.folder))

    def _shown(self, text: str) -> str:
        """Return text with the run's URL, if it has one, in place of the copy's path."""
        return text.replace(str(self.folder), self.url) if self.url else text

    def _view(self) -> View:
        return reader.look(self.folder)

    @property
    def status(self) -> Literal["running", "finished", "unfinished"]:
        """`finished` once each row has a result, be it an answer or a failure; `running` while a process works."""
        view = self._view()
        if view.holder is not None:
            return "running"
        return "unfinished" if view.unanswered else "finished"

    @property
    def summary(self) -> dict[str, Any]:
        """The totals of the whole run, as in `summary.json`: rows by status, tokens, cost, time, failures by kind."""
        return self._view().summary()

    @property
    def cost_usd(self) -> float | None:
        """The cost of all answers in USD. None if no price is known."""
        return self._view().totals.cost_usd

    def __bool__(self) -> bool:
        """Return True, also before the first result."""
        return True

    def __len__(self) -> int:
        """Return the number of results so far."""
        return self._view().totals.finished

    def __iter__(self) -> Iterator[Result]:
        """Yield the results so far, in the order of the input. Only a part of them is in memory at a time."""
        yield from results_in(self.scan(), self._view().run.typed)

    @overload
    def answers(self) -> list[Any]: ...
    @overload
    def answers(self, model: type[T]) -> list[T | None]: ...

    def answers(self, model: type | None = None) -> list[Any]:
        """Return the typed answers so far, one per result, in the order of `for result in run`.

        They are instances of `model`: by default, of the class that this call of `bm.run` had as `schema`; without one,
        and with `dict`, they are JSON values. None stands for a result without a valid answer. Raises `UsageError` if
        the run's job has no schema, and if the class refuses an answer that fits the schema.

        >>> mood = {"type": "object", "properties": {"mood": {"const": "good"}}, "required": ["mood"]}
        >>> typed = bm.run(["I loved it"], "Rate: {{ text }}", model="m", base_url="rehearsal:", schema=mood)
        >>> typed.answers()
        [{'mood': 'good'}]
        """
        from batchmix.api.answers import typed_values

        return typed_values(self, model or self._answer_class)

    def scan(self, columns: Iterable[str] | None = None) -> pa.RecordBatchReader:
        """Return a reader of the results so far, in the order of the input, with only a part in memory at a time.

        DuckDB, Polars, pandas and others read it as it is. `columns` are the names of the columns to read; None for
        all. Raises `PartDamaged` at its end if results can't be read, and `UsageError` for an unknown column.

        >>> run.scan(["row", "response"]).read_all().num_rows
        1
        """
        schema = reader.result_schema(self.folder)
        names = schema.names if columns is None else _names(columns)
        for name in names:
            if name not in schema.names:
                raise UsageError(f"{self.folder}: has no column {name!r}; it has {', '.join(schema.names)}")
        schema = pa.schema([schema.field(name) for name in names], metadata=schema.metadata)

        def batches() -> Iterator[pa.RecordBatch]:
            lost: list[str] = []
            for batch in reader.results(self.folder, names, lost):
                yield batch.select(names)
            if lost:
                raise PartDamaged("; ".join(lost))

        return pa.RecordBatchReader.from_batches(schema, batches())

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Export the results so far as an Arrow stream, so that other libraries take a run as a table."""
        return self.scan().__arrow_c_stream__(requested_schema)

    def to_arrow(self, columns: Iterable[str] | None = None) -> pa.Table:
        """Return the results so far as an Arrow table, one row per result, in the order of the input."""
        return self.scan(columns).read_all()

    def to_pandas(self, columns: Iterable[str] | None = None) -> pd.DataFrame:
        """Return the results so far as a pandas DataFrame. Columns of integers are `Int64`, as they may have gaps."""
        from batchmix.tables.frames import to_pandas

        return to_pandas(self.to_arrow(columns))

    def to_polars(self, columns: Iterable[str] | None = None) -> pl.DataFrame:
        """Return the results so far as a Polars DataFrame."""
        from batchmix.tables.frames import to_polars

        return to_polars(self.to_arrow(columns))

    def export(
        self, file: str | os.PathLike[str], form: str = "name", *, columns: Iterable[str] = (), where: str = ""
    ) -> int:
        """Write the results so far as `batchmix export` does, and return how many. Raises `UsageError`.

        >>> run.export("drafts.jsonl", columns=["row", "response=draft"], where="{{ status == 'ok' }}")
        1
        """
        from batchmix.reports.exports import exported_count

        return exported_count(form, self.folder, Path(file), _names(columns) or None, where or None)

    def failures(self) -> pa.Table:
        """Return the rows without an answer, failed or rejected, as an Arrow table with the reason of each.

        Rows that `input.when` skips are no failures.
        """
        pc, scan = compute(), self.scan(_FAILURE_COLUMNS)
        failed = [
            batch.filter(
                pc.and_(
                    pc.not_equal(batch.column("status"), Status.OK.value),
                    pc.not_equal(batch.column("error_type"), SKIPPED),
                )
            ).select(_FAILURE_COLUMNS)
            for batch in scan
        ]
        return pa.Table.from_batches(failed, pa.schema([scan.schema.field(name) for name in _FAILURE_COLUMNS]))

    def raise_for_failures(self) -> None:
        """Raise `RowsFailed` unless each row has an answer. The message names the kinds of failures.

        >>> run.raise_for_failures()
        """
        view = self._view()
        missing = view.run.results - view.totals.as_asked
        if missing:
            kinds = sorted(view.totals.failures.items(), key=lambda item: -item[1].count)
            texts = [f"{first.count:,} {kind}, such as row {first.row}: {first.message}" for kind, first in kinds]
            if view.unanswered:
                texts.append(f"{view.unanswered:,} not sent yet")
            what = f"{counted(missing, 'result')} of {view.run.results:,} without an answer"
            raise RowsFailed(f"{self.folder}: {what}: {'; '.join(texts)}").of_run(self)

    def join(
        self,
        data: T,
        columns: Mapping[str, str] | Iterable[str] = ("response",),
        *,
        model: str | None = None,
        sample: int | None = None,
    ) -> T:
        """Return `data`, the table that the run was made from, with columns of the results beside its rows.

        The same kind of table, the same order and index, one row per row: a row without an answer has nulls there.
        `columns` maps each new column's name to a result column; of a list, the names are the same. With several
        models, `model` names the one to take; with several samples, `sample` its number. Raises `UsageError` if the
        table is not the one that the run was made from, as far as the run's columns show.

        >>> run.join([{"text": "I loved it"}], {"answer": "status"})
        [{'text': 'I loved it', 'answer': 'ok'}]
        """
        from batchmix.api.joining import columns_to_join
        from batchmix.tables.join import joined_table
        from batchmix.tables.memory_rows import name_of_text

        sources = dict(columns) if isinstance(columns, Mapping) else {name: name for name in _names(columns)}
        run = columns_to_join(self, data, sources, model, sample)
        joined: T = joined_table(data, run, name_of_text(self._known_job().input))
        return joined

    def go_on(self, **settings: Unpack[Settings]) -> Run:
        """Go on with the run: send what has no answer yet, after a canary, an interruption or a kill, and failed rows.

        It is what `batchmix resume` does: the job and, if they were in memory, the rows are those in the run folder.
        The keyword arguments are those of `bm.run`, for this start or to change the job, such as `retry_rejected=True`
        or `budget={"max_usd": 10}`. Raises what `bm.run` raises.

        >>> run.go_on().status
        'finished'
        """
        from batchmix.api.start import finished, resumed_call

        call = resumed_call(self, settings)
        with call.shown():
            return finished(call)

    def then(
        self,
        prompt: str,
        *,
        model: str | None = None,
        out: str | os.PathLike[str] | None = None,
        **settings_and_columns: Any,
    ) -> Run:
        """Run a job over the results of this run, one row per result, and return that run.

        Its rows have the columns that this run carries, and result columns under new names: with `draft="response"`,
        the template has `{{ draft }}`. The other keyword arguments are those of `bm.run`. The provider, its limits and
        prices, and the model of a run with a single one, are taken over. A row without an answer is `rejected` and
        keeps its place. Without `out`, the run folder is beside this one, named by a digest as in `bm.run`.

        >>> step = run.then("Criticise: {{ draft }}", draft="response")
        >>> len(step)
        1
        """
        from batchmix.api.chain import next_run

        return next_run(self, self._known_job(), prompt, out, {**settings_and_columns, "model": model})

    def _known_job(self) -> CheckedJob:
        return self._job or reader.job_of(self.folder)


def _names(columns: Iterable[str]) -> list[str]:
    """Return names of columns as a list. Raises `UsageError` for a single text, whose characters are no columns."""
    if isinstance(columns, str):
        raise UsageError(f"columns: expected a list of names, got a text; write [{columns!r}]")
    return list(columns)
