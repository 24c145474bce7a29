"""The digest of a table's content, however the table is cut into batches and laid out in memory."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from typing import Any

import pyarrow as pa

from batchmix.formats.arrow_values import is_binary, is_extension, is_list, is_text, items_of
from batchmix.formats.pyarrow_setup import compute

Types = pa.types


class ContentDigest:
    """The SHA-256 of a table that comes in batches.

    It is computed from the names, types and values alone. Arrow's own format also holds what may differ for the same
    values: where batches end, which bytes lie under a null, in which order a dictionary has its values.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self.rows = 0
        self._columns = [(f"{number}", field.name) for number, field in enumerate(schema)]
        self._streams: dict[str, Any] = defaultdict(hashlib.sha256)
        for field in schema:
            self._streams["schema"].update(f"{field.name!r} {field.type}\n".encode())

    def update(self, batch: pa.RecordBatch) -> None:
        """Add the rows of a batch."""
        self.rows += batch.num_rows
        for (path, _), column in zip(self._columns, batch.columns, strict=True):
            self._add(path, column)

    def hexdigest(self) -> str:
        """Return the digest of all rows so far."""
        whole = hashlib.sha256(f"{self.rows} rows\n".encode())
        for path, stream in sorted(self._streams.items()):
            whole.update(f"{path} {stream.hexdigest()}\n".encode())
        return whole.hexdigest()

    def _add(self, path: str, column: pa.Array) -> None:
        """Add the values of a column, level by level: which are null, and then the others."""
        dtype = column.type
        if is_extension(dtype):
            self._add(path, column.storage)
        elif Types.is_dictionary(dtype):
            self._add(path, column.dictionary_decode())
        else:
            self._bytes(f"{path} valid", column.is_valid().cast(pa.uint8()))
            if Types.is_struct(dtype):
                for number, child in enumerate(column.flatten()):  # its values are null where the struct is
                    self._add(f"{path}.{number}", child)
            elif is_list(dtype) or Types.is_map(dtype):
                self._lists(path, column)
            elif not Types.is_null(dtype):
                self._values(path, column.drop_null() if column.null_count else column)

    def _lists(self, path: str, column: pa.Array) -> None:
        items, places = items_of(column)
        if column.null_count:
            valid = column.is_valid().to_pylist()
            places = [(at if is_valid else (0, 0)) for at, is_valid in zip(places, valid, strict=True)]
        lengths = [stop - start for start, stop in places]
        self._bytes(f"{path} lengths", pa.array(lengths, pa.int64()))
        if sum(lengths) == len(items):
            self._add(f"{path}[]", items)
        else:  # a null list has items too
            for (start, _), length in zip(places, lengths, strict=True):
                self._add(f"{path}[]", items.slice(start, length))

    def _values(self, path: str, column: pa.Array) -> None:
        if is_text(column.type) or is_binary(column.type):
            self._texts(path, column)
        else:
            self._bytes(path, column.cast(pa.uint8()) if Types.is_boolean(column.type) else column)

    def _texts(self, path: str, column: pa.Array) -> None:
        column = column.cast(pa.large_binary())
        self._bytes(f"{path} lengths", compute().binary_length(column))
        _, offsets, data = column.buffers()
        if len(column):
            ends = memoryview(offsets).cast("q")
            self._streams[path].update(memoryview(data)[ends[column.offset] : ends[column.offset + len(column)]])

    def _bytes(self, path: str, column: pa.Array) -> None:
        """Add a column of a type with a fixed width."""
        width = column.type.bit_width // 8
        data = column.buffers()[1]
        if len(column):
            view = memoryview(data).cast("B")
            self._streams[path].update(view[column.offset * width : (column.offset + len(column)) * width])
