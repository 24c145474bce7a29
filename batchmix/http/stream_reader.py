"""A connection on which an answer is streamed: how long to listen to it, and what its breaking means."""

from __future__ import annotations

import asyncio
from typing import Protocol

from batchmix.responses.stream import AnswerStream

_END_S = 1.0
"""How long the end of a body is waited for once all was said: with it the connection can be kept."""

Fault = tuple[str | None, str, bool]
"""Kind (None: none) and message of what went wrong, and whether the request may have been billed."""


class Content(Protocol):
    """A body as it comes, such as aiohttp's."""

    def at_eof(self) -> bool:
        """Return whether there is no more."""

    async def readany(self) -> bytes:
        """Return what has come, as soon as anything has."""


async def listen(content: Content, stream: AnswerStream, idle_s: float) -> None:
    """Feed a stream to the end of its body, or until it is too large, silent for too long, or done for a second.

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


def ended(stream: AnswerStream, fault: Fault) -> tuple[list[bytes], Fault]:
    """Return a stream's body in pieces, and what was wrong; once all was said, the connection may do what it likes."""
    streamed = stream.end()
    if streamed.is_settled or (fault[0] is None and streamed.fault is not None):
        fault = streamed.fault, streamed.fault_message, streamed.maybe_billed or streamed.fault is not None
    return [streamed.body], fault
