"""The input's columns that stand in the output."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pyarrow as pa

from batchmix.errors import InputError
from batchmix.job import Column, Job
from batchmix.load.arrow_rows import values
from batchmix.load.asking import BATCH_KEYS
from batchmix.load.kinds import json_text, settled_type, utf8
from batchmix.load.parquet import ParquetInput, fitted
from batchmix.load.scan import Scan
from batchmix.load.words import clean, quoted, unknown_column

_RUN_MARKS = frozenset({"row", "model", "sample", "status", "response", "request_hash"})
"""An input with all of these columns is itself a run's output."""


class Carried:
    """Makes the carried columns from input rows. `sources` are the input columns that are needed for it."""

    def __init__(self, id_column: str | None, columns: list[Column], types: dict[str, Any]) -> None:
        self._id = id_column
        self._columns = columns
        self._fit: dict[str, Callable[[Any], Any]] = {}
        fields = [pa.field("custom_id", pa.string())]
        for column in columns:
            kind = types[column.source]
            arrow, fit = kind if isinstance(kind, tuple) else (kind, _same)
            self._fit[column.source] = fit
            fields.append(pa.field(column.name, arrow))
        self.schema = pa.schema(fields)
        self.sources = list(
            dict.fromkeys([*([id_column] if id_column else []), *(column.source for column in columns)])
        )

    def from_json(self, rows: list[tuple[int, dict[str, Any]]]) -> pa.RecordBatch:
        """Return the columns for rows that were read from JSON, with their indexes."""
        arrays = [pa.array([self._custom_id(index, row) for index, row in rows], pa.string())]
        for column, field in zip(self._columns, list(self.schema)[1:], strict=True):
            fit, source = self._fit[column.source], column.source
            arrays.append(pa.array([fit(row.get(source)) for _, row in rows], field.type))
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def from_arrow(self, first: int, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the columns for rows that were read from Parquet, from row `first` on."""
        texts = [None] * batch.num_rows if self._id is None else map(_id_text, values(batch.column(self._id)))
        ids = pa.array([str(first + i) if text is None else text for i, text in enumerate(texts)], pa.string())
        arrays = [ids, *(batch.column(column.source) for column in self._columns)]
        return fitted(pa.RecordBatch.from_arrays(arrays, names=self.schema.names), self.schema)

    def _custom_id(self, index: int, row: dict[str, Any]) -> str:
        found = _id_text(row.get(self._id)) if self._id is not None else None
        return str(index) if found is None else found


def _id_text(value: Any) -> str | None:
    return utf8(value) if isinstance(value, str) else None if value is None else _other_id(value)


def _other_id(value: Any) -> str | None:
    try:
        return json_text(value)
    except (TypeError, ValueError):
        return str(value)


def _same(value: Any) -> Any:
    return value


def carried_columns(job: Job, scan: Scan, parquet: ParquetInput | None, reserved: frozenset[str]) -> Carried:
    """Return what a job carries. Raises `InputError` for unknown columns and names that collide."""
    types: dict[str, Any]
    if parquet is not None:
        types = {field.name: field.type for field in parquet.schema}
        types = {name: pa.string() if pa.types.is_null(kind) else kind for name, kind in types.items()}
    else:
        types = {name: settled_type(kinds) for name, kinds in scan.kinds.items()}
    id_column = job.input.id
    if id_column is None:
        id_column = next((name for name in ("custom_id", "id") if name in types), None)
    elif id_column not in types:
        raise InputError(f"input.id: {unknown_column(id_column, types)}")
    if job.input.columns is None:
        is_a_run = parquet.is_a_run if parquet else False
        columns = _default_columns(
            types, {id_column, job.input.model}, scan.mode, reserved, is_a_run=is_a_run or types.keys() >= _RUN_MARKS
        )
    else:
        columns = [column if isinstance(column, Column) else Column(column, column) for column in job.input.columns]
    _check_names(columns, types, reserved)
    return Carried(id_column, columns, types)


def _default_columns(
    types: Iterable[str], used: set[str | None], mode: str, reserved: frozenset[str], *, is_a_run: bool
) -> list[Column]:
    left_out = used | (BATCH_KEYS if mode == "batch" else frozenset()) | (reserved if is_a_run else frozenset())
    return [Column(name, name) for name in types if name not in left_out]


def _check_names(columns: list[Column], types: dict[str, Any], reserved: frozenset[str]) -> None:
    seen: set[str] = set()
    for column in columns:
        if column.source not in types:
            raise InputError(f"input.columns: {unknown_column(column.source, types)}")
        if column.name in reserved or column.name == "custom_id":
            raise InputError(
                f"the input's column {quoted(column.source)} would stand in the output as {quoted(column.name)}, which"
                f" is a result column; {_renaming(column)}, or leave it out"
            )
        if column.name in seen:
            raise InputError(f"input.columns: two columns would be named {quoted(column.name)}; {_renaming(column)}")
        seen.add(column.name)


def _renaming(column: Column) -> str:
    source, name = clean(column.source, 60), clean(column.name, 60)
    return (
        f'rename it under [input]: columns = [{{from = "{source}", to = "input_{name}"}}], together with the other'
        " columns that you want"
    )
