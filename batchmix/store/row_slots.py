"""The values of a result row, in the order in which they are copied from an answer and its events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import pyarrow as pa

from batchmix.records import Completion, Key, Status, Usage
from batchmix.store.result_columns import COLUMNS, check_columns
from batchmix.store.totals import Totals

_COLUMNS = [column for column in COLUMNS if column.name != "custom_id" and not column.of_run]
_KEY = ("row", "model", "sample")


class OwnValues(msgspec.Struct, kw_only=True, gc=False):
    """The values of the columns without a source, except the key, in a row with an answer or with a failure."""

    status: Status
    cost_usd: float | None
    attempts: int
    maybe_billed: int
    reused_from: str | None
    latency_s: float | None
    sent_at: int | None
    finished_at: int | None
    http_status: int | None
    error_type: str | None
    error_code: str | None
    error_message: str | None
    request_id: str | None
    request_hash: str
    raw: str | None
    repairs: int


SLOTS = [
    *((None, name) for name in (*_KEY, *OwnValues.__struct_fields__)),
    *((source, name) for source in (Completion, Usage) for name in source.__struct_fields__),
]
"""The source and the attribute of each value of a `ResultRow`."""
check_columns(_COLUMNS, SLOTS)
POSITIONS = {column.name: SLOTS.index((column.source, column.name)) for column in _COLUMNS}
"""The position of each column in a `ResultRow`."""
ANSWER_AT = SLOTS.index((Completion, "answer"))
"""The position of the answer's JSON value in a `ResultRow`."""
TYPES = {column.name: column.type for column in _COLUMNS}
"""The types of the columns."""
NO_ANSWER = (None,) * sum(source is not None for source, _ in SLOTS)
"""The values of a row without an answer that come from the answer and its usage."""
PLAIN = pa.schema((name, pa.int64() if pa.types.is_timestamp(type_) else type_) for name, type_ in TYPES.items())
"""The columns of a `ResultRow`, with times as numbers."""

ResultRow = tuple[Any, ...]
"""The values of a result row without the carried columns.

First comes the key, then the other columns without a source, then all attributes of the answer and of its usage.
Copying all of them takes less time than reading those that have a column.
"""


def named(row: ResultRow) -> dict[str, Any]:
    """Return a result row's values by column name."""
    return {name: row[position] for name, position in POSITIONS.items()}


def by_row(keys: Iterable[Key], models: Sequence[str]) -> dict[int, list[Key]]:
    """Group keys by input row, each group in the order of models and samples. Keys of other models are left out."""
    order = {model: position for position, model in enumerate(models)}
    groups: dict[int, list[Key]] = {}
    for key in keys:
        if key[1] in order:
            groups.setdefault(key[0], []).append(key)
    for same_row in groups.values():
        if len(same_row) > 1:
            same_row.sort(key=lambda key: (order[key[1]], key[2]))
    return groups


def finished_since(rows: list[ResultRow], ms: int) -> Counter[str]:
    """Return how many rows of each model finished at `ms` or later, in milliseconds of Unix time."""
    return Counter(row[POSITIONS["model"]] for row in rows if (row[POSITIONS["finished_at"]] or 0) >= ms)


def add_rows(totals: Totals, rows: list[ResultRow]) -> None:
    """Add result rows to totals."""
    if rows:
        totals.add_columns(by_column(rows))


def by_column(rows: list[ResultRow]) -> dict[str, tuple[Any, ...]]:
    """Return the values of result rows by column name."""
    slots = list(zip(*rows, strict=True)) or [()] * len(SLOTS)
    return {name: slots[position] for name, position in POSITIONS.items()}
