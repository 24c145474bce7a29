"""The input's columns that stand in the output."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from batchmix.errors import InputError
from batchmix.formats.arrow_cast import fit, nullable, sound
from batchmix.formats.arrow_values import values
from batchmix.formats.display import clean, quoted, unknown_column
from batchmix.formats.text import text_of
from batchmix.job import Column, Job
from batchmix.load.column_types import ColumnType, column_types
from batchmix.load.json_types import arrow_type
from batchmix.load.parquet import Cursor, ParquetInput
from batchmix.load.parquet_types import shown_type, telling
from batchmix.load.prompts import BATCH_KEYS
from batchmix.load.row_params import LABELS, PARAMETERS
from batchmix.load.scan import Scan

_RUN_MARKS = frozenset({"row", "model", "sample", "status", "response", "request_hash"})
"""An input with all of these columns is itself a run's output."""

Make = Callable[[Any], pa.Array]
"""Makes a carried column of a list of JSON values, or of a column as its Parquet file has it."""


class CarriedColumns:
    """Makes the carried columns from input rows. `sources` are the input columns that are needed for it."""

    def __init__(
        self,
        id_column: str | None,
        told_id: ColumnType | None,
        columns: list[Column],
        made: Mapping[str, tuple[Any, Make]],
    ) -> None:
        self._id = id_column
        self._told_id = told_id
        self._columns = [(column.source, *made[column.source]) for column in columns]
        fields = [pa.field(column.name, made[column.source][0]) for column in columns]
        self.schema = pa.schema([pa.field("custom_id", pa.string()), *fields])
        self._made = made
        self.types = {source: str(kind) for source, (kind, _) in made.items()}
        """What the sources become, as text."""
        if id_column is not None:
            self.types.setdefault(id_column, "custom_id")
        self.sources = list(self.types)

    def from_json(self, rows: list[tuple[int, dict[str, Any]]]) -> pa.RecordBatch:
        """Return the columns for rows that were read from JSON, with their indexes."""
        ids = [row.get(self._id) for _, row in rows] if self._id is not None else [None] * len(rows)
        arrays = [make([row.get(source) for _, row in rows]) for source, _, make in self._columns]
        return self._batch([index for index, _ in rows], ids, arrays)

    def from_arrow(self, first: int, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the columns for rows that were read from Parquet, from row `first` on.

        Raises `pa.ArrowException` for a value that does not go into its column's type, which `prove` looks for.
        """
        there, rows = batch.schema.names, batch.num_rows
        ids = values(batch.column(self._id)) if self._id in there else [None] * rows
        arrays = [
            make(batch.column(source)) if source in there else pa.nulls(rows, kind)
            for source, kind, make in self._columns
        ]
        return self._batch(range(first, first + rows), ids, arrays)

    def _batch(self, rows: Iterable[int], ids: list[Any], arrays: list[pa.Array]) -> pa.RecordBatch:
        if self._told_id is not None:
            ids = values(self._told_id.array(ids))
        texts = [str(row) if value is None else text_of(value) for row, value in zip(rows, ids, strict=True)]
        return pa.RecordBatch.from_arrays([pa.array(texts, pa.string()), *arrays], schema=self.schema)

    def prove(self, source: ParquetInput, rows: int, proven: Mapping[str, str]) -> dict[str, str]:
        """Make the columns of the first `rows` rows once, so that nothing is found out when they are paid for.

        Those of which `proven` says that it was done are left out; returns what is proven then. Raises `InputError`.
        """
        columns = [name for name, kind in self.types.items() if proven.get(name) != kind]
        first = 0
        for batch in Cursor(source, columns).read(0, rows) if columns else ():
            for name in batch.schema.names:
                if name in self._made:
                    self._try(source, name, batch.column(name), first)
            first += batch.num_rows
        return {**proven, **self.types}

    def _try(self, source: ParquetInput, name: str, column: pa.Array, first: int) -> None:
        kind, make = self._made[name]
        try:
            make(column)
        except pa.ArrowException:
            number = next((number for number in range(len(column)) if not _goes(make, column.slice(number, 1))), 0)
            value = clean(text_of(values(column.slice(number, 1))[0]), 60)
            raise InputError(
                f"{source.place(first + number)}: the column {quoted(name)} holds {value}, which does not go into"
                f" {shown_type(kind)}, the type of what {source.types_shown(name)}. {telling(name)}"
            ) from None


def _goes(make: Make, column: pa.Array) -> bool:
    try:
        make(column)
    except pa.ArrowException:
        return False
    return True


def carried_columns(job: Job, scan: Scan, parquet: ParquetInput | None, reserved: frozenset[str]) -> CarriedColumns:
    """Return what a job carries. Raises `InputError` for unknown columns, names that collide, and types that do."""
    names = list(scan.columns) if parquet is None else parquet.names
    id_column = job.input.id
    if id_column is None:
        id_column = next((name for name in ("custom_id", "id") if name in names), None)
    elif id_column not in names:
        raise InputError(f"input.id: {unknown_column(id_column, names)}")
    if job.input.columns is None:
        is_a_run = (parquet is not None and parquet.is_a_run) or set(names) >= _RUN_MARKS
        columns = _default_columns(names, {id_column, job.input.model}, scan.mode, reserved, is_a_run=is_a_run)
    else:
        columns = [column if isinstance(column, Column) else Column(column, column) for column in job.input.columns]
    _check_names(columns, names, reserved)
    configured = column_types(job)
    sources = dict.fromkeys(column.source for column in columns)
    if parquet is None:
        made = {name: _from_values(configured.get(name), scan.columns[name]) for name in sources}
    else:
        made = {name: _from_column(configured.get(name), parquet, name) for name in sources}
    return CarriedColumns(id_column, configured.get(id_column or ""), columns, made)


def _from_values(configured: ColumnType | None, kinds: int) -> tuple[Any, Make]:
    if configured is not None:
        return configured.type, configured.array
    kind, fitting = arrow_type(kinds)
    return kind, lambda found: pa.array(map(fitting, found), kind)


def _from_column(configured: ColumnType | None, source: ParquetInput, name: str) -> tuple[Any, Make]:
    kind = source.column_type(name) if configured is None else configured.type
    try:
        pq.write_table(pa.table({"c": pa.nulls(1, nullable(kind))}).take(pa.array([0])), io.BytesIO())
    except pa.ArrowException:
        raise InputError(
            f"the column {quoted(name)} is {shown_type(kind)}, which can't be written to Parquet. {telling(name)}"
        ) from None
    return kind, partial(_carried, configured, kind)


def _carried(configured: ColumnType | None, kind: pa.DataType, column: pa.Array) -> pa.Array:
    if configured is not None and column.type != kind:
        return configured.array(values(column))
    return sound(fit(column, kind))


def _default_columns(
    names: list[str], used: set[str | None], mode: str, reserved: frozenset[str], *, is_a_run: bool
) -> list[Column]:
    left_out = used | (BATCH_KEYS if mode == "batch" else frozenset()) | (reserved if is_a_run else frozenset())
    if mode == "bodies":
        left_out |= {"model", "messages"} | PARAMETERS.keys() | LABELS.keys()
    if mode == "plain" and "messages" in names:
        left_out |= {"model"} & reserved  # of a request whose model the job replaces
    return [Column(name, name) for name in names if name not in left_out]


def _check_names(columns: list[Column], names: list[str], reserved: frozenset[str]) -> None:
    seen: set[str] = set()
    for column in columns:
        if column.source not in names:
            raise InputError(f"input.columns: {unknown_column(column.source, names)}")
        if column.name in seen:
            raise InputError(f"input.columns: two columns would be named {quoted(column.name)}; {_renaming(column)}")
        seen.add(column.name)
    taken = [column for column in columns if column.name in reserved or column.name == "custom_id"]
    if taken:
        sources, results = (", ".join(map(quoted, named)) for named in zip(*map(_names, taken), strict=True))
        ends = ("", "is a result column") if len(taken) == 1 else ("s", "are result columns")
        raise InputError(
            f"the input's column{ends[0]} {sources} would stand in the output as {results}, which {ends[1]};"
            f" {_renaming(*taken)}, or leave {'it' if len(taken) == 1 else 'them'} out"
        )


def _names(column: Column) -> tuple[str, str]:
    return column.source, column.name


def _renaming(*columns: Column) -> str:
    named = [f'{{from = "{clean(column.source, 60)}", to = "input_{clean(column.name, 60)}"}}' for column in columns]
    return (
        f"rename {'it' if len(columns) == 1 else 'them'} under [input]: columns = [{', '.join(named)}], together with"
        " the other columns that you want"
    )
