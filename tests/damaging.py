"""Damage files as a failing disk does."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow.parquet as pq


def flip(path: Path, at: int) -> None:
    """Flip the lowest bit of the byte at an offset, and keep the file's times."""
    data, status = bytearray(path.read_bytes()), path.stat()
    data[at] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def damage_page(path: Path, column: str) -> None:
    """Flip a bit near the end of a column's last page."""
    with pq.ParquetFile(path) as file:
        found = file.metadata.row_group(0).column(file.schema_arrow.names.index(column))
    start = found.dictionary_page_offset or found.data_page_offset
    flip(path, start + found.total_compressed_size - 3)
