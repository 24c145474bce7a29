"""One connection: a request out, its answer back, up to the end of the headers; then the next."""

from __future__ import annotations

import asyncio
import math
import select
from collections.abc import Callable
from time import monotonic

from aiohttp import hdrs
from aiohttp.connector import Connection
from aiohttp.http import RawResponseMessage
from aiohttp.streams import EmptyStreamReader, StreamReader

from batchmix.http.arrival import arrival_over
from batchmix.http.parser import Parser

_KEPT_S = 4.0
"""How long an idle connection is kept. Many servers close theirs after 5 s (uvicorn, Node, Apache), and a request that
leaves just then is lost, and may have been billed; so this side is first."""
_NEWS = select.POLLIN | getattr(select, "POLLRDHUP", select.POLLHUP)


class Unasked(Exception):
    """A connection was closed, or brought something, before anything was asked."""


class TooEarly(Exception):
    """What came had left the other end before the request was there: it is no answer to it."""


class Reply:
    """An answer up to the end of its headers; `finish` has to be called when no more is wanted of it."""

    __slots__ = ("_keep", "_line", "content", "headers", "status")

    def __init__(
        self, message: RawResponseMessage, content: StreamReader, line: Line, keep: Callable[[Line], None]
    ) -> None:
        self.status = message.code
        self.headers = message.headers
        self.content = content
        self._line = line
        self._keep = keep

    @property
    def is_framed(self) -> bool:
        """Whether it says where its body ends; else that ends with the connection."""
        return hdrs.CONTENT_LENGTH in self.headers or hdrs.TRANSFER_ENCODING in self.headers

    def whole(self) -> bytes | None:
        """Return the body where all of it has come and none was read; None where it has to be read.

        That is nearly always, and spares the waiting, and the protocol being told to read on at each piece.
        """
        content = self.content
        if not content.is_eof() or content.exception() is not None or self._line.protocol._reading_paused:
            return None
        if isinstance(content, EmptyStreamReader):
            return b""
        pieces = content._buffer
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        content._size = 0
        return body

    def unread(self) -> bytes:
        """Return what has come of the body and was not read, where it broke."""
        return b"" if isinstance(self.content, EmptyStreamReader) else b"".join(self.content._buffer)

    def finish(self) -> None:
        """Let go of the connection: it is used again if the answer was read to its end and nothing followed it."""
        line = self._line
        if not (self.content.at_eof() and line.rest()):
            line.close()
        elif line.parser.was_paused:  # TLS may hold more, unseen by the kernel: the loop reads that first
            loop = asyncio.get_running_loop()
            loop.call_soon(loop.call_soon, self._keep, line)
        else:
            self._keep(line)


class Line:
    """A connection from its making to its end."""

    __slots__ = (
        "_arrival", "_connection", "_on_surplus", "_poll", "_since", "_transport", "message", "parser", "protocol",
    )  # fmt: skip

    def __init__(self, connection: Connection, on_surplus: Callable[[], None]) -> None:
        assert connection.protocol is not None
        assert connection.transport is not None
        self._connection = connection
        self._since = math.inf
        self.message = b""
        """What is to leave over it next."""
        self.protocol = connection.protocol
        self._transport = connection.transport
        self._poll = select.poll()
        self._poll.register(self._transport.get_extra_info("socket"), _NEWS)
        self._arrival = arrival_over(self._transport)
        self._on_surplus = on_surplus
        self.parser = Parser(self.protocol, on_surplus)
        """Reads all answers that come over it."""
        self.protocol._parser = self.parser  # type: ignore[assignment]

    async def is_silent(self) -> bool:
        """Return whether nothing has come over it since it was made; the loop is let read what may be there."""
        if self._poll.poll(0):
            for _ in range(2):
                await asyncio.sleep(0)
        return not self.protocol.should_close

    def rest(self) -> bool:
        """Take note that it is idle from now on; return whether it may be used again."""
        self._since = monotonic()
        return self.parser.rest()

    @property
    def is_new(self) -> bool:
        """Whether no answer has come over it yet."""
        return self._since == math.inf

    def is_fresh(self) -> bool:
        """Return whether it was used just now: else the other end may be about to close it."""
        return monotonic() - self._since <= _KEPT_S

    def send(self) -> None:
        """Let its message leave, unless that was cancelled, or something came that nobody had asked for.

        Then the message stays, and who waits for its answer is told `Unasked`. The kernel may know of such a thing, and
        of an end that was closed, before the event loop has looked.
        """
        if not (self.message and self.parser.is_awaited):
            return
        if self.protocol.should_close or self._poll.poll(0):
            self.parser.fail(Unasked())
        else:
            self.send_now(self.message)
            self.message = b""

    def send_now(self, message: bytes) -> None:
        """Let a message leave, whatever has come."""
        self.parser.ask()
        self._transport.write(message)
        if self._arrival:
            self._arrival.sent(len(message))

    def check_answer(self) -> None:
        """Raise `TooEarly` where what came can't be an answer to what was sent."""
        if self._arrival and not self.is_new and not self._arrival.has_begun():
            self._on_surplus()
            raise TooEarly

    def close(self) -> None:
        """Give it up, whatever is under way."""
        self._transport.abort()  # nothing is wanted any more: TLS would wait for the other end to say goodbye
        self._connection.close()
