"""What a journal records, each event on a line of JSON with its checksum as the last key, so that `jq` reads it.

    {"e":"begun","job":"capitals","rehearsal":false,"shard_rows":10000,"shard":0,"lane":0,"judging":1,…}
    {"e":"sent","row":7,"model":"m","sample":0,"attempt":1,"hash":"…","at":1790000000000,"crc":"89abcdef"}
    {"e":"heard","row":7,…,"status":200,"body":"{\"id\":…}","crc":"…"}
    {"e":"ended","row":8,…,"status":"rejected","type":"bad_row","message":"…","crc":"…"}

The CRC is zlib's crc32 of all bytes before `,"crc"`.
"""

from __future__ import annotations

import base64
import contextlib
import zlib
from typing import Annotated, TypeVar

import msgspec

from batchmix.records import Exchange, Key

_TRAILER_BYTES = len(b',"crc":"01234567"}')


_Count = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]
_Row = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Time = Annotated[int, msgspec.Meta(ge=0, lt=253_402_300_800_000)]
"""Unix time in ms, before the year 10000. A line whose numbers fit into no column is as good as damaged."""


class Begun(msgspec.Struct, frozen=True, tag_field="e", tag="begun", gc=False):
    """The first line: whose journal it is."""

    job: str
    rehearsal: bool
    """Whether the stand-in provider answers."""
    shard_rows: int
    """Of the run."""
    shard: int
    lane: int
    judging: int = 0
    """Which `CLASSIFIER_VERSION` has classified its answers; 0: one from before there were versions."""


class _Event(msgspec.Struct, frozen=True, tag_field="e", omit_defaults=True, gc=False):
    row: _Row
    model: str
    sample: _Count
    attempt: _Count
    """Absolute: counts on over all starts; 0 where nothing was ever sent."""
    hash: str

    @property
    def key(self) -> Key:
        return (self.row, self.model, self.sample)


class Sent(_Event, tag="sent", frozen=True, gc=False):
    """The intent: this attempt is about to leave."""

    at: _Time
    prompt: int = 0
    """Its tokens, by an estimate."""
    most: int | None = None
    """The most that its answer may have; None: it does not say."""


class Heard(_Event, tag="heard", frozen=True, gc=False):
    """The end of an attempt, as the wire saw it; the fields are those of `records.Exchange`."""

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
    """The body was not UTF-8 and stands here in base64."""
    reused_from: str | None = None
    """The run that this answer was taken from; nothing was sent, and `attempt` is 0."""
    inputs: int = 0

    def exchange(self) -> Exchange:
        """Return what was heard as it was given to `heard`."""
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
            with contextlib.suppress(ValueError):  # else it is what stands there
                return base64.b64decode(self.body)
        return self.body.encode()


class Ended(_Event, tag="ended", frozen=True, gc=False):
    """A row ended without an answer."""

    status: str
    """`failed` or `rejected`."""
    type: str
    message: str
    code: str | None = None


Event = Sent | Heard | Ended
_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Event | Begun] = msgspec.json.Decoder(Event | Begun)
Decoded = TypeVar("Decoded", bound=msgspec.Struct)


def heard(key: Key, attempt: int, request_hash: str, path: str, exchange: Exchange) -> Heard:
    """Return the event that records an exchange; the body is kept byte for byte."""
    try:
        body, encoded = exchange.body.decode(), False
    except UnicodeDecodeError:
        body, encoded = base64.b64encode(exchange.body).decode(), True
    return Heard(
        key[0],
        key[1],
        key[2],
        attempt,
        request_hash,
        exchange.sent_at_ms,
        exchange.finished_at_ms,
        exchange.latency_s,
        path,
        exchange.status,
        exchange.content_type,
        exchange.request_id,
        exchange.served_model,
        exchange.fault,
        exchange.fault_message,
        exchange.maybe_billed,
        body,
        encoded,
        inputs=exchange.inputs,
    )


def encode_line(event: msgspec.Struct) -> bytes:
    """Return an event as a line of a journal, or of another file whose lines have a CRC each."""
    line = bytearray()
    encode_into(line, event)
    return bytes(line)


def encode_into(line: bytearray, event: msgspec.Struct) -> None:
    """Put an event's line in the place of what a buffer holds."""
    _encoder.encode_into(event, line)
    line.pop()
    line += b',"crc":"%08x"}\n' % zlib.crc32(line)


def decode_line(line: bytes) -> Event | Begun | None:
    """Return the event on a line (its newline may be missing), or None if the line is damaged."""
    return decode_with(_decoder, line)


def was_whole(line: bytes) -> bool:
    """Return whether a line that can't be decoded has both its ends: no kill leaves one, it was damaged since."""
    end = line.rstrip(b"\n")[-_TRAILER_BYTES:]
    return line[:1] == b"{" and end[:8] == b',"crc":"' and end[-2:] == b'"}' and b"\0" not in line


def decode_with(decoder: msgspec.json.Decoder[Decoded], line: bytes) -> Decoded | None:
    """Return what `encode_line` made a line of, or None if the line is damaged."""
    line = line.rstrip(b"\n")
    text, trailer = line[:-_TRAILER_BYTES], line[-_TRAILER_BYTES:]
    if trailer != b',"crc":"%08x"}' % zlib.crc32(text):
        return None
    try:
        return decoder.decode(line)
    except msgspec.DecodeError:  # a whole line of another version
        return None
