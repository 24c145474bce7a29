"""Puts whole runs into a Delta table, each in one transaction that first removes what the table has of the run.

Delta's log also records which version of a run the table has (a transaction identifier of the protocol), so that a
commit that was made is not repeated.

Why not Iceberg: pyiceberg is as fast, but keeps a whole run in memory and takes 1.3 s to import (deltalake: 0.1 s), and
few readers find a table by a catalogue in SQLite. A Delta table is known by its path.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from batchmix.errors import JobError, RunError
from batchmix.store.manifest import manifest_of
from batchmix.store.parts import part_path, row_groups
from batchmix.store.schema import columns_of, part_schema
from batchmix.store.view import View

_DESCRIPTIONS = {False: "results of batchmix", True: "rehearsed results of batchmix"}
"""The tables' descriptions, by which they are known. Rehearsed answers never mix with real ones."""
_FILE_BYTES = 64 << 20
_GROUP_ROWS = 8192
"""The rows of a row group, and the bytes of a file, which bound the memory: a writer keeps both until they are full."""


def check_table(path: Path, *, rehearsal: bool) -> None:
    """Raise `JobError` if there is anything but a table that batchmix made, or if the library is missing."""
    delta = _library(path)
    if not delta.DeltaTable.is_deltatable(str(path)):
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise JobError(f"output.delta_table: {path} is no Delta table, and not empty; choose another path")
        return
    if delta.DeltaTable(str(path)).metadata().description != _DESCRIPTIONS[rehearsal]:
        kind = "rehearsed" if rehearsal else "real"
        raise JobError(
            f"output.delta_table: {path} is not a table that batchmix made for {kind} answers; choose another path"
        )


def commit(view: View, path: Path) -> None:
    """Make the table have the results of a whole run as they are now. Raises `RunError`."""
    delta = _library(path)
    run, table = view.layout.identity(view.run), str(path)
    manifest = manifest_of(view)
    version = int.from_bytes(hashlib.sha256(msgspec.json.encode(manifest.parts)).digest()[:7])
    application = f"batchmix/{run.job}/{run.run}"
    exists = delta.DeltaTable.is_deltatable(table)
    if exists and delta.DeltaTable(table).transaction_version(application) == version:
        return
    schema = part_schema(view.run.carried_schema(), run, view.run.typed)
    settings: dict[str, Any] = (
        {"mode": "overwrite", "schema_mode": "merge", "predicate": f"job = {_text(run.job)} and run = {_text(run.run)}"}
        if exists
        else {"mode": "error", "description": _DESCRIPTIONS[view.run.rehearsal]}
    )
    try:
        if exists:
            _check_types(delta, path, schema)
        delta.write_deltalake(
            table,
            pa.RecordBatchReader.from_batches(schema.remove_metadata(), _batches(view, schema)),
            target_file_size=_FILE_BYTES,
            writer_properties=delta.WriterProperties(compression="ZSTD", max_row_group_size=_GROUP_ROWS),
            commit_properties=delta.CommitProperties(app_transactions=[delta.Transaction(application, version)]),
            **settings,
        )
    except RunError:
        raise
    except Exception as error:
        raise RunError(
            f"{path}: the results could not be added: {error}; the run itself is whole, and the same command tries"
            " again"
        ) from error


def _check_types(delta: Any, path: Path, schema: pa.Schema) -> None:
    """Raise `RunError` if a column of the table has another type. Delta would make numbers of dates, and the like."""
    there = {field.name: field.type for field in delta.DeltaTable(str(path)).schema().fields}
    for field in delta.Schema.from_arrow(pa.schema(map(_in_microseconds, schema))).fields:
        if there.get(field.name, field.type) != field.type:
            raise RunError(
                f"{path}: its column {field.name!r} is {_name(there[field.name])}, and in this run it is"
                f" {_name(field.type)}; declare its type under input.columns, and add --update to write the run again"
            )


def _in_microseconds(field: pa.Field) -> pa.Field:
    """Return a field with the only unit that Delta has for times."""
    is_time = pa.types.is_timestamp(field.type)
    return field.with_type(pa.timestamp("us", field.type.tz)) if is_time else field


def _name(type_: Any) -> str:
    return str(getattr(type_, "type", type_))


def _library(path: Path) -> Any:
    try:
        import deltalake
    except ImportError as error:
        raise JobError(f"output.delta_table: {path} needs one more package: pip install 'batchmix[delta]'") from error
    return deltalake


def _batches(view: View, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for index in sorted(view.parts):
        damage: list[str] = []
        for group in row_groups(part_path(view.layout.data, index), None, damage):
            for batch in group.to_batches(_GROUP_ROWS):
                yield pa.RecordBatch.from_arrays(columns_of(batch, schema), schema=schema.remove_metadata())
        if damage:
            raise RunError("; ".join(damage))


def _text(value: str) -> str:
    """Return a text as a literal of SQL."""
    return "'" + value.replace("'", "''") + "'"
