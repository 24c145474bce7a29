"""Carried columns: the input's columns that are copied into the output."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import pyarrow as pa

from batchmix.errors import InputError
from batchmix.formats.arrow_build import array_maker
from batchmix.formats.arrow_values import values
from batchmix.formats.display import clean, quoted, unknown_column
from batchmix.formats.text import text_of
from batchmix.job import CheckedJob, Column
from batchmix.load.column_types import ColumnType, column_types
from batchmix.load.messages import BATCH_KEYS
from batchmix.load.parameters import CHAT_PARAMETERS, EXTRA_PARAMETERS
from batchmix.load.prompts import Mode
from batchmix.load.scan import Scan

_RUN_MARKS = frozenset({"row", "model", "sample", "status", "response", "request_hash"})
"""An input that has all of these columns is treated as another run's output."""

Make = Callable[[Any], pa.Array]
"""Converts values to a carried column: a list of JSON values, or an Arrow column as it was read from Parquet."""
ColumnMaker = tuple[pa.DataType, Make]
"""The type of a carried column, and the function that converts values to it."""


class ColumnSource(Protocol):
    """The part of a `RowReader` that decides on column types."""

    is_a_run: bool

    def column(self, name: str, configured: ColumnType | None, scan: Scan) -> ColumnMaker:
        """Return the type of a carried column, and the function that converts values to the column.

        Raises `InputError`.
        """


class CarriedColumns:
    """Turns input rows into their carried columns."""

    def __init__(
        self,
        id_column: str | None,
        id_type: ColumnType | None,
        columns: list[Column],
        makers: Mapping[str, ColumnMaker],
    ) -> None:
        self._id = id_column
        self._id_type = id_type
        self._columns = [(column.source, *makers[column.source]) for column in columns]
        fields = [pa.field(column.name, makers[column.source][0]) for column in columns]
        self.schema = pa.schema([pa.field("custom_id", pa.string()), *fields])
        self._array = array_maker()
        self.makers = makers
        """For each carried input column, its type and the function that converts values to the carried column."""
        self.types = {source: str(dtype) for source, (dtype, _) in makers.items()}
        """The output type of each input column, as text. For an id column that is not carried, it is `custom_id`."""
        if id_column is not None:
            self.types.setdefault(id_column, "custom_id")
        self.sources = list(self.types)
        """The input columns to read: all carried ones, and the id column."""

    def from_json(self, rows: list[tuple[int, dict[str, Any]]]) -> pa.RecordBatch:
        """Return the carried columns of rows that were read from JSON. Each row comes with its index in the input."""
        ids = [row.get(self._id) for _, row in rows] if self._id is not None else [None] * len(rows)
        arrays = [make([row.get(source) for _, row in rows]) for source, _, make in self._columns]
        return self._batch([index for index, _ in rows], ids, arrays)

    def from_arrow(self, first: int, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the carried columns of rows that were read from Parquet. `first` is the index of the first row.

        Raises `pa.ArrowException` if a value does not fit its column's type. `RowReader.prove` finds such values before
        anything is sent.
        """
        there, rows = batch.schema.names, batch.num_rows
        ids = values(batch.column(self._id)) if self._id in there else [None] * rows
        arrays = [
            make(batch.column(source)) if source in there else pa.nulls(rows, dtype)
            for source, dtype, make in self._columns
        ]
        return self._batch(range(first, first + rows), ids, arrays)

    def _batch(self, rows: Iterable[int], ids: list[Any], arrays: list[pa.Array]) -> pa.RecordBatch:
        if self._id_type is not None:
            ids = values(self._id_type.array(ids))
        texts = [
            str(row) if value is None else str(value) if type(value) is int else text_of(value)
            for row, value in zip(rows, ids, strict=True)
        ]
        return pa.RecordBatch.from_arrays([self._array(texts, pa.string()), *arrays], schema=self.schema)


def carried_columns(job: CheckedJob, scan: Scan, source: ColumnSource, reserved: frozenset[str]) -> CarriedColumns:
    """Return the carried columns of a job. `reserved` are the names of the output's own columns.

    Raises `InputError` if a column is unknown, if names collide, or if types don't fit together.
    """
    names = list(scan.columns)
    id_column = job.input.id
    if id_column is None:
        id_column = next((name for name in ("custom_id", "id") if name in names), None)
    elif id_column not in names:
        raise InputError(f"input.id: {unknown_column(id_column, names)}")
    if job.input.columns is None:
        is_a_run = source.is_a_run or set(names) >= _RUN_MARKS
        columns = _default_columns(names, {id_column, job.input.model}, scan.mode, reserved, is_a_run=is_a_run)
    else:
        columns = [column if isinstance(column, Column) else Column(column, column) for column in job.input.columns]
    _check_names(columns, names, reserved)
    configured = column_types(job)
    makers = {
        name: source.column(name, configured.get(name), scan) for name in dict.fromkeys(each.source for each in columns)
    }
    return CarriedColumns(id_column, configured.get(id_column or ""), columns, makers)


def _default_columns(
    names: list[str], used: set[str | None], mode: Mode, reserved: frozenset[str], *, is_a_run: bool
) -> list[Column]:
    left_out = used | (BATCH_KEYS if mode is Mode.BATCH else frozenset())
    if is_a_run:
        left_out |= reserved | answers_in(names)
    if mode is Mode.BODIES:
        left_out |= {"model", "messages"} | CHAT_PARAMETERS.keys() | EXTRA_PARAMETERS.keys()
    if mode is Mode.PLAIN and "messages" in names:
        left_out |= {"model"} & reserved  # the job replaces the model that such a request names
    return [Column(name, name) for name in names if name not in left_out]


def answers_in(names: list[str]) -> set[str]:
    """Return the columns of the typed answers in a run's output, which are between `response` and `repairs`.

    Elsewhere they are carried columns, whatever their names.
    """
    if not {"healed", "repairs"} <= set(names):
        return set()
    between = names[names.index("response") + 1 : names.index("repairs") + 1]
    return {name for name in between if name in {"answer", "healed", "repairs"} or name.startswith("answer.")}


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
        plural, are = ("", "is a result column") if len(taken) == 1 else ("s", "are result columns")
        raise InputError(
            f"the input's column{plural} {sources} would be named {results} in the output, which {are};"
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
