"""A connection that gives each request its own response, and drops all other data that arrives.

aiohttp's parser would read whatever arrives. The beginning of a surplus response would stay in the parser and be taken
for the response to the next request. Bytes that are not HTTP would spoil a complete response that arrives with them. So
a `Connection` takes the parser's place in aiohttp's protocol and passes on one response per request. Data that arrives
at any other time is surplus and is dropped.
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
"""The longest header line that is accepted. With aiohttp's limit of 8 kB, an answer that was billed could be lost."""
_READ_AHEAD_BYTES = 2**18
"""About how many bytes of a body are buffered. The rest stays in the kernel until the buffer is read."""
_BODILESS = (204, 304)
"""Statuses of responses that never have a body, whatever their headers say (RFC 9112, 6.3)."""
_PROBE_REASON = "between-answers"
_PROBE = f"HTTP/1.1 100 {_PROBE_REASON}\r\n\r\n".encode()
"""Bytes to test a parser with: only a parser that is not in the middle of a response reads them as a response."""
_REQUEST_TIMEOUT = re.compile(rb"\s*HTTP/1\.[01] 408\b")
"""Matches the response that HAProxy, nginx and others send over an idle connection before they close it."""
_TLS_ALERT = b"\x15\x03"
_UP_TO_EMPTY_LINE = re.compile(rb".*?\n\r?\n|.+", re.DOTALL)
_READABLE = select.POLLIN | getattr(select, "POLLRDHUP", select.POLLHUP)

_Parsed = tuple[Sequence[tuple[RawResponseMessage, StreamReader]], bool, bytes]
"""The result of aiohttp's parsers: responses, whether the protocol is switched, and the bytes after the switch."""
_NOTHING: _Parsed = ((), False, b"")


