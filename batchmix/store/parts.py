"""Reads and writes parts, which are the Parquet files of sealed shards, such as `data/part-00042.parquet`.

A part is written under a temporary name and then renamed.
"""

from __future__ import annotations

import contextlib
import os
import re
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from batchmix.errors import PartDamaged, RunError, disk_error, disk_errors
from batchmix.records import part_name
from batchmix.remote.stubs import fetch_if_stub
from batchmix.store.filesystem import (
    PRIVATE,
    atomic_replacement,
    is_regular_or_missing,
    names_in,
    not_plain,
    open_plain,
    sync_file,
)
from batchmix.store.schema import CHECKSUM_KEY, PartFooter, Seal, footer_metadata, read_footer

_GROUP_BYTES, _LONG_GROUP_BYTES = 4 * 2**20, 8 * 2**20
"""The size in bytes at which a row group is written: large enough to scan fast, small enough to keep memory flat.

Of long rows it is twice that, since a group takes the same time for each column, however few rows it has."""
_GROUP_ROWS = 50_000
_COMPRESSED: Any = {"compression": "zstd", "compression_level": 1}
_UNIQUE = frozenset({"row", "custom_id", "response", "reasoning", "request_id", "request_hash", "raw"})
_LONG_BYTES = 4096
"""The mean size of a column's values, in bytes, from which the column is a long one."""
_NAME = re.compile(r"part-([0-9]{5,})\.parquet")
_CHECKSUM = re.compile(re.escape(CHECKSUM_KEY) + rb"\x18\x08([0-9a-f]{8})")
"""Matches the checksum's key and value, as Thrift's compact protocol writes them."""
_NO_CHECKSUM = b"0" * 8
_END = b"\0\0\0\0PAR1"
"""The last bytes of a Parquet file: the length of its footer, and its magic number."""


class SealHooks(msgspec.Struct, frozen=True):
    """The callbacks for writing a part, and the permissions of the part."""

    pace: Callable[[], None]
    """Called after each batch."""
    finish: Callable[[], PartFooter]
    """Called after the last batch. Returns the footer."""
    record: Callable[[PartFooter, Seal], None]
    """Called when the part is on the disk, before it is renamed."""
    mode: int = PRIVATE
    """The permissions of the part."""


def part_path(data: Path, shard: int) -> Path:
    """Return the path of a shard's part."""
    return data / part_name(shard)


def list_parts(data: Path) -> dict[int, Path]:
    """Return the existing parts, by shard. Raises `RunError` if one is a link or not a regular file."""
    named = ((int(match[1]), data / name) for name in names_in(data) if (match := _NAME.fullmatch(name)))
    parts = {shard: path for shard, path in sorted(named) if path == part_path(data, shard)}
    for path in parts.values():
        if not is_regular_or_missing(path):
            raise not_plain(path)
    return parts


def read_part(path: Path) -> tuple[PartFooter, Seal]:
    """Return a part's footer, and the seal that identifies the part.

    Raises `PartDamaged`, and `RunError` if the file is not a part that this version can read.
    """
    with _source(path) as file:
        return _read_footer(path, file)


def read_part_of(path: Path, shard: int) -> tuple[PartFooter, Seal]:
    """Read a part like `read_part`, but raise `PartDamaged` also if it belongs to another shard."""
    footer, seal = read_part(path)
    if footer.shard != shard:
        raise PartDamaged(f"{path}: holds the rows of shard {footer.shard}")
    return footer, seal


@contextlib.contextmanager
def open_part(path: Path) -> Iterator[pq.ParquetFile]:
    """Open a part for reading. Checksums are verified for each page that is read.

    If the part is in object storage, and only its footer is here, it is fetched first. Raises `PartDamaged` on opening,
    and for errors of reading inside the block.
    """
    fetch_if_stub(path)
    with _source(path) as file:
        _read_footer(path, file)
        try:
            with pq.ParquetFile(file, page_checksum_verification=True) as part:
                yield part
        except (OSError, pa.ArrowException) as error:
            raise _damaged(path, str(error)) from error


