"""One result of a run as a typed value."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

import msgspec
import pyarrow as pa

from batchmix.answers.typed import TypedAnswers
from batchmix.store.result_feed import result_values
from batchmix.store.schema import carried_names


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One result of a run: the answer to one row, by one model, in one sample, or why there is none.

    Its attributes are the result columns, and `input`, the row's columns that the run carries. A value that the
    provider did not report is None.

    >>> run = bm.run([{"text": "I loved it"}], "Classify: {{ text }}", model="gpt-4o-mini", base_url="rehearsal:")
    >>> [result] = run
    >>> result.ok, result.row, result.input["text"]
    (True, 0, 'I loved it')
    """

    row: int
    """The position of the row in the input, from 0."""
    custom_id: str
    model: str
    """The name of the model in the job."""
    sample: int = 0
    input: dict[str, Any] = {}
    """The columns of the row that the run carries into its output, as JSON values."""
    status: str
    """`ok`, `failed` (a later start sends the row again) or `rejected` (it does not)."""
    response: str | None = None
    """The text of the answer."""
    answer: Any = None
    """The answer's value in a job with `[answer]`, as JSON values. None if no answer fits the schema."""
    healed: bool | None = None
    """Whether more than plain JSON was received, in a job with `[answer]`. None if there is no valid answer."""
    repairs: int | None = None
    """The number of further requests because an answer was invalid."""
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: str | None = None
    """The tool calls as JSON text."""
    finish_reason: str | None = None
    served_model: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost_usd: float | None = None
    """The cost in USD; None if the price is unknown."""
    attempts: int = 0
    maybe_billed: int = 0
    """The number of attempts that may have been billed without an answer."""
    reused_from: str | None = None
    latency_s: float | None = None
    """The seconds that the attempt with this result took."""
    sent_at: datetime.datetime | None = None
    finished_at: datetime.datetime | None = None
    http_status: int | None = None
    error_type: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    request_id: str | None = None
    """The provider's id of the request."""
    request_hash: str | None = None
    raw: str | None = None
    """The provider's response as JSON text. Streamed results have none, and runs with `output.raw = false`."""

    @property
    def ok(self) -> bool:
        """Whether there is an answer."""
        return self.status == "ok"


def results_in(batches: pa.RecordBatchReader, typed: TypedAnswers | None) -> Iterator[Result]:
    """Yield the results in a run's output. `typed` is None if its answers are any text."""
    carried = carried_names(batches.schema)
    for batch in batches:
        for values in result_values(batch, carried, typed):
            yield Result(**values)
