"""Joins columns of a run to readers and iterators, as they are read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from batchmix.errors import UsageError
from batchmix.formats.display import column_list
from batchmix.tables.alignment import check_rows, paired, rows_in
from batchmix.tables.rows_of_run import RunColumns


def joined_reader(data: pa.RecordBatchReader, run: RunColumns) -> pa.RecordBatchReader:
    """Return a reader of the batches of `data`, with columns of a run beside them.

    The reader raises `UsageError` at the first row that differs, and at its end if the run has more or fewer rows.
    """
    added = [run.results.schema.field(source).with_name(name) for name, source in run.sources.items()]
    schema = pa.schema([*data.schema, *added], metadata=data.schema.metadata)

    def batches() -> Iterator[pa.RecordBatch]:
        for first, here, there in paired(data, run.results):
            check_rows(first, here, there, run.compared)
            new = [there.column(source) for source in run.sources.values()]
            yield pa.RecordBatch.from_arrays([*here.columns, *new], schema=schema)

    return pa.RecordBatchReader.from_batches(schema, batches())


def joined_rows(data: Any, run: RunColumns, name_of_text: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of `data` as new dictionaries, with columns of a run beside their own. See `joined_reader`."""
    for first, here, there in paired(rows_in(data, name_of_text), run.results):
        check_rows(first, here, there, run.compared)
        new = [there.column(source).to_pylist() for source in run.sources.values()]
        for number, row in enumerate(here):
            if taken := [name for name in run.sources if name in row]:
                raise already_there(f"row {first + number}", taken)
            yield {**row, **{name: column[number] for name, column in zip(run.sources, new, strict=True)}}


def already_there(where: str, names: list[str]) -> UsageError:
    """Return the error for new columns that exist already."""
    return UsageError(f"{where} has {column_list(names)} already; choose another name for the new column")
