"""One connection to the provider: a request is sent over it, its response is read, then the next.

aiohttp's parser reads whatever arrives. The beginning of a second response would stay in it unseen, and become the
response to the next request; bytes that are no HTTP, behind a complete response in one piece, would take that response
with them. So a `Connection` takes the parser's place in aiohttp's protocol and lets in one response per request: what
arrives at any other time is surplus, and belongs to no request.
"""

from __future__ import annotations

import asyncio
import re
import select
from collections.abc import Callable, Sequence
from typing import Any

import aiohttp
import aiohttp.connector
import msgspec
from aiohttp import hdrs
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import HttpProcessingError, HttpResponseParser, RawResponseMessage
from aiohttp.streams import EMPTY_PAYLOAD, EmptyStreamReader, StreamReader
from multidict import CIMultiDictProxy

from batchmix.http.acknowledgement import acknowledgement_of
from batchmix.http.faults import SPEAKS_TLS, EarlyResponse, UnrequestedData

_MAX_HEADER_BYTES = 2**17
"""Of one header line. aiohttp's own limit of 8 kB could cost an answer that was paid for."""
_READ_AHEAD_BYTES = 2**18
"""More of a body is left in the kernel until it is read."""
_BODILESS = (204, 304)
"""Statuses of responses without a body, whatever their headers say (RFC 9112, 6.3)."""
_PROBE_REASON = "between-answers"
_PROBE = f"HTTP/1.1 100 {_PROBE_REASON}\r\n\r\n".encode()
"""A parser that expects a new response reads it as one; a parser in the middle of a response does not."""
_REQUEST_TIMEOUT = re.compile(rb"\s*HTTP/1\.[01] 408\b")
"""Sent by HAProxy, nginx and others over an idle connection before they close it."""
_TLS_ALERT = b"\x15\x03"
_UP_TO_EMPTY_LINE = re.compile(rb".*?\n\r?\n|.+", re.DOTALL)
_READABLE = select.POLLIN | getattr(select, "POLLRDHUP", select.POLLHUP)

_Parsed = tuple[Sequence[tuple[RawResponseMessage, StreamReader]], bool, bytes]
"""What aiohttp's parsers return: responses, whether the protocol is switched, and what follows the switch."""
_NOTHING: _Parsed = ((), False, b"")


class Response(msgspec.Struct):
    """A response up to the end of its headers; its body arrives in `content`."""

    status: int
    headers: CIMultiDictProxy[str]
    content: StreamReader
    connection: Connection

    def complete_body(self, max_bytes: int) -> bytes | None:
        """Return the body if all of it has arrived and none was read; None if it has to be read, or is larger.

        Nearly always there is one. Then nothing is awaited, and the protocol is not resumed for each piece.
        """
        content = self.content
        if not content.is_eof() or content.exception() is not None or self.connection._protocol._reading_paused:
            return None
        if isinstance(content, EmptyStreamReader):
            return b""
        if content._size > max_bytes:
            return None
        pieces = content._buffer
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        content._size = 0
        return body

    def unread(self) -> bytes:
        """Return what arrived of the body before it broke, and was not read."""
        return b"" if isinstance(self.content, EmptyStreamReader) else b"".join(self.content._buffer)


