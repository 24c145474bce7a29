"""The parts that define one kind of reply."""

from __future__ import annotations

import enum
from collections.abc import Callable

import msgspec

from batchmix.rehearsal.request import Json, RehearsalRequest

JSON = "application/json"
Event = Json | str
"""An event of a stream: the JSON behind `data: `, or a line of text."""
MakeMessage = Callable[[str, int], tuple[Json, str | None]]
"""Takes an answer's text and its choice's index; returns the message without its role, and a finish_reason that
replaces the usual one (None: it stays)."""
EditBody = Callable[[Json, RehearsalRequest], Json]
"""Takes the usual body, which it may change in place, and the request; returns the body to send."""
EncodeBody = Callable[[Json], bytes]
"""Takes a body; returns the bytes to send."""
EditEvents = Callable[[list[Event]], list[Event]]
"""Takes the events of a whole stream; returns the events to send."""


class ReplyGroup(enum.Enum):
    """The groups in which kinds are listed, by how a client should treat them."""

    ANSWERS = "Answers, some of them odd: paid for, and never to be requested again"
    TEMPORARY = "Temporary errors: a retry helps"
    REFUSALS = "Refusals: a retry does not help"
    BROKEN = "Broken replies"
    STREAMS = 'Streams: only for requests with `"stream": true` to a completions endpoint; others get a plain answer'
    AUTOMATIC = "Automatic: sent where the request or a limit calls for it"


class Delivery(enum.Enum):
    """How a reply is sent that is not sent whole and at once."""

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
    """The form in which a throttled reply names the wait, if rate headers are sent at all."""

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
    """An error in the gateway's envelope."""

    message: str
    """May contain the placeholders {key}, {model}, {successor} and {detail}."""
    type: str = "aihubmix_error"
    code: str | int | None = None
    trace: str = "tid"
    """The name of the request id that is appended to the message; empty: none is appended."""
    bare: bool = False
    """Whether the error has only a message, no type and no code."""


class ReplyKind(msgspec.Struct, frozen=True):
    """One kind of reply; `reply_table.REPLY_KINDS` has them all."""

    doc: str
    """One line for the documentation and `batchmix rehearse --help`."""
    group: ReplyGroup
    status: int | None = 200
    """None where no reply is sent."""
    body: ErrorBody | bytes | None = None
    """An error, the bytes to send, or None for an answer, which the following fields may change."""
    echoes: bool = False
    """Whether the prompt's own text is the answer."""
    make_message: MakeMessage | None = None
    edit_body: EditBody | None = None
    encode_body: EncodeBody | None = None
    edit_events: EditEvents | None = None
    streams: bool = True
    """Whether the answer is a stream where one was requested."""
    endless_bytes: int = 0
    """The size of the content, generated while it is sent; 0: the usual answer."""
    delivery: Delivery | None = None
    answer: bool = False
    """Whether it is an answer, which the client pays for."""
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()
    trace: str = "x-aihubmix-request-id"
    """The header with the request id; empty: none."""
    retry: RetryHint = RetryHint.NONE
    refuses: str = ""
    """The only cap on the answer (such as `max_tokens`) that this applies to; others get a plain answer."""
    endpoint: str = ""
    """The only endpoint that this applies to; empty: all."""
    delayed: bool = True
    """Whether the reply takes the behaviour's latency; refusals by the limits do not."""

    @property
    def temporary(self) -> bool:
        """Whether a retry helps, so that `Behaviour.max_faults` bounds how often it is sent."""
        return not self.answer and self.group not in {ReplyGroup.REFUSALS, ReplyGroup.AUTOMATIC}

    def applies_to(self, request: RehearsalRequest) -> bool:
        """Return whether a request can get this kind; others get a plain answer."""
        if self.endpoint:
            return request.endpoint == self.endpoint
        if self.group is ReplyGroup.STREAMS:
            return request.streams
        if self.edit_body or self.encode_body or self.endless_bytes:
            return request.has_choices
        return not self.refuses or request.cap == self.refuses
