"""Defines `ReplyKind`: what makes up one kind of reply. The table of all kinds is `reply_table.REPLY_KINDS`."""

from __future__ import annotations

import enum
from collections.abc import Callable

import msgspec

from batchmix.rehearsal.misfits import Misfit
from batchmix.rehearsal.request import Json, RehearsalRequest

JSON = "application/json"
Event = Json | str
"""An event of a stream: the JSON object that follows `data: `, or a whole line of text."""
MakeMessage = Callable[[str, int], tuple[Json, str | None]]
"""A function that takes the text and the index of a choice. It returns the message without its role, and the
`finish_reason`, or None for the usual one."""
EditBody = Callable[[Json, RehearsalRequest], Json]
"""A function that takes the usual body and the request. It returns the body to send, and may change the usual one."""
EncodeBody = Callable[[Json], bytes]
"""A function that takes a body, and returns the bytes to send."""
EditEvents = Callable[[list[Event]], list[Event]]
"""A function that takes all events of a stream, and returns the events to send."""


class ReplyGroup(enum.Enum):
    """The groups in which kinds of replies are listed, by how a client should react to them."""

    ANSWERS = "Answers, some of them odd: paid for, and never to be requested again"
    MISFITS = (
        "Answers that do not fit as they stand: only for requests that ask for a schema; others get a plain answer"
    )
    TEMPORARY = "Temporary errors: a retry helps"
    REFUSALS = "Refusals: a retry does not help"
    BROKEN = "Broken replies"
    STREAMS = 'Streams: only for requests with `"stream": true` to a completions endpoint; others get a plain answer'
    AUTOMATIC = "Automatic: sent where the request or a limit calls for it"


class Delivery(enum.Enum):
    """The ways to send a reply other than whole and at once."""

    CUT = enum.auto()
    """The first half, then the connection is closed."""
    STALL = enum.auto()
    """The first half, then nothing."""
    DRIP = enum.auto()
    """All of it, in pieces, over `Behaviour.slow_s`."""
    HANG = enum.auto()
    """Nothing, until the client disconnects."""
    DROP = enum.auto()
    """Nothing; the connection is closed at once."""


class RetryHint(enum.Enum):
    """The headers of a 429 that say how long to wait. With `Behaviour.rate_headers` off, they are left out."""

    NONE = enum.auto()
    USUAL = enum.auto()
    """`Retry-After` in seconds, and `retry-after-ms`."""
    SECONDS = enum.auto()
    """`Retry-After` in seconds."""
    DATE = enum.auto()
    """`Retry-After` as a date."""
    MS = enum.auto()
    """`retry-after-ms`."""
    LITELLM = enum.auto()
    """`llm_provider-retry-after` in seconds."""


class ErrorBody(msgspec.Struct, frozen=True):
    """An error in the format of the gateway: `{"error": {"message", "type", "param", "code"}}`."""

    message: str
    """The message, which may contain the placeholders {key}, {model}, {successor} and {detail}."""
    type: str = "aihubmix_error"
    code: str | int | None = None
    param: str = ""
    """The parameter that is at fault."""
    trace: str = "tid"
    """The label of the request id that is appended to the message. If empty, nothing is appended."""
    bare: bool = False
    """Whether the error has only a `message`, without `type`, `param` and `code`."""


class ReplyKind(msgspec.Struct, frozen=True):
    """One kind of reply, such as an odd answer, an error or a broken connection."""

    doc: str
    """One line for the documentation and `batchmix rehearse --help`."""
    group: ReplyGroup
    status: int | None = 200
    """The HTTP status. None if no reply is sent."""
    body: ErrorBody | bytes | None = None
    """An error, or the bytes to send. None for an answer, which the following fields may change."""
    echoes: bool = False
    """Whether the answer repeats the prompt."""
    misfit: Misfit | None = None
    """Changes an answer that fits the schema of the request. If given, other requests do not get this kind."""
    make_message: MakeMessage | None = None
    edit_body: EditBody | None = None
    encode_body: EncodeBody | None = None
    edit_events: EditEvents | None = None
    streams: bool = True
    """Whether the answer is streamed if the request requires a stream."""
    endless_bytes: int = 0
    """The size of a huge content that is generated while it is sent. 0 for the usual content."""
    delivery: Delivery | None = None
    answer: bool = False
    """Whether this counts as an answer, which the client pays for and must not request again."""
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()
    trace: str = "x-aihubmix-request-id"
    """The name of the header with the request id. If empty, there is no such header."""
    retry: RetryHint = RetryHint.NONE
    refuses: str = ""
    """If not empty, only requests with this parameter get this kind: `max_tokens`, or a `response_format` of type
    `json_schema`."""
    endpoint: str = ""
    """If not empty, only requests to this endpoint get this kind."""
    delayed: bool = True
    """Whether `Behaviour.latency` delays the reply."""

    @property
    def temporary(self) -> bool:
        """Whether a retry helps. The shares give at most `Behaviour.max_faults` such replies to the same body."""
        return not self.answer and self.group not in {ReplyGroup.REFUSALS, ReplyGroup.AUTOMATIC}

    def applies_to(self, request: RehearsalRequest) -> bool:
        """Return whether a request can get this kind of reply. If not, it gets a plain answer instead."""
        if self.endpoint:
            return request.endpoint == self.endpoint
        if self.misfit is not None:
            return request.asked is not None
        if self.group is ReplyGroup.STREAMS:
            return request.streams
        if self.edit_body or self.encode_body or self.endless_bytes:
            return request.has_choices
        return not self.refuses or self.refuses in {request.cap, request.asked and request.asked.way}