class Response(msgspec.Struct):
    """A response whose headers have arrived; its body arrives in `content`."""

    status: int
    headers: CIMultiDictProxy[str]
    content: StreamReader
    connection: Connection

    def complete_body(self, max_bytes: int) -> bytes | None:
        """Return the body if all of it has arrived. None if it has to be awaited or is larger than `max_bytes`.

        For nearly all responses this saves an await, and resuming the protocol for each piece. Call it before any part
        of the body is read.
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
        """Return the part of the body that had arrived, but was not read yet, when the connection broke."""
        return b"" if isinstance(self.content, EmptyStreamReader) else b"".join(self.content._buffer)


class Connection:
    """A connection that sends one request at a time. It calls `on_surplus` when surplus data arrives.

    For each request, the caller calls `expect`, `send` and, once the response is read, `finish`. aiohttp's protocol
    calls `feed_data`, `feed_eof` and `pause_reading`.
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
        self._is_open = False  # whether a response may arrive: from `send` to `finish`
        self._has_head = False  # whether that response's headers have arrived
        self._head_so_far = b""
        self._ends_with_piece = False  # whether one piece was the whole response, by its Content-Length
        self.is_new = True
        """Whether no response has been read from this connection yet."""
        self.unsent: tuple[bytes, ...] = ()
        """The pieces of the request that waits to be sent; empty once it was sent."""
        self.was_paused = False
        """Whether reading of the response was ever paused because the buffer was full."""
        self._protocol._parser = self  # type: ignore[assignment]

    async def is_silent(self) -> bool:
        """Return whether the server has sent nothing over a new connection. Lets the event loop read pending data."""
        if self._socket.poll(0):
            for _ in range(2):
                await asyncio.sleep(0)
        return not self._protocol.should_close

    def expect(self, *request: bytes) -> asyncio.Future[Response]:
        """Set the pieces of the request for the next `send`; return a future for the response.

        The future gets an exception if the connection breaks.
        """
        self.unsent = request
        response: asyncio.Future[Any] = self._loop.create_future()
        self._protocol._waiter = response
        return response

    def send(self) -> None:
        """Send the request, unless it was cancelled, or the server has sent data or closed the connection already.

        If the server did, the request stays unsent and its future gets `UnrequestedData`. The socket is polled because
        the event loop may not have read the data yet. A new connection is not polled: `is_silent` has just checked it,
        and over TLS other data than a response may arrive.
        """
        request = self.unsent
        response = self._protocol._waiter
        if not request or response is None or response.done():
            return
        if not self.is_new and (self._protocol.should_close or self._socket.poll(0)):
            response.set_exception(UnrequestedData())
            return
        self.unsent = ()
        self._is_open = True
        self._has_head = self._ends_with_piece = self.was_paused = False
        self._transport.writelines(request)
        if self._acknowledgement:
            self._acknowledgement.sent(sum(map(len, request)))

    def give_up(self, error: Exception) -> None:
        """Leave the request unsent. Its future gets the error, unless it was cancelled."""
        response = self._protocol._waiter
        if self.unsent and response is not None and not response.done():
            response.set_exception(error)

    def finish(self) -> bool:
        """End the exchange, after the response was read to its end; return whether the connection can be reused.

        It can if it is still open and no byte followed the response. Data that arrives from now on closes it.
        """
        self._is_open = self.is_new = False
        if self._protocol._buffer:
            if not all(message.code == 408 for (message, _), _ in self._protocol._buffer):
                self._on_surplus()
            return False
        if self._protocol.should_close:
            return False
        if self._ends_with_piece:  # true for nearly all responses; then no probe is needed
            return True
        try:
            messages = self._feed(_PROBE)[0]
            if len(messages) == 1 and messages[0][0].reason == _PROBE_REASON:
                return True
        except Exception:  # noqa: BLE001, S110 - any error means that the probe was not read as a response
            pass
        self._on_surplus()
        return False

    def close(self) -> None:
        """Close the connection at once, even in the middle of a request."""
        self._transport.abort()  # an orderly close would wait for the TLS goodbye of the other end
        self._pooled.close()

    def feed_data(self, data: bytes) -> _Parsed:
        """Parse data that has arrived. Raises the exceptions of aiohttp's parser if a response is unreadable."""
        if not self._is_open:
            return self._refuse(data)
        try:
            parsed = self._feed(data)
        except Exception as error:  # noqa: BLE001 - the parser raises many types; `_recover` may raise it again
            return self._recover(data, error)
        if self._has_head:
            self._ends_with_piece = self._ends_with_piece and not data  # `data` is empty when reading is resumed
            return parsed
        messages, upgraded, rest = parsed
        for number, (message, content) in enumerate(messages, 1):
            if message.code >= 200 or message.code == 101:  # 100 Continue and its like come before the response
                is_one_piece = len(messages) == 1 and not self._head_so_far
                self._accept(message, content, data if is_one_piece else b"")
                return messages[number:], upgraded, rest
        self._head_so_far += data
        return (), upgraded, rest

    def feed_eof(self) -> Any:
        """Tell the parser that the connection has ended."""
        return self._inner.feed_eof()

    def pause_reading(self) -> None:
        """Stop reading until the buffered data has been read."""
        self.was_paused = True
        self._inner.pause_reading()

    def _accept(self, message: RawResponseMessage, content: StreamReader, piece: bytes = b"") -> None:
        """Give a response directly to the request that waits for it, because the protocol would queue it.

        `piece` is all data of the response so far if it arrived in one piece, and empty otherwise.
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
        """Drop data that arrives while no response is expected, and close the connection."""
        if surplus:
            if not (self._protocol.should_close or _REQUEST_TIMEOUT.match(surplus)):
                self._on_surplus()
            self._protocol.force_close()
            if self._protocol.transport is not None:
                self._protocol.transport.close()
        return _NOTHING

    def _recover(self, data: bytes, error: Exception) -> _Parsed:
        """Keep a response that came before unreadable data. Raises `error` if there is none."""
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
