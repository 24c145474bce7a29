"""The table of the result columns. A new column is one line of it."""

from __future__ import annotations

import msgspec
import pyarrow as pa

from batchmix.records import Completion, Usage


class Column(msgspec.Struct, frozen=True):
    """A result column."""

    name: str
    type: pa.DataType
    source: type[Completion | Usage] | None = None
    """The class whose attribute of the column's name is the value. Such a column is null in rows without an answer.

    None: the value comes from `ResultRows`, which has code for each of these columns.
    """
    added_in: int = 1
    """The first schema version with this column. In parts of earlier versions it reads as null."""


_TIME = pa.timestamp("ms", tz="UTC")
_BEFORE_CARRIED = (
    Column("row", pa.int64()),  # 0-based position in the input
    Column("custom_id", pa.string()),
    Column("model", pa.string()),  # the name of the job's entry
    Column("sample", pa.int32()),
)
_AFTER_CARRIED = (
    Column("status", pa.string()),  # ok, failed, rejected
    Column("response", pa.string(), Completion),
    Column("reasoning", pa.string(), Completion),
    Column("refusal", pa.string(), Completion),
    Column("tool_calls", pa.string(), Completion),  # JSON
    Column("finish_reason", pa.string(), Completion),
    Column("served_model", pa.string(), Completion),
    Column("prompt_tokens", pa.int64(), Usage),
    Column("completion_tokens", pa.int64(), Usage),
    Column("total_tokens", pa.int64(), Usage),
    Column("cached_tokens", pa.int64(), Usage),  # prompt tokens that were read from a cache
    Column("cache_write_tokens", pa.int64(), Usage, added_in=2),  # prompt tokens that were written to a cache
    Column("reasoning_tokens", pa.int64(), Usage),
    Column("cost_usd", pa.float64()),  # null: unknown price
    Column("attempts", pa.int32()),
    Column("maybe_billed", pa.int32()),  # attempts without a response, or with an unusable one
    Column("reused_from", pa.string()),
    Column("latency_s", pa.float64()),  # of the attempt that counted
    Column("sent_at", _TIME),
    Column("finished_at", _TIME),
    Column("http_status", pa.int32()),
    Column("error_type", pa.string()),
    Column("error_code", pa.string()),
    Column("error_message", pa.string()),
    Column("request_id", pa.string()),  # the provider's trace id
    Column("request_hash", pa.string()),
    Column("raw", pa.string()),  # the provider's JSON as it was received
)
CARRIED_AT = len(_BEFORE_CARRIED)
"""The position of the carried input columns among the result columns."""
COLUMNS = [*_BEFORE_CARRIED, *_AFTER_CARRIED]
"""The result columns in the order in which they are stored."""
