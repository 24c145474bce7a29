"""Reads response bodies that arrive in several pieces: ordinary bodies and streams."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Protocol

import msgspec

from batchmix.http.faults import Fault, TooLarge
from batchmix.responses.stream import AnswerStream

_END_S = 1.0
"""Seconds to wait for the end of the body once a stream is done. If the end arrives, the connection can be reused."""
_decoder = json.JSONDecoder(strict=False, parse_int=len)  # `len`: Python refuses to read integers of many digits


class Content(Protocol):
    """A body that is being received, such as aiohttp's `StreamReader`."""

    def at_eof(self) -> bool:
        """Return whether all of the body was read."""

    async def readany(self) -> bytes:
        """Wait until any bytes have arrived, and return them."""


async def read_pieces(content: Content, pieces: list[bytes], max_bytes: int) -> None:
    """Append the pieces of a body to `pieces` as they arrive. The caller keeps them if the connection breaks.

    Raises `TooLarge`, after emptying `pieces`, and whatever `content` raises.
    """
    size = 0
    while True:
        pieces.append(await content.readany())
        size += len(pieces[-1])
        if size > max_bytes:
            pieces.clear()
            raise TooLarge
        if content.at_eof():
            return


async def read_stream(content: Content, stream: AnswerStream, idle_s: float) -> None:
    """Feed a body to `stream` until the body ends, is too large, or is silent for `idle_s`.

    Once the stream is done, waits for the end of the body for another `_END_S`. Raises whatever `content` raises.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(idle_s) as limit:
            while not (content.at_eof() or stream.is_too_large):
                was_done = stream.is_done
                stream.feed(await content.readany())
                if not was_done:
                    limit.reschedule(loop.time() + (_END_S if stream.is_done else idle_s))
    except TimeoutError:
        if not limit.expired():
            raise
        stream.give_up(idle_s)


def stream_result(stream: AnswerStream, fault: Fault) -> tuple[bytes, Fault]:
    """Return a stream's body and fault. The connection's `fault` is ignored if the stream's result is final."""
    streamed = stream.end()
    if streamed.is_settled or (fault.type is None and streamed.fault is not None):
        fault = Fault(streamed.fault, streamed.fault_message, streamed.maybe_billed or streamed.fault is not None)
    return streamed.body, fault


def first_object(body: bytes) -> bytes:
    """Return the JSON object at the start of a body, without the bytes after it. Without one, return the whole body.

    Meant for bodies that end when the connection closes: surplus data may follow the answer in them.
    """
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
    except (msgspec.MsgspecError, RecursionError):
        text = body.decode("utf-8", "surrogateescape")
        begin = len(text) - len(text.lstrip("\ufeff \t\r\n"))
        with contextlib.suppress(ValueError, RecursionError):
            value, end = _decoder.raw_decode(text, begin)
            return text[:end].encode("utf-8", "surrogateescape") if isinstance(value, dict) else body
    return body