def row_groups(
    path: Path,
    columns: list[str] | None,
    damage: list[str],
    wanted: Callable[[pq.ParquetFile, int], bool] = lambda _part, _group: True,
) -> Iterator[pa.Table]:
    """Yield a part's row groups. Damaged row groups are left out, and a message about each is added to `damage`.

    So are those for which `wanted` is false. Raises `PartDamaged` if nothing can be read.
    """
    with open_part(path) as part:
        signed = CHECKSUM_KEY in (part.metadata.metadata or {})
        for group in range(part.num_row_groups):
            try:
                if not wanted(part, group):
                    continue
                table = part.read_row_group(group, columns=columns)
                if not signed:  # an older version wrote no checksums, so check that the strings are UTF-8
                    table.validate(full=True)
            except (OSError, pa.ArrowException):
                rows = part.metadata.row_group(group).num_rows
                damage.append(f"{path}: is damaged, {rows} of its {part.metadata.num_rows} rows can't be read")
            else:
                yield table


def read_through(path: Path, damage: list[str]) -> None:
    """Read a whole part and add messages about its damage to `damage`. Raises `PartDamaged` if nothing can be read."""
    for _ in row_groups(path, None, damage):
        pass


@contextlib.contextmanager
def _source(path: Path) -> Iterator[pa.NativeFile]:
    try:
        file = pa.OSFile(str(path), "rb")
    except FileNotFoundError:
        raise
    except OSError as error:  # an error of the disk, so the part itself may be undamaged
        plain = error if error.errno is None else OSError(error.errno, os.strerror(error.errno))
        raise disk_error(plain, path) from error
    with file:
        yield file


def _read_footer(path: Path, file: pa.NativeFile) -> tuple[PartFooter, Seal]:
    try:
        tail, size = _tail(file), file.size()
        checksum = _CHECKSUM.search(tail)
        seal = Seal(zlib.crc32(_unsigned(tail, checksum)), size, path.stat().st_mtime_ns)
        if checksum and int(checksum[1], 16) != seal.crc:
            raise _damaged(path, "the checksum of its footer does not hold")
        footer = read_footer(pq.read_metadata(file).metadata)
    except (OSError, pa.ArrowException, msgspec.DecodeError) as error:
        raise _damaged(path, str(error)) from error
    if footer is None:
        raise RunError(
            f"{path}: was not written by this version of batchmix; put back the part that was, or move this one away"
        )
    return footer, seal


def _tail(file: pa.NativeFile) -> bytes:
    """Return the bytes from a Parquet file's footer to the end of the file. Raises `OSError` if there is no footer."""
    size = file.size()
    file.seek(max(0, size - len(_END)))
    end = file.read()
    length = int.from_bytes(end[:4], "little") + len(_END)
    if end[4:] != _END[4:] or length > size:
        raise OSError("it is cut off, or no Parquet file")
    file.seek(size - length)
    tail: bytes = file.read()
    return tail


def _unsigned(tail: bytes, checksum: re.Match[bytes] | None) -> bytes:
    return tail[: checksum.start(1)] + _NO_CHECKSUM + tail[checksum.end(1) :] if checksum else tail


def _sign(path: Path) -> Seal:
    """Write the checksum of a part's footer into the footer, since Parquet has checksums for pages only."""
    with pa.OSFile(str(path), "rb") as file:
        tail, size = _tail(file), file.size()
    checksum = _CHECKSUM.search(tail)
    assert checksum is not None
    crc = zlib.crc32(_unsigned(tail, checksum))
    fd = open_plain(path, os.O_WRONLY)
    try:
        os.pwrite(fd, b"%08x" % crc, size - len(tail) + checksum.start(1))
        return Seal(crc, size, os.fstat(fd).st_mtime_ns)
    finally:
        os.close(fd)


def _damaged(path: Path, why: str) -> PartDamaged:
    return PartDamaged(f"{path}: is damaged ({why})")


def write_rows(
    file: Path | BinaryIO, schema: pa.Schema, batches: Iterator[pa.RecordBatch], pace: Callable[[], None]
) -> None:
    """Write batches to an existing empty file as Parquet. `pace` is called after each batch."""
    first = next(batches, None)
    with _writer(file, schema, first) as writer:
        _write(writer, schema, _all(first, batches), pace)


