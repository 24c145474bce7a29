"""Sealed shards: `data/part-00042.parquet`, made under a temporary name and put in place by a rename."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from batchmix.errors import NoSpace, RunError
from batchmix.store.files import NO_SPACE, appearing, not_plain, plain_or_absent
from batchmix.store.schema import PartFooter, footer_metadata, read_footer

_GROUP_BYTES = 4 * 2**20
"""A row group is written when this much is waiting: large enough to scan fast, small enough to keep memory flat."""
_GROUP_ROWS = 50_000
_UNIQUE = frozenset({"row", "custom_id", "response", "reasoning", "request_id", "request_hash", "raw"})
_NAME = re.compile(r"part-([0-9]{5,})\.parquet")


def part_path(data: Path, shard: int) -> Path:
    """Return where a shard's part stands."""
    return data / f"part-{shard:05}.parquet"


def list_parts(data: Path) -> dict[int, Path]:
    """Return the parts that are there, by shard. Raises `RunError` where one is a link or no plain file."""
    named = ((int(match[1]), path) for path in data.glob("part-*.parquet") if (match := _NAME.fullmatch(path.name)))
    found = {shard: path for shard, path in sorted(named) if path == part_path(data, shard)}
    for path in found.values():
        if not plain_or_absent(path):
            raise not_plain(path)
    return found


def read_part_footer(path: Path) -> PartFooter:
    """Return what a part says of itself. Raises `RunError` if it is not a part of this version."""
    try:
        footer = read_footer(pq.read_metadata(path).metadata)
    except (OSError, pa.ArrowException) as error:
        raise RunError(f"{path}: can't be read as Parquet: {error}") from error
    if footer is None:
        raise RunError(f"{path}: is not a part that this version of batchmix wrote")
    return footer


def read_part_schema(path: Path) -> pa.Schema:
    """Return a part's Arrow schema."""
    return pq.read_schema(path)


def write_rows(path: Path, schema: pa.Schema, batches: Iterator[pa.RecordBatch], pace: Callable[[], None]) -> None:
    """Write batches to a Parquet file, which is there, in row groups of a good size; `pace` is called between them."""
    with _writer(path, schema) as writer:
        _write(writer, schema, batches, pace)


def seal_part(
    path: Path,
    made_in: Path,
    schema: pa.Schema,
    batches: Iterator[pa.RecordBatch],
    finish: Callable[[], PartFooter],
    pace: Callable[[], None],
) -> PartFooter:
    """Write a part in another folder, bring it to the disk, and put it in place.

    `finish` is called after the last batch and returns the footer. Repeatable from any point: what a crash leaves
    behind is a temporary file. Raises `NoSpace`.
    """
    try:
        with appearing(path, made_in=made_in) as temporary, _writer(temporary, schema) as writer:
            _write(writer, schema, batches, pace)
            footer = finish()
            writer.add_key_value_metadata(footer_metadata(footer))
    except OSError as error:
        if error.errno in NO_SPACE:
            raise NoSpace(f"no space left for {path}; make room and start the same command again") from error
        raise
    return footer


def _writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    # Columns in which hardly two values are the same: a dictionary of them costs time and saves nothing.
    repeating = [name for name in schema.names if name not in _UNIQUE]
    return pq.ParquetWriter(path, schema, compression="zstd", compression_level=1, use_dictionary=repeating)


def _write(
    writer: pq.ParquetWriter, schema: pa.Schema, batches: Iterator[pa.RecordBatch], pace: Callable[[], None]
) -> None:
    waiting: list[pa.RecordBatch] = []
    size = rows = 0
    for batch in batches:
        waiting.append(batch)
        size += batch.nbytes
        rows += batch.num_rows
        if size >= _GROUP_BYTES or rows >= _GROUP_ROWS:
            writer.write_table(pa.Table.from_batches(waiting, schema), row_group_size=_GROUP_ROWS)
            waiting, size, rows = [], 0, 0
        pace()
    if waiting:
        writer.write_table(pa.Table.from_batches(waiting, schema), row_group_size=_GROUP_ROWS)
