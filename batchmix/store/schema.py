"""The schema of parts, derived from the table of result columns, and the footer of each part."""

from __future__ import annotations

import datetime
from typing import Any

import msgspec
import pyarrow as pa

from batchmix import __version__
from batchmix.answers.typed import TypedAnswers
from batchmix.formats.arrow_build import array_of
from batchmix.formats.arrow_cast import fit
from batchmix.store.result_columns import CARRIED_AT, COLUMNS
from batchmix.store.totals import Totals

_NEWEST = max(column.added_in for column in COLUMNS)
VERSION = str(_NEWEST)
"""The version of the result columns in new parts."""
_READABLE = {str(version).encode() for version in range(1, _NEWEST + 1)}
_ADDED = {column.name for column in COLUMNS if column.added_in > 1}
"""The columns that parts of earlier versions may lack."""
_SCHEMA_KEY = b"batchmix.schema"
_PART_KEY = b"batchmix.part"
_JOB_KEY = b"batchmix.job"
_EPOCH = datetime.date(1970, 1, 1)
_RUN_KEY = b"batchmix.run"
_NIGHT_KEY = b"batchmix.night"
_IDENTITY_KEYS = (_JOB_KEY, _RUN_KEY, _NIGHT_KEY)
CHECKSUM_KEY = b"batchmix.crc"
"""The metadata key under which a footer contains its own checksum."""

_RESULT_FIELDS = {column.name: pa.field(column.name, column.type) for column in COLUMNS}
TYPED = frozenset(column.name for column in COLUMNS if column.typed)
"""The columns that only jobs with a schema for their answers have. In other jobs, carried columns may be named so."""
_ADDED |= TYPED
OF_RUN = tuple(column.name for column in COLUMNS if column.of_run)
"""The columns that have one value in the whole run."""
RESULT_SCHEMA = pa.schema(field for name, field in _RESULT_FIELDS.items() if name not in TYPED)
"""The result columns that every job has, without the carried ones, which are between `sample` and `status`."""
RESULT_COLUMNS = frozenset(RESULT_SCHEMA.names)
ANSWERED = ("status", "response", "tool_calls")
"""The columns from which the value of a typed answer follows."""


class RunIdentity(msgspec.Struct, frozen=True):
    """What tells a run from others wherever its results are together: the values of the columns `OF_RUN`."""

    job: str
    """The name of the job."""
    run: str
    """The name of the run, which stays the same when its folder is moved or renamed."""
    night: datetime.date | None = None
    """The scheduled date. None if the run has none."""


class PartFooter(msgspec.Struct, frozen=True):
    """The summary of a part, so that a resume need not read its rows."""

    shard: int
    first: int
    stop: int
    """The part holds the results of input rows [first, stop)."""
    digest: str
    """The digest of the shard's input bytes and of the part of the job from which requests are made."""
    columns: str
    """The digest of the carried columns: names, sources, types."""
    totals: Totals
    rehearsal: bool | None = None
    """Whether the rehearsal provider answered. None if unknown, as in parts of old versions."""
    shard_rows: int = 0
    """The number of rows in each shard of the run. 0 if unknown, as in parts of old versions."""
    sealed_ms: int = 0
    """When the part was sealed, as Unix time in milliseconds. 0 if unknown, as in parts of old versions."""
    job: str = ""
    """The name of the job, from the schema's metadata."""
    run: str = ""
    """The name of the run, also from the metadata. Empty if unknown, as in parts of old versions."""
    night: datetime.date | None = None
    """The scheduled date, also from the metadata."""
    version: str = VERSION
    """The schema version of the part, also from the metadata."""


class Seal(msgspec.Struct, frozen=True):
    """Identifies a part. No two parts have the same footer, because a footer holds sizes and times."""

    crc: int
    """Checksum of the footer."""
    size: int
    """Size of the file in bytes."""
    written_ns: int = 0
    """When the file was last written to. A different time alone does not mean a different part."""

    @property
    def proof(self) -> tuple[int, int]:
        """The checksum and the size, which differ between any two parts."""
        return self.crc, self.size


