"""The values that pass between the packages.

A `Request` leads to an `Exchange`, which is classified as a `Completion` or a `Failure`.

Row, model and sample are the key of a result. Rows are numbered from 0 in input order, and a row's samples from 0.
`model` is the name of a model in the job.
"""

from __future__ import annotations

import enum
from typing import Any

import msgspec

from batchmix.errors import FailureAction

CLASSIFIER_VERSION = 2
"""The version of `responses.classify`, stored in the header of each journal. Raise it when fewer responses count as
answers. A start whose open journals have another version then warns the user before it requests answers again. Answers
that do not fit the job's schema are left out: they stay in the row's chain, and are not requested again."""
RUN_FOLDER_NAMES = frozenset(
    {"data", "journal", "input", "evaluation"}
    | {"run.json", "summary.json", "manifest.json", "_SUCCESS", "ledger.jsonl", "lock", "report.html"}
)
"""Names of the files and folders in a run folder. They are neither input nor a target of an export."""
CHAIN_FILE = "chain.json"
"""The file in the folder of a chain that lists its steps."""
SKIPPED = "skipped"
"""The `error_type` of a row for which the job's `when` is false. It is no failure: nothing was asked of it."""
NO_INPUT = "no_input"
"""The `error_type` of a row that has no answer in the run that is the input."""
Key = tuple[int, str, int]
"""(row, model, sample), which identifies a request, its journal lines and its result row."""


class Request(msgspec.Struct, frozen=True, gc=False):
    """A request as it is sent, without the host and the API key."""

    row: int
    model: str
    sample: int
    hash: str
    """A hash of the URL path and the body. The order of the body's keys and its streaming keys do not affect it."""
    path: str
    """The URL path after `base_url`, such as `/chat/completions`."""
    body: bytes
    prompt_tokens: int
    """The estimated prompt tokens, used for pacing until the answer's usage is known."""
    max_tokens: int | None
    """The most tokens that all choices of the answer may have together. None if the request sets no limit."""
    streamed_choices: int = 0
    """The number of choices to stream; 0 if the answer is not streamed."""
    streams_by_default: bool = False
    """Whether batchmix itself chose to stream because the answer may be long. Neither the job nor the row sets it."""
    line: tuple[int, int] | None = None
    """Where the row is: the number of its file, and the number of its line in that file. None for Parquet."""
    inputs: int = 0
    """The number of embeddings to compute; 0 for other endpoints."""

    @property
    def key(self) -> Key:
        """The key of the request: (row, model, sample)."""
        return (self.row, self.model, self.sample)


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Token counts as the provider reported them. A count that was not reported is None."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    cache_write_tokens: int | None = None
    """Prompt tokens written to a cache. They are included in `prompt_tokens`, like `cached_tokens`."""
    hour_tokens: int | None = None
    """Those of the `cache_write_tokens` that stay in the cache for an hour, which costs more."""


class Tokens(msgspec.Struct, frozen=True, gc=False):
    """Token counts, estimated or reported, that can be added up."""

    prompt: int = 0
    completion: int = 0

    def __add__(self, other: Tokens) -> Tokens:
        """Return the sum of two `Tokens`, count by count."""
        return Tokens(self.prompt + other.prompt, self.completion + other.completion)


UNKNOWN_COMPLETION = 1000
"""The assumed number of tokens in an answer, if the request sets no limit and nothing else is known."""
BYTES_PER_TOKEN = 4
"""Bytes of UTF-8 text per token, on average. The real number of tokens is 0.5 to 1.5 times the estimate from it."""


class Failure(msgspec.Struct, frozen=True, gc=False):
    """Why an attempt brought no answer, and what follows."""

    action: FailureAction
    type: str
    """The value of the result column `error_type`: `throttled`, `timeout`, `rejected`, `bad_row`, …"""
    message: str
    code: str | None = None
    """The provider's own error code, if it gave one."""
    early_action: FailureAction | None = None
    """The action to take instead of `action` until the model has given its first answer in this start."""
    attempts: int | None = None
    """The most attempts that a row with this failure gets. None means as many as the job allows."""
    maybe_billed: bool = False
    """Whether the provider finished and may have billed the request, although it sent neither an answer nor usage."""
    may_be_throttling: bool = False
    """Whether it means that requests are sent too fast if others are answered at the same time."""
    may_be_overload: bool = False
    """Whether it means the same if many requests fail like this while others are answered."""
    unsent: bool = False
    """Whether nothing of the request was sent, because the provider could not be reached."""
    usage: Usage | None = None
    """The usage that the provider reported although it sent no answer. None if it reported none."""
    wait_s: float | None = None
    """The wait that the body of the error asks for. None if it asks for none."""
    parameter: str = ""
    """The request parameter that the provider refuses, if `message` says what to do about it. Empty otherwise."""


def part_name(shard: int) -> str:
    """Return the name of a shard's part in a run's folder `data`."""
    return f"part-{shard:05}.parquet"


class RejectedRow(msgspec.Struct, frozen=True, gc=False):
    """A row that can't be turned into a request. Its result has the status `rejected`."""

    row: int
    model: str
    sample: int
    failure: Failure
    hash: str = ""
    """Always empty, because there is no request to hash."""

    @property
    def key(self) -> Key:
        """The key of the result: (row, model, sample)."""
        return (self.row, self.model, self.sample)


class Quota(msgspec.Struct, frozen=True, gc=False):
    """The state of one rate limit of the provider, as reported in the headers of a response."""

    limit: float
    remaining: float
    reset_s: float | None
    """Seconds until `remaining` is back at `limit`. None if the headers do not say."""


