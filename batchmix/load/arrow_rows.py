"""Parquet rows as JSON would have given them, and as requests want them."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from batchmix.formats.arrow_values import row_values
from batchmix.load.jsonl import BadLineError, decode_value


def row_dicts(batch: pa.RecordBatch, mode: str) -> list[dict[str, Any]]:
    """Return a batch's rows; in `plain` and `batch` mode with `messages` and `body` as the provider wants them."""
    rows = row_values(batch)
    if mode != "template":
        asked = [name for name in ("messages", "body") if name in batch.schema.names]
        for row in rows if asked else ():
            row.update((name, decode_cell(row[name])) for name in asked)
    return rows


def decode_cell(value: Any) -> Any:
    """Return `messages` or `body`, which may come as structs or as JSON text."""
    if isinstance(value, str):
        try:
            return decode_value(value.encode())
        except (BadLineError, UnicodeEncodeError):
            return value
    return _without_filling(value)


def _without_filling(value: Any) -> Any:
    """Return a value without the nulls that only fill up structs; a message keeps `content: null`."""
    if isinstance(value, list):
        return [_without_filling(item) for item in value]
    if isinstance(value, dict):
        return {key: _without_filling(item) for key, item in value.items() if item is not None or key == "content"}
    return value
