"""Reads a body that has not arrived all at once: in pieces, as a stream, or up to the end of its connection."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Protocol

import msgspec

from batchmix.http.faults import Fault, TooLarge
from batchmix.responses.stream import AnswerStream

_END_S = 1.0
"""How long the end of a body is waited for once the stream is done: with it the connection can be kept."""
_decoder = json.JSONDecoder(strict=False, parse_int=len)  # `len`: Python refuses to read integers of many digits


class Content(Protocol):
    """A body as it arrives, such as aiohttp's."""

    def at_eof(self) -> bool:
        """Return whether all of it was read."""

    async def readany(self) -> bytes:
        """Return what has arrived, as soon as anything has."""


async def read_pieces(content: Content, pieces: list[bytes], max_bytes: int) -> None:
    """Append a body to `pieces` as it arrives, so that they are there if it breaks.

    Raises `TooLarge`, and then leaves nothing in `pieces`; and what `content` raises.
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
    """Feed a stream until its body ends, or it is too large, silent for `idle_s`, or was done a second ago.

    Raises what `content` raises.
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
        stream.silent_s = idle_s


def stream_result(stream: AnswerStream, fault: Fault) -> tuple[bytes, Fault]:
    """Return a stream's body and what was wrong; once the stream is settled, the connection's fault does not count."""
    streamed = stream.end()
    if streamed.is_settled or (fault.type is None and streamed.fault is not None):
        fault = Fault(streamed.fault, streamed.fault_message, streamed.maybe_billed or streamed.fault is not None)
    return streamed.body, fault


def first_object(body: bytes) -> bytes:
    """Return the JSON object that a body begins with; the whole body if it is one, or begins with none.

    For bodies that end with their connection: surplus data that arrived before that is part of them.
    """
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
    except (msgspec.MsgspecError, RecursionError):
        text = body.decode("utf-8", "surrogateescape")
        begin = len(text) - len(text.lstrip("\ufeff \t\r\n"))
        with contextlib.suppress(ValueError, RecursionError):
            found, end = _decoder.raw_decode(text, begin)
            return text[:end].encode("utf-8", "surrogateescape") if isinstance(found, dict) else body
    return body
