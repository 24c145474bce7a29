"""The events in a journal. Each event is a line of JSON that `jq` can read, and its last key is a checksum.

    {"e":"begun","job":"capitals","rehearsal":false,"shard_rows":10000,"shard":0,"lane":0,"judging":1,…}
    {"e":"sent","row":7,"model":"m","sample":0,"attempt":1,"hash":"…","at":1790000000000,"xxh3":"…"}
    {"e":"heard","row":7,…,"status":200,"body":"{\"id\":…}","xxh3":"…"}
    {"e":"ended","row":8,…,"status":"rejected","type":"bad_row","message":"…","xxh3":"…"}

The tags and keys stay those of the first version, so that its run folders can be resumed.
"""

from __future__ import annotations

import base64
import contextlib
from typing import Annotated

import msgspec

from batchmix.records import Exchange, Key, Status

_Count = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]
_Row = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Time = Annotated[int, msgspec.Meta(ge=0, lt=253_402_300_800_000)]
"""Unix time in ms, before the year 10000. A line with a number that does not fit its column counts as damaged."""


class LinePosition(msgspec.Struct, frozen=True, gc=False):
    """The position of an event's line in the journals of a shard."""

    lane: int
    offset: int
    length: int


class JournalHeader(msgspec.Struct, frozen=True, tag_field="e", tag="begun", gc=False):
    """The first line of a journal: the run, the shard and the lane that it belongs to."""

    job: str
    rehearsal: bool
    """Whether the rehearsal provider answers."""
    shard_rows: int
    """The number of rows in each shard of the run."""
    shard: int
    lane: int
    classifier_version: int = msgspec.field(default=0, name="judging")
    """The `CLASSIFIER_VERSION` of the batchmix that wrote the journal. 0 if that batchmix had no such version yet."""


class _RowEvent(msgspec.Struct, frozen=True, tag_field="e", omit_defaults=True, gc=False):
    row: _Row
    model: str
    sample: _Count
    attempt: _Count
    """The number of the attempt, counted over all starts of the run. 0 if nothing was sent."""
    hash: str
    """The hash of the request."""

    @property
    def key(self) -> Key:
        return (self.row, self.model, self.sample)


class AttemptSent(_RowEvent, tag="sent", frozen=True, gc=False):
    """The event that an attempt is about to be sent."""

    at: _Time
    prompt: int = 0
    """The estimated number of tokens of the prompt."""
    max_tokens: int | None = msgspec.field(default=None, name="most")
    """The maximum number of tokens in the answer. None if unlimited."""


class ResponseReceived(_RowEvent, tag="heard", frozen=True, gc=False):
    """The event that an attempt received a response or ended with a fault.

    The fields are those of `records.Exchange`, under shorter names.
    """

    at: _Time
    done: _Time
    latency: float
    path: str
    status: _Count | None = None
    type: str = ""
    request_id: str | None = None
    served_model: str | None = None
    fault: str | None = None
    fault_message: str = ""
    maybe_billed: bool = False
    body: str = ""
    base64: bool = False
    """Whether `body` is in base64, because its bytes are not UTF-8."""
    reused_from: str | None = None
    """The run folder that the answer was copied from. If it is set, nothing was sent, and `attempt` is 0.

    None if the provider answered.
    """
    inputs: int = 0

    def exchange(self) -> Exchange:
        """Return the exchange that was recorded."""
        return Exchange(
            sent_at_ms=self.at,
            finished_at_ms=self.done,
            latency_s=self.latency,
            status=self.status,
            body=self._bytes(),
            content_type=self.type,
            request_id=self.request_id,
            served_model=self.served_model,
            fault=self.fault,
            fault_message=self.fault_message,
            maybe_billed=self.maybe_billed,
            inputs=self.inputs,
        )

    def _bytes(self) -> bytes:
        if self.base64:
            with contextlib.suppress(ValueError):  # text that is not base64 is returned as it is
                return base64.b64decode(self.body)
        return self.body.encode()


class RowFailed(_RowEvent, tag="ended", frozen=True, gc=False):
    """The event that a row has finished without an answer, or with one that does not fit the job's schema."""

    status: Status
    """`failed`, `rejected`, or `ok` if the answer counts all the same."""
    type: str
    message: str
    code: str | None = None


Event = AttemptSent | ResponseReceived | RowFailed