class Connection:
    """Sends one request at a time and reads its response; `on_surplus` is called when surplus data arrives.

    The steps are `expect`, `send`, and `finish` when nothing more is wanted of the response. aiohttp's protocol calls
    `feed_data`, `feed_eof` and `pause_reading`.
    """

    __slots__ = (
        "_acknowledgement", "_ends_with_piece", "_feed", "_has_head", "_head_so_far", "_inner", "_is_open", "_loop",
        "_on_surplus", "_pooled", "_protocol", "_socket", "_transport", "is_new", "unsent", "was_paused",
    )  # fmt: skip

    def __init__(self, pooled: aiohttp.connector.Connection, on_surplus: Callable[[], None]) -> None:
        assert pooled.protocol is not None
        assert pooled.transport is not None
        self._pooled = pooled
        self._on_surplus = on_surplus
        self._loop = asyncio.get_running_loop()
        self._protocol: ResponseHandler = pooled.protocol
        self._transport: asyncio.Transport = pooled.transport
        self._socket = select.poll()
        self._socket.register(self._transport.get_extra_info("socket"), _READABLE)
        self._acknowledgement = acknowledgement_of(self._transport)
        self._inner = _new_parser(self._protocol)
        self._feed: Callable[[bytes], _Parsed] = self._inner.feed_data
        self._is_open = False  # to a response: from `send` to `finish`
        self._has_head = False  # of that response
        self._head_so_far = b""
        self._ends_with_piece = False  # it arrived in one piece, which by its Content-Length ends where it does
        self.is_new = True
        """Whether no response has been read from it yet."""
        self.unsent = b""
        """The request that waits for `send`; empty once it was sent."""
        self.was_paused = False
        """Whether, for a while, more of the response arrived than was read."""
        self._protocol._parser = self  # type: ignore[assignment]

    async def is_silent(self) -> bool:
        """Return whether nothing has arrived since it was made; the event loop reads what may be there first."""
        if self._socket.poll(0):
            for _ in range(2):
                await asyncio.sleep(0)
        return not self._protocol.should_close

    def expect(self, request: bytes) -> asyncio.Future[Response]:
        """Take a request for the next `send`; return its response to be, which also gets what breaks the connection."""
        self.unsent = request
        response: asyncio.Future[Any] = self._loop.create_future()
        self._protocol._waiter = response
        return response

    def send(self) -> None:
        """Send the request, unless it was cancelled or surplus data arrived before.

        In the latter case it stays unsent, and its response is `UnrequestedData`. The kernel may know of such data, and
        of an end that was closed, before the event loop has looked. A new connection was found silent just now; over
        TLS something may arrive even so, which is no response.
        """
        request = self.unsent
        response = self._protocol._waiter
        if not request or response is None or response.done():
            return
        if not self.is_new and (self._protocol.should_close or self._socket.poll(0)):
            response.set_exception(UnrequestedData())
            return
        self.unsent = b""
        self._is_open = True
        self._has_head = self._ends_with_piece = self.was_paused = False
        self._transport.write(request)
        if self._acknowledgement:
            self._acknowledgement.sent(len(request))

    def finish(self) -> bool:
        """Let nothing more in; return whether it can be used again: not one byte followed the response.

        The response was read to its end before.
        """
        self._is_open = self.is_new = False
        if self._protocol._buffer:
            if not all(message.code == 408 for (message, _), _ in self._protocol._buffer):
                self._on_surplus()
            return False
        if self._protocol.should_close:
            return False
        if self._ends_with_piece:  # nearly always, and then the parser need not be probed
            return True
        try:
            messages = self._feed(_PROBE)[0]
            if len(messages) == 1 and messages[0][0].reason == _PROBE_REASON:
                return True
        except Exception:  # noqa: BLE001, S110 - whatever it is, the probe was not read as a response
            pass
        self._on_surplus()
        return False

    def close(self) -> None:
        """Give it up, whatever is under way."""
        self._transport.abort()  # nothing more is wanted: TLS would wait for the other end's goodbye
        self._pooled.close()

    def feed_data(self, data: bytes) -> _Parsed:
        """Parse what has arrived; raise what aiohttp's parser raises where a response can't be read."""
        if not self._is_open:
            return self._refuse(data)
        try:
            parsed = self._feed(data)
        except Exception as error:  # noqa: BLE001 - of many types; it is raised again where it matters
            return self._recover(data, error)
        if self._has_head:
            self._ends_with_piece = self._ends_with_piece and not data  # it is empty where reading is resumed
            return parsed
        messages, upgraded, rest = parsed
        for number, (message, content) in enumerate(messages, 1):
            if message.code >= 200 or message.code == 101:  # "continue" and the like come before a response
                is_one_piece = len(messages) == 1 and not self._head_so_far
                self._accept(message, content, data if is_one_piece else b"")
                return messages[number:], upgraded, rest
        self._head_so_far += data
        return (), upgraded, rest

    def feed_eof(self) -> Any:
        """Parse the end of the connection."""
        return self._inner.feed_eof()

    def pause_reading(self) -> None:
        """Leave the rest of what has arrived until it is wanted."""
        self.was_paused = True
        self._inner.pause_reading()

    def _accept(self, message: RawResponseMessage, content: StreamReader, piece: bytes = b"") -> None:
        """Give a response to the request that waits for it, past the protocol, which would queue it.

        `piece` is all that has arrived where that was one piece.
        """
        protocol = self._protocol
        self._has_head, self._head_so_far = True, b""
        length = message.headers.get(hdrs.CONTENT_LENGTH, "")
        self._ends_with_piece = (
            message.code == 200
            and not message.chunked
            and length.isdigit()
            and len(piece) - piece.find(b"\r\n\r\n") - 4 == int(length)
        )
        protocol._payload = content
        if message.should_close:
            protocol.force_close()
        response: asyncio.Future[Any] | None = protocol._waiter
        if response is None or response.done():
            return
        if message.code == 101:
            response.set_exception(HttpProcessingError(message="it switches to a protocol that was not requested"))
        elif self._acknowledgement and not self.is_new and not self._acknowledgement.has_begun():
            self._on_surplus()
            response.set_exception(EarlyResponse())
        else:
            body = EMPTY_PAYLOAD if message.code in _BODILESS else content
            response.set_result(Response(message.code, message.headers, body, self))

    def _refuse(self, surplus: bytes) -> _Parsed:
        """Close the connection where anything arrives without a request."""
        if surplus:
            if not (self._protocol.should_close or _REQUEST_TIMEOUT.match(surplus)):
                self._on_surplus()
            self._protocol.force_close()
            if self._protocol.transport is not None:
                self._protocol.transport.close()
        return _NOTHING

    def _recover(self, data: bytes, error: Exception) -> _Parsed:
        """Keep a response that was complete before something unreadable arrived; raise `error` where there is none."""
        if not self._has_head:
            self._inner = _new_parser(self._protocol)
            for piece in _UP_TO_EMPTY_LINE.findall(self._head_so_far + data):
                try:
                    messages = self._inner.feed_data(piece)[0]
                except Exception:  # noqa: BLE001 - as in `feed_data`
                    break
                for message, content in messages:
                    if message.code >= 200 and not self._has_head:
                        self._accept(message, content)
            if not self._has_head:
                raise HttpProcessingError(message=SPEAKS_TLS) if data.startswith(_TLS_ALERT) else error
        self._protocol.force_close()
        self._feed = _read_nothing
        body = self._protocol._payload
        if body is None or body.is_eof():
            self._on_surplus()
        elif body.exception() is None:
            body.set_exception(aiohttp.ClientPayloadError("it can't be read any further"))
        return _NOTHING


def _read_nothing(_: bytes) -> _Parsed:
    return _NOTHING


def _new_parser(protocol: ResponseHandler) -> HttpResponseParser:
    return HttpResponseParser(
        protocol,
        asyncio.get_running_loop(),
        _READ_AHEAD_BYTES,
        payload_exception=aiohttp.ClientPayloadError,
        read_until_eof=True,
        max_line_size=_MAX_HEADER_BYTES,
        max_field_size=_MAX_HEADER_BYTES,
    )
