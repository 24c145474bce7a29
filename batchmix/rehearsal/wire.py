"""How the stand-in's bytes leave: whole, or in every way in which they don't."""

from __future__ import annotations

import asyncio
import dataclasses
import http
import itertools
import zlib
from collections.abc import Iterable

from aiohttp import web

from batchmix.rehearsal.reply_kind import JSON, Wire

_REASONS = {status.value: status.phrase for status in http.HTTPStatus}
_WORTH_PACKING_BYTES = 1024
_DRIPS = 20


@dataclasses.dataclass(slots=True)
class Reply:
    """What goes over the wire."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    pieces: Iterable[bytes] | None = None
    """What is sent in the body's stead, one chunk each; may be made while it is sent."""
    takes_s: float = 0.0
    """How long the pieces, or the drips of a body, take together."""


class _Written(web.StreamResponse):
    """Tells aiohttp that the reply has been written, and whether the connection stays."""

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
CLOSE = _Written(keep=False)


def write(request: web.BaseRequest, reply: Reply) -> web.StreamResponse:
    """Send a whole reply at once."""
    transport = request.transport
    if transport is None or transport.is_closing():
        return CLOSE
    keep = request.keep_alive
    top = head(reply, keep=keep)
    transport.write(top if request.method == "HEAD" else top + reply.body)
    return KEEP if keep else CLOSE


async def play(request: web.BaseRequest, reply: Reply, wire: Wire | None) -> web.StreamResponse:
    """Send a reply bit by bit, or as much of it as the wire lets through."""
    transport = request.transport
    if transport is None or transport.is_closing():
        return CLOSE
    transport.write(head(reply, keep=request.keep_alive))
    parts = _parts(reply, whole=wire not in {Wire.CUT, Wire.STALL})
    await _send(request, parts, reply)
    if wire is Wire.STALL:
        await _forever()
    if wire is Wire.CUT:
        transport.close()
        return CLOSE
    return KEEP if request.keep_alive else CLOSE


async def _send(request: web.BaseRequest, parts: Iterable[bytes], reply: Reply) -> None:
    pause_s = 0.0
    if reply.takes_s:
        parts = list(parts)
        pause_s = reply.takes_s / max(1, len(parts))
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


async def say_nothing(request: web.BaseRequest, wire: Wire | None) -> web.StreamResponse:
    """Close a connection without a word, or keep it so until the client leaves."""
    if wire is Wire.HANG:
        await _forever()
    if request.transport is not None:
        request.transport.abort()
    return CLOSE


async def _forever() -> None:
    """Wait until the connection ends, which cancels this."""
    await asyncio.get_running_loop().create_future()


async def is_sent(request: web.BaseRequest) -> bool:
    """Wait until the last byte written is with the kernel; return False if the connection broke before.

    A broken connection's buffer is empty too, so an empty one proves nothing by itself.
    """
    transport = request.transport
    if transport is None:
        return False
    if transport.get_write_buffer_size():
        await asyncio.sleep(0)  # uvloop writes at the end of this turn of the loop
    if transport.get_write_buffer_size():
        transport.set_write_buffer_limits(0)  # from here on, drained means empty
        try:
            await request.writer.drain()
        except ConnectionError:
            return False
    return not transport.is_closing()


def pack(reply: Reply) -> None:
    """Compress a reply's body, if that is worth it."""
    if len(reply.body) > _WORTH_PACKING_BYTES:
        reply.body = zlib.compress(reply.body, 1, wbits=31)
        reply.headers.append(("Content-Encoding", "gzip"))


def head(reply: Reply, *, keep: bool) -> bytes:
    """Return the status line and the headers, none of which a line break can end."""
    length = "Transfer-Encoding: chunked" if reply.pieces is not None else f"Content-Length: {len(reply.body)}"
    lines = [f"HTTP/1.1 {reply.status} {_REASONS.get(reply.status, '')}", f"Content-Type: {reply.content_type}", length]
    lines += [f"{name}: {value if value.isprintable() else ' '.join(value.split())}" for name, value in reply.headers]
    if not keep:
        lines.append("Connection: close")
    return "\r\n".join((*lines, "", "")).encode("latin-1", "replace")


def _parts(reply: Reply, *, whole: bool) -> Iterable[bytes]:
    """Cut a reply up as it is to be sent, or its first half."""
    if reply.pieces is not None:
        chunks = (b"%x\r\n%s\r\n" % (len(piece), piece) for piece in reply.pieces)
        if whole:
            return itertools.chain(chunks, (b"0\r\n\r\n",))
        sent = list(chunks)
        return sent[: len(sent) // 2]
    body = reply.body if whole else reply.body[: len(reply.body) // 2]
    step = max(1, -(-len(body) // _DRIPS))
    return [body[at : at + step] for at in range(0, len(body), step)]