def seal_part(
    path: Path, made_in: Path, schema: pa.Schema, batches: Iterator[pa.RecordBatch], hooks: SealHooks
) -> None:
    """Write a part in the folder `made_in`, sync it, and rename it to `path`.

    A crash leaves only a temporary file, so sealing can be repeated. Raises `NoSpace` and `DiskError`.
    """
    with disk_errors(path), atomic_replacement(path, hooks.mode, made_in=made_in) as temporary:
        first = next(batches, None)
        with _writer(temporary, schema, first) as writer:
            _write(writer, schema, _all(first, batches), hooks.pace)
            footer = hooks.finish()
            writer.add_key_value_metadata({**footer_metadata(footer), CHECKSUM_KEY: _NO_CHECKSUM})
        seal = _sign(temporary)
        sync_file(temporary)
        hooks.record(footer, seal)


def _writer(file: Path | BinaryIO, schema: pa.Schema, first: pa.RecordBatch | None) -> pq.ParquetWriter:
    """Return a writer for batches like the `first`."""
    long = set() if first is None else _long_columns(first)
    options = _options_for_long_rows(schema, long) if long else _COMPRESSED
    # Columns whose values hardly repeat get no dictionary, which would cost time and save nothing.
    repeating = [] if long else [name for name in schema.names if name not in _UNIQUE]
    return pq.ParquetWriter(file, schema, **options, use_dictionary=repeating, write_page_checksum=True)


def _long_columns(batch: pa.RecordBatch) -> set[str]:
    """Return the columns with long values, such as documents."""
    most = _LONG_BYTES * batch.num_rows
    return {name for name, column in zip(batch.schema.names, batch.columns, strict=True) if column.nbytes > most}


def _options_for_long_rows(schema: pa.Schema, long: set[str]) -> dict[str, Any]:
    """Return options for row groups with few rows, in which the work per column is half of all.

    Only long columns are compressed, and they get no statistics, for which all texts would be compared.
    """
    short = [name for name in schema.names if name not in long]
    if any(map(pa.types.is_nested, schema.types)):  # their columns have other names in Parquet
        return {**_COMPRESSED, "write_statistics": short}
    return {
        "compression": dict.fromkeys(short, "none") | dict.fromkeys(long, _COMPRESSED["compression"]),
        "compression_level": dict.fromkeys(long, _COMPRESSED["compression_level"]),
        "write_statistics": short,
    }


def _all(first: pa.RecordBatch | None, rest: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    return rest if first is None else chain((first,), rest)


def _write(
    writer: pq.ParquetWriter, schema: pa.Schema, batches: Iterator[pa.RecordBatch], pace: Callable[[], None]
) -> None:
    """Write batches in row groups. Long rows are compressed in another thread, while the next ones are made."""
    with ThreadPoolExecutor(1) as writing:
        written: Future[None] | None = None
        for group in _groups(schema, batches, pace):
            if written:
                written.result()
            if _is_long(group.nbytes, group.num_rows):
                written = writing.submit(writer.write_table, group, row_group_size=_GROUP_ROWS)
            else:  # another thread and another group would take more memory
                writer.write_table(group, row_group_size=_GROUP_ROWS)
            del group  # otherwise it would be kept until the next one is made
        if written:
            written.result()


def _groups(schema: pa.Schema, batches: Iterator[pa.RecordBatch], pace: Callable[[], None]) -> Iterator[pa.Table]:
    waiting: list[pa.RecordBatch] = []
    size = rows = 0
    for batch in batches:
        waiting.append(batch)
        size += batch.nbytes
        rows += batch.num_rows
        most = _LONG_GROUP_BYTES if _is_long(size, rows) else _GROUP_BYTES
        if size >= most or rows >= _GROUP_ROWS:
            group = pa.Table.from_batches(waiting, schema)
            waiting, size, rows = [], 0, 0
            yield group
            del group  # as above
        pace()
    if waiting:
        yield pa.Table.from_batches(waiting, schema)


def _is_long(size: int, rows: int) -> bool:
    return size > _LONG_BYTES * rows