class Exchange(msgspec.Struct, frozen=True, gc=False):
    """One attempt before it is classified: its response, or how it failed."""

    sent_at_ms: int
    """When the request was sent, as Unix time in milliseconds."""
    finished_at_ms: int
    """When the exchange ended, as Unix time in milliseconds."""
    latency_s: float
    status: int | None = None
    """The HTTP status. None if no response arrived."""
    body: bytes = b""
    """The body as received, decompressed and with secrets masked."""
    content_type: str = ""
    request_id: str | None = None
    """The provider's id of the request."""
    served_model: str | None = None
    """The model that the gateway billed, as its headers report it."""
    retry_after_s: float | None = None
    """The wait that the response headers ask for. None if they ask for none."""
    fault: str | None = None
    """How the exchange failed: `timeout`, `connection`, `cut_off`, `too_large`, … None if the response is complete."""
    fault_message: str = ""
    maybe_billed: bool = False
    """Whether the provider may have answered and billed the request although no complete response arrived."""
    quotas: tuple[Quota | None, Quota | None] = (None, None)
    """The rate limits of requests and of tokens, as the response headers report them."""
    inputs: int = 0
    """The number of embeddings that were requested; 0 if there are none, or if the number is unknown."""


class Status(enum.StrEnum):
    """The result of a row, as stored in the column `status`."""

    OK = "ok"
    """The row has an answer."""
    FAILED = "failed"
    """The row has no answer yet; the next start sends the request again."""
    REJECTED = "rejected"
    """The row can't be sent, or the provider refuses it. It is sent again only with `--retry-rejected`."""


class Completion(msgspec.Struct, frozen=True, gc=False):
    """An answer, split into the parts that have result columns."""

    response: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: str | None = None
    """The tool calls as JSON text."""
    finish_reason: str | None = None
    served_model: str | None = None
    usage: Usage = Usage()
    answer: Any = None
    """The JSON value that the answer gives for the job's schema. None if the job has no schema."""
    healed: bool | None = None
    """Whether the answer's text was more than the JSON alone. None if the job has no schema."""
    choices: int = 1
    """The number of choices if `lacks_usage`, since `tokens` needs it then, and 1 otherwise. Only the first choice has
    columns of its own. The column `raw` has all choices."""

    @property
    def lacks_usage(self) -> bool:
        """Whether the provider left out one or both token counts."""
        return self.usage.prompt_tokens is None or self.usage.completion_tokens is None

    def tokens(self, prompt_tokens: int) -> Tokens:
        """Return the reported token counts, or an estimate where a count is missing.

        `prompt_tokens` is the estimate for the prompt. A missing completion count is estimated from the answer's texts.
        """
        usage = self.usage
        if usage.prompt_tokens is not None and usage.completion_tokens is not None:
            return Tokens(usage.prompt_tokens, usage.completion_tokens)
        prompt = prompt_tokens if usage.prompt_tokens is None else usage.prompt_tokens
        texts = (self.response, self.reasoning, self.refusal, self.tool_calls)
        size = sum(len(text.encode("utf-8", "replace")) for text in texts if text)
        total = usage.total_tokens
        if total is not None and (total > prompt or not size):  # otherwise nothing is left for the texts
            return Tokens(min(prompt, total), max(0, total - prompt))
        if usage.completion_tokens is not None:
            return Tokens(prompt, usage.completion_tokens)
        return Tokens(prompt, -(-size // BYTES_PER_TOKEN) * self.choices)


class InvalidAnswer(msgspec.Struct, frozen=True, gc=False):
    """An answer that does not fit the job's schema. The provider did its work, and billed it."""

    completion: Completion
    failure: Failure
    """What is wrong. Its type is `schema`, and its code is the path of the wrong value, a JSON pointer."""
    can_repair: bool = True
    """Whether the model may give a better answer if it is told what was wrong. It may not if it refused."""

    @property
    def is_cut_off(self) -> bool:
        """Whether the answer ends where the request's cap on tokens cut it off."""
        return self.completion.finish_reason == "length"


Outcome = Completion | Failure | InvalidAnswer
"""The outcome of one attempt."""


class Bottleneck(enum.StrEnum):
    """The reason why a lane can't send its next request yet. The values are shown, and stored in `run.json`."""

    NONE = ""
    REQUESTS = "requests per minute"
    TOKENS = "tokens per minute"
    WINDOW = "window"
    """The window of the pacing is full."""
    PAUSE = "pause"
    """The provider throttled a request, and the lane pauses."""
    OUTAGE = "outage"
    REFUSALS = "refusals"
    """Requests were refused. The lane waits to see whether all requests are."""
    RETRIES = "retries"
    """Too many rows wait for a retry."""
    INPUT = "input"
    BUDGET = "budget"
    CONCURRENCY = "concurrency"
    """As many requests are in flight as the job allows."""
    CACHE = "prompt cache"
    """All rows that were read wait for the first answer with their long prefix."""
    LAST_ROWS = "last rows"
    DISK = "disk"
    STORAGE = "object storage"
    """The run's lock in object storage could not be renewed."""


class CanaryDraw(msgspec.Struct, frozen=True):
    """Random rows of one model. Their answers predict what all rows of the model will cost."""

    total_rows: int = msgspec.field(name="rows")
    """The number of all rows of the model."""
    prompt_tokens: int
    """The estimated prompt tokens of all rows of the model, with all samples."""
    rows: tuple[tuple[int, int], ...] = msgspec.field(name="picks")
    """The row number and the estimated prompt tokens of each drawn row, ordered by the tokens."""
    different: int | None = None
    """The number of different requests among all rows of the model. None if they were not counted."""
