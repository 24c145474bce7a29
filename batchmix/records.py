"""The values that pass between the rooms: Request → Exchange → Completion or Failure.

A (row, model, sample) is the key of a result. Rows count from 0 in input order; `model` is the name
of the job's model entry; samples count from 0.
"""

from __future__ import annotations

import enum

import msgspec

from batchmix.errors import FailureAction

CLASSIFIER_VERSION = 2
"""The version of `responses.classify`, as journals name it. It is raised where fewer responses count as answers than
before: answers that an earlier version has accepted, and that are in a journal to be sealed, are not requested again
without a word."""
Key = tuple[int, str, int]
"""(row, model, sample): what every request, journal line and result row belongs to."""


class Request(msgspec.Struct, frozen=True, gc=False):
    """One call that has an answer to get: everything that goes over the wire, but for host and key."""

    row: int
    model: str
    sample: int
    hash: str
    """The request hash: canonical body without the streaming keys, and the URL path."""
    path: str
    """URL path behind the API's root, such as `/chat/completions`."""
    body: bytes
    prompt_tokens: int
    """An estimate, for pacing before `usage` is known."""
    max_tokens: int | None
    """The most that the answer may have, over all its choices; None when the request does not say."""
    streamed_choices: int = 0
    """How many choices the answer streams; 0 when it is to come as one body."""
    streams_unasked: bool = False
    """Whether nobody has asked for a stream: it is one because the answer may be long."""
    line: tuple[int, int] | None = None
    """Where the row stands: the number of the file, and of the line in it; None for Parquet."""
    inputs: int = 0
    """How many embeddings it asks for; 0 where it asks for something else."""

    @property
    def key(self) -> Key:
        """The (row, model, sample) that this asks for."""
        return (self.row, self.model, self.sample)


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Tokens as the provider counted them; None where it did not say."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    cache_write_tokens: int | None = None
    """Of the prompt's, as `cached_tokens` are."""
    hour_tokens: int | None = None
    """Of those that were written to a cache: what stays there for an hour, which costs more."""


class Tokens(msgspec.Struct, frozen=True, gc=False):
    """Tokens that something is taken for; they are added up like numbers."""

    prompt: int = 0
    completion: int = 0

    def __add__(self, other: Tokens) -> Tokens:
        """Return a sum."""
        return Tokens(self.prompt + other.prompt, self.completion + other.completion)


UNKNOWN_COMPLETION = 1000
"""Tokens to expect of an answer when nothing is known and the request names no most."""
BYTES_PER_TOKEN = 4
"""Of text, in UTF-8; what languages make of that lies between half and one and a half times of it."""


class Failure(msgspec.Struct, frozen=True, gc=False):
    """Why there is no answer, and what follows from that."""

    action: FailureAction
    type: str
    """The kind, as in the result column `error_type`: `throttled`, `timeout`, `rejected`, `bad_row`, …"""
    message: str
    code: str | None = None
    """The provider's own code, where it gave one."""
    early_action: FailureAction | None = None
    """What follows instead as long as this model has given no good answer in this start."""
    attempts: int | None = None
    """The most that a row may cost with this failure, where that is less than the job allows."""
    maybe_billed: bool = False
    """The provider was done, and may have billed it, although what it sent is neither an answer nor its usage."""
    unsent: bool = False
    """Nothing of the request had left: the provider was not reached."""
    usage: Usage | None = None
    """What it says it has billed, although what it sent is no answer; None: it does not say."""
    wait_s: float | None = None
    """How long it asks to wait, in its words; None where it does not."""
    parameter: str = ""
    """The parameter of the request that the provider refuses, where the message advises what to do about it."""


class RejectedRow(msgspec.Struct, frozen=True, gc=False):
    """A row for which no request can be made; it becomes a `rejected` result."""

    row: int
    model: str
    sample: int
    failure: Failure
    hash: str = ""
    """There is no request, so its result has no hash."""

    @property
    def key(self) -> Key:
        """The (row, model, sample) that will not be asked."""
        return (self.row, self.model, self.sample)


