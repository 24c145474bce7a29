"""Sends replies through aiohttp's transport: whole, slowly, cut off, or not at all."""

from __future__ import annotations

import asyncio
import dataclasses
import http
import itertools
import zlib
from collections.abc import Iterable

from aiohttp import web

from batchmix.rehearsal.reply_kind import JSON, Delivery

_REASONS = {status.value: status.phrase for status in http.HTTPStatus}
_COMPRESSED_FROM_BYTES = 1024
_DRIPS = 20
"""The number of pieces in which a slow body is sent."""


@dataclasses.dataclass(slots=True)
class RehearsalReply:
    """An HTTP reply: status, headers, and either a body or the pieces of a stream."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    pieces: Iterable[bytes] | None = None
    """The HTTP chunks to send instead of the body. May be a generator."""
    duration_s: float = 0.0
    """Seconds over which the pieces or a slow body are spread. Any other body is sent at the end of them."""


class _Written(web.StreamResponse):
    """A response for which aiohttp writes nothing, because this module has written the reply already.

    `keep` says whether the connection stays open.
    """

    def __init__(self, *, keep: bool) -> None:
        super().__init__()
        self._keep = keep

    @property
    def keep_alive(self) -> bool:
        return self._keep

    async def prepare(self, request: web.BaseRequest) -> None:
        pass

    async def write_eof(self, data: bytes = b"") -> None:
        pass


KEEP = _Written(keep=True)
"""Returned to aiohttp after a reply, to keep the connection open."""
CLOSE = _Written(keep=False)
"""Returned to aiohttp after a reply, to close the connection."""


def write(request: web.BaseRequest, reply: RehearsalReply) -> web.StreamResponse:
    """Send a whole reply at once."""
    transport = request.transport
    if transport is None or transport.is_closing():
        return CLOSE
    keep = request.keep_alive
    start = head(reply, keep=keep)
    transport.write(start if request.method == "HEAD" else start + reply.body)
    return KEEP if keep else CLOSE


async def send_slowly(request: web.BaseRequest, reply: RehearsalReply, delivery: Delivery | None) -> web.StreamResponse:
    """Send a reply piece by piece. With the deliveries `CUT` and `STALL`, only its first half is sent."""
    transport = request.transport
    if transport is None or transport.is_closing():
        return CLOSE
    transport.write(head(reply, keep=request.keep_alive))
    parts = _parts(reply, whole=delivery not in {Delivery.CUT, Delivery.STALL})
    await _send(request, parts, reply)
    if delivery is Delivery.STALL:
        await _until_cancelled()
    if delivery is Delivery.CUT:
        transport.close()
        return CLOSE
    return KEEP if request.keep_alive else CLOSE


async def _send(request: web.BaseRequest, parts: Iterable[bytes], reply: RehearsalReply) -> None:
    pause_s = 0.0
    if reply.duration_s:
        parts = list(parts)
        pause_s = reply.duration_s / max(1, len(parts))
    for part in parts:
        if pause_s:
            await asyncio.sleep(pause_s)
        if request.transport is None or request.transport.is_closing():
            return
        request.transport.write(part)
        try:
            await request.writer.drain()
        except ConnectionError:
            return


async def send_nothing(request: web.BaseRequest, delivery: Delivery | None) -> web.StreamResponse:
    """Close the connection without a reply. With the delivery `HANG`, wait first until the client disconnects."""
    if delivery is Delivery.HANG:
        await _until_cancelled()
    if request.transport is not None:
        request.transport.abort()
    return CLOSE


async def _until_cancelled() -> None:
    """Wait until the client disconnects, which cancels this task."""
    await asyncio.get_running_loop().create_future()


async def wait_until_sent(request: web.BaseRequest) -> bool:
    """Wait until the kernel has taken all written bytes. Return False if the connection breaks first.

    An empty buffer does not suffice as a check, because a broken connection has one too.
    """
    transport = request.transport
    if transport is None:
        return False
    if transport.get_write_buffer_size():
        await asyncio.sleep(0)  # uvloop writes at the end of the loop's iteration
    if transport.get_write_buffer_size():
        transport.set_write_buffer_limits(0)  # so that `drain` waits for an empty buffer
        try:
            await request.writer.drain()
        except ConnectionError:
            return False
    return not transport.is_closing()


def compress(reply: RehearsalReply) -> None:
    """Compress the body of a reply with gzip if it is larger than 1 KB."""
    if len(reply.body) > _COMPRESSED_FROM_BYTES:
        reply.body = zlib.compress(reply.body, 1, wbits=31)
        reply.headers.append(("Content-Encoding", "gzip"))


def head(reply: RehearsalReply, *, keep: bool) -> bytes:
    """Return the status line and the headers as bytes. Line breaks in the value of a header become spaces."""
    length = "Transfer-Encoding: chunked" if reply.pieces is not None else f"Content-Length: {len(reply.body)}"
    lines = [f"HTTP/1.1 {reply.status} {_REASONS.get(reply.status, '')}", f"Content-Type: {reply.content_type}", length]
    lines += [f"{name}: {value if value.isprintable() else ' '.join(value.split())}" for name, value in reply.headers]
    if not keep:
        lines.append("Connection: close")
    return "\r\n".join((*lines, "", "")).encode("latin-1", "replace")


def _parts(reply: RehearsalReply, *, whole: bool) -> Iterable[bytes]:
    """Return the parts of a reply after its head: all of them if `whole`, else the first half."""
    if reply.pieces is not None:
        chunks = (b"%x\r\n%s\r\n" % (len(piece), piece) for piece in reply.pieces)
        if whole:
            return itertools.chain(chunks, (b"0\r\n\r\n",))
        sent = list(chunks)
        return sent[: len(sent) // 2]
    body = reply.body if whole else reply.body[: len(reply.body) // 2]
    step = max(1, -(-len(body) // _DRIPS))
    return [body[at : at + step] for at in range(0, len(body), step)]
