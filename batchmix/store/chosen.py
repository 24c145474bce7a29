"""Which results of a run are exported, and which columns of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from batchmix.errors import UsageError
from batchmix.formats.arrow_build import array_of
from batchmix.formats.arrow_values import row_values
from batchmix.formats.display import clean, quoted

_EXACT = (pa.types.is_string, pa.types.is_integer, pa.types.is_boolean)
"""The types whose statistics leave out no value. Those of floating point leave out NaN."""


class RowTest(Protocol):
    """A condition on a result."""

    reads: frozenset[str] | None
    """The columns that it may use. None for any."""

    def holds(self, row: dict[str, Any]) -> bool:
        """Return whether it is true for a result."""


class Chosen:
    """The results for which a condition holds, with some of their columns.

    A column is named as in `response`, as in `answer.city` for a value within a column of objects, and as in
    `response=draft` to rename it. Raises `UsageError` for a column that is not there.
    """

    def __init__(self, whole: pa.Schema, columns: Sequence[str] | None = None, test: RowTest | None = None) -> None:
        self._test = test
        self._tested = [name for name in whole.names if test and (test.reads is None or name in test.reads)]
        self._paths = None if columns is None else [_path(name, whole) for name in columns]
        roots = {path[0] for path, _ in self._paths or ()} | set(self._tested)
        self.read = (
            whole
            if self._paths is None
            else pa.schema([field for field in whole if field.name in roots], whole.metadata)
        )
        """The schema of the columns that are read."""
        self.schema = self.of(_empty(self.read)).schema
        """The schema of what is chosen."""
        names = self.schema.names
        for name in {name for name in names if names.count(name) > 1}:
            raise UsageError(f"columns: two are called {quoted(name)}; rename one, as in {clean(name, 60)}=other")

    def roots(self) -> dict[str, str]:
        """Return the column from which each chosen column is taken."""
        if self._paths is None:
            return {name: name for name in self.read.names}
        return {name: path[0] for path, name in self._paths}

    def of(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return what is chosen of a batch that has the columns of `read`."""
        if self._test is not None:
            tested = row_values(batch.select(self._tested))
            batch = batch.filter(array_of([self._test.holds(row) for row in tested], pa.bool_()))
        if self._paths is None:
            return batch
        columns = [_value(batch, path) for path, _ in self._paths]
        fields = [(name, column.type) for (_, name), column in zip(self._paths, columns, strict=True)]
        return pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields, metadata=self.read.metadata))

    def may_match(self, part: pq.ParquetFile, group: int) -> bool:
        """Return whether a row group may hold a chosen result.

        It reads nothing if the statistics show that the tested columns have one value each. Otherwise it reads these
        columns, and no others.
        """
        if self._test is None:
            return True
        same = _constants(part, group, self._tested)
        if len(same) == len(self._tested):
            return self._test.holds(same)
        there = [name for name in self._tested if name in part.schema_arrow.names]
        table = part.read_row_group(group, columns=there).select(there)
        none = dict.fromkeys(self._tested)
        return any(self._test.holds(none | row) for batch in table.to_batches() for row in row_values(batch))


def _empty(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.nulls(0, field.type) for field in schema], schema=schema)


def _path(text: str, schema: pa.Schema) -> tuple[tuple[str, ...], str]:
    """Return the names that lead to a column, and the name that it gets."""
    for given, name in ((text, text), text.rpartition("=")[::2]):
        path = _found(given, schema)
        if path and name:
            return path, name
    raise UsageError(f"columns: there is no column {quoted(text)}; there are {', '.join(schema.names)}")


def _found(text: str, fields: Any) -> tuple[str, ...]:
    """Return the names of a column or of a value within it. Empty if there is none. Names may have dots in them."""
    for field in fields:
        if text == field.name:
            return (field.name,)
        if text.startswith(f"{field.name}.") and pa.types.is_struct(field.type):
            inside = _found(text.removeprefix(f"{field.name}."), field.type)
            if inside:
                return (field.name, *inside)
    return ()


def _value(batch: pa.RecordBatch, path: tuple[str, ...]) -> pa.Array:
    column = batch.column(path[0])
    for name in path[1:]:
        column = column.flatten()[column.type.get_field_index(name)]
    return column


def _constants(part: pq.ParquetFile, group: int, names: list[str]) -> dict[str, Any]:
    """Return those of some columns that have a single value in a row group, with the value."""
    metadata = part.metadata.row_group(group)
    chunks = {chunk.path_in_schema: chunk for chunk in map(metadata.column, range(metadata.num_columns))}
    found: dict[str, Any] = {}
    for name in names:
        index = part.schema_arrow.get_field_index(name)
        exact = index >= 0 and any(is_exact(part.schema_arrow.field(index).type) for is_exact in _EXACT)
        stats = chunks[name].statistics if exact and name in chunks else None
        if not stats or not stats.has_null_count:
            continue
        if stats.null_count == metadata.num_rows:
            found[name] = None
        elif stats.null_count == 0 and stats.has_min_max and stats.min == stats.max:
            found[name] = stats.min
    return found