class Quota(msgspec.Struct, frozen=True, gc=False):
    """What a provider says of one of its budgets."""

    limit: float
    remaining: float
    reset_s: float
    """Until it is full again."""


class Exchange(msgspec.Struct, frozen=True, gc=False):
    """One attempt as it went over the wire, before it is classified."""

    sent_at_ms: int
    """Unix time, UTC."""
    finished_at_ms: int
    latency_s: float
    status: int | None = None
    """The HTTP status; None when none was heard."""
    body: bytes = b""
    """The body as it came, decompressed; the key's bytes are taken out."""
    content_type: str = ""
    request_id: str | None = None
    """The provider's trace id."""
    served_model: str | None = None
    """The model that the gateway says it billed."""
    retry_after_s: float | None = None
    """How long the provider asked to wait; None when it did not."""
    fault: str | None = None
    """How the exchange broke: `timeout`, `connection`, `cut_off`, `too_large`; None when it was heard to its end."""
    fault_message: str = ""
    maybe_billed: bool = False
    """The request may have been served although its end was never heard."""
    quotas: tuple[Quota | None, Quota | None] = (None, None)
    """What it said of its budgets of requests and of tokens."""
    inputs: int = 0
    """How many embeddings were asked for; 0: none, or that is not known."""


class Status(enum.StrEnum):
    """How a row ended, as it is stored in the column `status`."""

    OK = "ok"
    """There is an answer."""
    FAILED = "failed"
    """There is none so far; the next start sends the request again."""
    REJECTED = "rejected"
    """The row cannot be sent, or the provider refuses it; it is sent again only with `--retry-rejected`."""


class Completion(msgspec.Struct, frozen=True, gc=False):
    """An answer, with its parts told apart."""

    response: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: str | None = None
    """The tool calls as JSON text."""
    finish_reason: str | None = None
    served_model: str | None = None
    usage: Usage = Usage()
    choices: int = 1
    """How many there were where the usage is not told; the others are in no column but `raw`."""

    @property
    def lacks_usage(self) -> bool:
        """Whether the provider did not tell what it counted, or not all of it."""
        return self.usage.prompt_tokens is None or self.usage.completion_tokens is None

    def tokens(self, prompt_tokens: int) -> Tokens:
        """Return what the answer is taken to have used, by an estimate of its prompt where that is not told."""
        usage = self.usage
        if usage.prompt_tokens is not None and usage.completion_tokens is not None:
            return Tokens(usage.prompt_tokens, usage.completion_tokens)
        prompt = prompt_tokens if usage.prompt_tokens is None else usage.prompt_tokens
        said = (self.response, self.reasoning, self.refusal, self.tool_calls)
        size = sum(len(text.encode("utf-8", "replace")) for text in said if text)
        total = usage.total_tokens
        if total is not None and (total > prompt or not size):  # else it leaves nothing for what is said
            return Tokens(min(prompt, total), max(0, total - prompt))
        if usage.completion_tokens is not None:
            return Tokens(prompt, usage.completion_tokens)
        return Tokens(prompt, -(-size // BYTES_PER_TOKEN) * self.choices)


Outcome = Completion | Failure
"""What came of one attempt."""


class CanarySample(msgspec.Struct, frozen=True):
    """Rows drawn from one model's rows. Their answers show what all of these rows will cost."""

    total_rows: int = msgspec.field(name="rows")
    """How many rows the model has in all."""
    prompt_tokens: int
    """An estimate for all the model's rows with all samples."""
    rows: tuple[tuple[int, int], ...] = msgspec.field(name="picks")
    """The row number and the estimated prompt tokens of each drawn row, ordered by the tokens."""
    different: int | None = None
    """How many different requests all the model's rows have; None: not counted."""
