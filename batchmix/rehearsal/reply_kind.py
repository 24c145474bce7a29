"""What one kind of reply is made of."""

from __future__ import annotations

import enum
from collections.abc import Callable

import msgspec

from batchmix.rehearsal.request import Asked, Json

JSON = "application/json"
Event = Json | str
"""Of a stream: what stands behind `data: `, or a line as it is."""
Shape = Callable[[str, int], tuple[Json, str | None]]
"""Takes an answer's text and its choice's index; returns what the message has beyond its role, and a finish_reason
that goes before the usual one."""
Reshape = Callable[[Json, Asked], Json]
"""Takes the usual body, which it may change, and the request; returns the body."""
Recode = Callable[[Json], bytes]
"""Takes a body; returns its bytes."""
Retell = Callable[[list[Event]], list[Event]]
"""Takes the events of a whole stream; returns those that are sent."""


class Group(enum.Enum):
    """How kinds are listed, and what a client is to make of them."""

    ANSWERS = "Answers, some of them odd: paid for, and never to be requested again"
    PASSING = "Temporary errors: a retry helps"
    REFUSALS = "Refusals: a retry does not help"
    BROKEN = "Broken replies"
    STREAMS = 'Streams: only for requests with `"stream": true` to a completions endpoint; others get a plain answer'
    DOOR = "Automatic: sent where the request or a limit calls for it"


class Wire(enum.Enum):
    """How the bytes leave where they don't leave whole and at once."""

    CUT = enum.auto()
    """The first half, then the connection is closed."""
    STALL = enum.auto()
    """The first half, then nothing."""
    DRIP = enum.auto()
    """All, in pieces, over `Behaviour.slow_s`."""
    HANG = enum.auto()
    DROP = enum.auto()


class Retry(enum.Enum):
    """How a throttled client is told how long to wait, if headers are sent at all."""

    NONE = enum.auto()
    USUAL = enum.auto()
    """In `Retry-After` and `retry-after-ms`."""
    SECONDS = enum.auto()
    DATE = enum.auto()
    MS = enum.auto()
    LITELLM = enum.auto()


class Error(msgspec.Struct, frozen=True):
    """An error in the gateway's envelope."""

    message: str
    """May hold {key}, {model}, {successor} and {detail}, which are filled in."""
    type: str = "aihubmix_error"
    code: str | int | None = None
    trace: str = "tid"
    """What the request id is called behind the message; empty: it isn't there."""
    bare: bool = False
    """Whether the message stands alone."""


class Kind(msgspec.Struct, frozen=True):
    """One kind of reply; `kinds.KINDS` has them all."""

    doc: str
    """One line for the docs and the help."""
    group: Group
    status: int | None = 200
    """None where no status is sent."""
    body: Error | bytes | None = None
    """An error, bytes as they are, or None for an answer that is shaped by what follows."""
    echoes: bool = False
    """Whether the prompt's own text is the answer."""
    shape: Shape | None = None
    reshape: Reshape | None = None
    recode: Recode | None = None
    retell: Retell | None = None
    streams: bool = True
    """Whether the answer is a stream where one was asked for."""
    endless_bytes: int = 0
    """Where this is not 0, the content is made this large, and made only while it is sent."""
    wire: Wire | None = None
    answer: bool = False
    """Whether its sending is an answer, which was paid for."""
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()
    trace: str = "x-aihubmix-request-id"
    """The header with the request id; empty: none."""
    retry: Retry = Retry.NONE
    refuses: str = ""
    """The cap's parameter that this refuses; a request with another gets a plain answer."""
    endpoint: str = ""
    """The only one that plays it; empty: whichever can."""
    late: bool = True
    """Whether it takes the latency; refusals at the door do not."""

    @property
    def passing(self) -> bool:
        """Whether it helps to ask again, so that `Behaviour.max_faults` bounds it."""
        return not self.answer and self.group not in {Group.REFUSALS, Group.DOOR}

    def plays(self, asked: Asked) -> bool:
        """Whether a request can get this; one that can't gets a plain answer."""
        if self.endpoint:
            return asked.endpoint == self.endpoint
        if self.group is Group.STREAMS:
            return asked.streams
        if self.reshape or self.recode or self.endless_bytes:
            return asked.has_choices
        return not self.refuses or asked.cap == self.refuses
