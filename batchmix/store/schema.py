"""The result columns, version 2, and the footer of each part."""

from __future__ import annotations

from typing import Any

import msgspec
import pyarrow as pa

from batchmix import __version__
from batchmix.formats.arrow_cast import fit
from batchmix.store.totals import Totals

VERSION = "2"
_READABLE = (b"1", b"2")
_ADDED = frozenset({"cache_write_tokens"})
"""Columns that version 1 did not have."""
_SCHEMA_KEY = b"batchmix.schema"
_PART_KEY = b"batchmix.part"
_JOB_KEY = b"batchmix.job"
CHECKSUM_KEY = b"batchmix.crc"
"""Of the footer itself."""

_BEFORE = (
    pa.field("row", pa.int64()),  # 0-based position in the input
    pa.field("custom_id", pa.string()),
    pa.field("model", pa.string()),  # the name of the job's entry
    pa.field("sample", pa.int32()),
)
_AFTER = (
    pa.field("status", pa.string()),  # ok, failed, rejected
    pa.field("response", pa.string()),
    pa.field("reasoning", pa.string()),
    pa.field("refusal", pa.string()),
    pa.field("tool_calls", pa.string()),  # JSON
    pa.field("finish_reason", pa.string()),
    pa.field("served_model", pa.string()),
    pa.field("prompt_tokens", pa.int64()),
    pa.field("completion_tokens", pa.int64()),
    pa.field("total_tokens", pa.int64()),
    pa.field("cached_tokens", pa.int64()),  # of the prompt's: read from a cache
    pa.field("cache_write_tokens", pa.int64()),  # of the prompt's: written to one
    pa.field("reasoning_tokens", pa.int64()),
    pa.field("cost_usd", pa.float64()),  # null: unknown price
    pa.field("attempts", pa.int32()),
    pa.field("maybe_billed", pa.int32()),  # attempts without a response, or with an unusable one
    pa.field("reused_from", pa.string()),
    pa.field("latency_s", pa.float64()),  # of the attempt that counted
    pa.field("sent_at", pa.timestamp("ms", tz="UTC")),
    pa.field("finished_at", pa.timestamp("ms", tz="UTC")),
    pa.field("http_status", pa.int32()),
    pa.field("error_type", pa.string()),
    pa.field("error_code", pa.string()),
    pa.field("error_message", pa.string()),
    pa.field("request_id", pa.string()),  # the provider's trace id
    pa.field("request_hash", pa.string()),
    pa.field("raw", pa.string()),  # the provider's JSON as it was received
)
RESULT_SCHEMA = pa.schema([*_BEFORE, *_AFTER])
"""The columns of version 2 in their order; carried input columns are between `sample` and `status`."""
RESULT_COLUMNS = frozenset(RESULT_SCHEMA.names)


class PartFooter(msgspec.Struct, frozen=True):
    """The summary of a part, so that a resume need not read its rows."""

    shard: int
    first: int
    stop: int
    """The part holds the results of input rows [first, stop)."""
    digest: str
    """Of the shard's input bytes and the request-making part of the job."""
    columns: str
    """Digest of the carried columns: names, sources, types."""
    totals: Totals
    rehearsal: bool | None = None
    """Whether the rehearsal provider answered; None: unknown, in parts of old versions."""
    shard_rows: int = 0
    """Rows of each shard of the run; 0: unknown, in parts of old versions."""
    job: str = ""
    """Name of the job, from the schema's metadata."""
    version: str = VERSION
    """Version of the columns, from there too."""


class Seal(msgspec.Struct, frozen=True):
    """Identifies a part: no other has the same footer, which holds sizes and times."""

    crc: int
    """Checksum of the footer."""
    size: int
    """In bytes."""
    written_ns: int = 0
    """When the file was last written to; a different time alone does not mean a different part."""

    @property
    def proof(self) -> tuple[int, int]:
        """What differs between any two parts."""
        return self.crc, self.size


def part_schema(carried: pa.Schema, job_name: str) -> pa.Schema:
    """Return the schema of every part of a run; `carried` starts with `custom_id`."""
    fields = [*_BEFORE, *(carried.field(i) for i in range(1, len(carried.names))), *_AFTER]
    metadata = {
        _SCHEMA_KEY: VERSION.encode(),
        _JOB_KEY: job_name.encode("utf-8", "replace"),
        b"batchmix.version": __version__.encode(),
    }
    return pa.schema(fields, metadata=metadata)


def footer_metadata(footer: PartFooter) -> dict[bytes, bytes]:
    """Return the key-value pair of a footer in Parquet's metadata."""
    return {_PART_KEY: msgspec.json.encode(footer)}


def read_footer(metadata: dict[bytes, bytes] | None) -> PartFooter | None:
    """Return the footer in a Parquet file's metadata, or None where batchmix did not write it."""
    found: Any = (metadata or {}).get(_PART_KEY)
    if found is None or (metadata or {}).get(_SCHEMA_KEY) not in _READABLE:
        return None
    footer = msgspec.json.decode(found, type=PartFooter)
    job = (metadata or {}).get(_JOB_KEY, b"").decode("utf-8", "replace")
    return msgspec.structs.replace(footer, job=job, version=(metadata or {})[_SCHEMA_KEY].decode())


def columns_of(batch: pa.RecordBatch, schema: pa.Schema) -> list[pa.Array]:
    """Return the columns of a part's batch, with the types of `schema`; columns that its version lacks are null."""
    names = set(batch.schema.names)
    return [
        pa.nulls(batch.num_rows, field.type)
        if field.name in _ADDED and field.name not in names
        else fit(batch.column(field.name), field.type)
        for field in schema
    ]
