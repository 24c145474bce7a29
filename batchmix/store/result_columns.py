"""The table of the result columns. To add a column, add a line to the table."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import pyarrow as pa

from batchmix.records import Completion, Usage


class ResultColumn(msgspec.Struct, frozen=True):
    """A result column: its name, its type, and the source of its values."""

    name: str
    type: pa.DataType
    source: type[Completion | Usage] | None = None
    """The class with an attribute of the column's name that is the value. The column is null in rows without an answer.

    None if the value comes from `ResultRows`, which has code for each of these columns.
    """
    added_in: int = 1
    """The first schema version with this column. In parts of earlier versions the column reads as null."""
    typed: bool = False
    """Whether only jobs with a schema for their answers have this column."""
    of_run: bool = False
    """Whether the column has one value in the whole run. `schema.run_constants` returns it."""


_TIME = pa.timestamp("ms", tz="UTC")
_BEFORE_CARRIED = (
    ResultColumn("row", pa.int64()),  # 0-based position in the input
    ResultColumn("custom_id", pa.string()),
    ResultColumn("model", pa.string()),  # the name of the job's entry
    ResultColumn("sample", pa.int32()),
)
_AFTER_CARRIED = (
    ResultColumn("status", pa.string()),  # ok, failed, rejected
    ResultColumn("response", pa.string(), Completion),
    # Here a job with a schema has the columns of the answers' values, whose types follow from the schema.
    ResultColumn("healed", pa.bool_(), Completion, typed=True),  # more than plain JSON was received
    ResultColumn("repairs", pa.int32(), typed=True),  # further requests, because an answer was invalid
    ResultColumn("reasoning", pa.string(), Completion),
    ResultColumn("refusal", pa.string(), Completion),
    ResultColumn("tool_calls", pa.string(), Completion),  # JSON
    ResultColumn("finish_reason", pa.string(), Completion),
    ResultColumn("served_model", pa.string(), Completion),
    ResultColumn("prompt_tokens", pa.int64(), Usage),
    ResultColumn("completion_tokens", pa.int64(), Usage),
    ResultColumn("total_tokens", pa.int64(), Usage),
    ResultColumn("cached_tokens", pa.int64(), Usage),  # prompt tokens that were read from a cache
    ResultColumn("cache_write_tokens", pa.int64(), Usage, added_in=2),  # prompt tokens that were written to a cache
    ResultColumn("reasoning_tokens", pa.int64(), Usage),
    ResultColumn("cost_usd", pa.float64()),  # null: unknown price
    ResultColumn("attempts", pa.int32()),
    ResultColumn("maybe_billed", pa.int32()),  # attempts without a response, or with an unusable one
    ResultColumn("reused_from", pa.string()),
    ResultColumn("latency_s", pa.float64()),  # of the attempt that counted
    ResultColumn("sent_at", _TIME),
    ResultColumn("finished_at", _TIME),
    ResultColumn("http_status", pa.int32()),
    ResultColumn("error_type", pa.string()),
    ResultColumn("error_code", pa.string()),
    ResultColumn("error_message", pa.string()),
    ResultColumn("request_id", pa.string()),  # the provider's trace id
    ResultColumn("request_hash", pa.string()),
    ResultColumn("raw", pa.string()),  # the provider's JSON as it was received
)
_OF_RUN = (  # so that the results of many runs are one table, whatever reads it
    ResultColumn("job", pa.string(), added_in=3, of_run=True),
    ResultColumn("run", pa.string(), added_in=3, of_run=True),  # stays the same when the folder is moved
    ResultColumn("night", pa.date32(), added_in=3, of_run=True),  # the scheduled date
)
CARRIED_AT = len(_BEFORE_CARRIED)
"""The position of the carried input columns among the result columns."""
COLUMNS = [*_BEFORE_CARRIED, *_AFTER_CARRIED, *_OF_RUN]
"""The result columns in the order in which they are stored."""


def check_columns(
    columns: Iterable[ResultColumn], filled: Iterable[tuple[type[Completion | Usage] | None, str]]
) -> None:
    """Raise `TypeError` unless the values that result rows are filled with have a column each, and the reverse.

    `filled` are the source and the name of each value. Not every attribute of an answer needs a column. This is checked
    when the package is imported: a shard is sealed only after its requests have been paid for.
    """
    wanted, filled = {(column.source, column.name) for column in columns}, set(filled)
    unfilled = [name for source, name in wanted - filled]
    unlisted = [name for source, name in filled - wanted if source is None]
    if unfilled or unlisted:
        raise TypeError(
            f"result_columns.COLUMNS and result_rows differ: not filled: {sorted(unfilled)}, not in the table:"
            f" {sorted(unlisted)}"
        )