def part_schema(carried: pa.Schema, identity: RunIdentity, typed: TypedAnswers | None = None) -> pa.Schema:
    """Return the schema of every part of a run. `carried` must start with `custom_id`.

    If a carried column has the name of a column of the run, as in parts of old versions, the latter is left out.
    """
    left_out = {*(() if typed else TYPED), *(name for name in OF_RUN if name in carried.names)}
    own = [field for name, field in _RESULT_FIELDS.items() if name not in left_out]
    if typed:
        at = next(number for number, field in enumerate(own) if field.name == "response") + 1
        own[at:at] = typed.fields
    fields = [*own[:CARRIED_AT], *list(carried)[1:], *own[CARRIED_AT:]]
    metadata = {
        _SCHEMA_KEY: VERSION.encode(),
        _JOB_KEY: identity.job.encode("utf-8", "replace"),
        _RUN_KEY: identity.run.encode("utf-8", "replace"),
        **({_NIGHT_KEY: identity.night.isoformat().encode()} if identity.night else {}),
        b"batchmix.version": __version__.encode(),
    }
    return pa.schema(fields, metadata=metadata)


def run_constants(schema: pa.Schema, rows: int) -> dict[str, pa.Array]:
    """Return the columns of the run for some rows, from the metadata of a schema that `part_schema` returned."""
    identity = _identity(schema.metadata)
    night = None if identity.night is None else (identity.night - _EPOCH).days
    values = {  # made from buffers, since `pa.scalar` imports pandas
        "job": array_of([identity.job], pa.string()),
        "run": array_of([identity.run], pa.string()),
        "night": array_of([night], pa.int32()).view(pa.date32()),
    }
    return {name: pa.repeat(values[name][0], rows) for name in OF_RUN}


def _identity(metadata: dict[bytes, bytes] | None) -> RunIdentity:
    job, run, night = ((metadata or {}).get(key, b"").decode("utf-8", "replace") for key in _IDENTITY_KEYS)
    return RunIdentity(job, run, datetime.date.fromisoformat(night) if night else None)


def carried_names(schema: pa.Schema) -> list[str]:
    """Return the names of the carried columns in a schema that `part_schema` returned, except `custom_id`."""
    names: list[str] = schema.names
    return names[CARRIED_AT : names.index(COLUMNS[CARRIED_AT].name)]


def footer_metadata(footer: PartFooter) -> dict[bytes, bytes]:
    """Return a footer as an entry of a Parquet file's metadata."""
    return {_PART_KEY: msgspec.json.encode(footer)}


def read_footer(metadata: dict[bytes, bytes] | None) -> PartFooter | None:
    """Return the footer in a Parquet file's metadata. None if no readable version of batchmix wrote it."""
    stored: Any = (metadata or {}).get(_PART_KEY)
    if stored is None or (metadata or {}).get(_SCHEMA_KEY) not in _READABLE:
        return None
    footer = msgspec.json.decode(stored, type=PartFooter)
    version = (metadata or {})[_SCHEMA_KEY].decode()
    return msgspec.structs.replace(footer, version=version, **msgspec.structs.asdict(_identity(metadata)))


def columns_of(batch: pa.RecordBatch, schema: pa.Schema) -> list[pa.Array]:
    """Return the columns of a part's batch, with the types of `schema`.

    Of the columns that are newer than the part, those of the run have its values, and the others are null.
    """
    names = set(batch.schema.names)
    lacking = any(name in schema.names and name not in names for name in OF_RUN)
    of_run = run_constants(schema, batch.num_rows) if lacking else {}

    def column(field: pa.Field) -> pa.Array:
        if field.name in names or field.name not in _ADDED:
            return fit(batch.column(field.name), field.type)
        return of_run[field.name] if field.name in of_run else pa.nulls(batch.num_rows, field.type)

    return [column(field) for field in schema]
