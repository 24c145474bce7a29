"""HTTP exchanges on aiohttp's connections, without its session.

A session makes each request anew: URL, headers, cookies, payload, a task that writes it. Here all requests to a URL
differ in nothing but their body: the head is made once, and leaves with the body in one write. That takes a third of
what a request costs. Connections, proxies, TLS and parsing are aiohttp's.
"""

from __future__ import annotations

import asyncio
import collections
import logging
import math
import select
import ssl
from collections.abc import Callable, Mapping
from time import monotonic

import aiohttp
from aiohttp import hdrs
from aiohttp.connector import Connection
from aiohttp.http import HttpProcessingError, RawResponseMessage
from aiohttp.streams import EmptyStreamReader, StreamReader
from yarl import URL

from batchmix.send.arrival import arrival_over
from batchmix.send.descriptors import OUT_OF_THEM
from batchmix.send.parsing import Parser

_KEPT_S = 4.0
"""How long an idle connection is kept. Many servers close theirs after 5 s (uvicorn, Node, Apache), and a request that
leaves just then is lost, and may have been billed; so this side is first."""
_NEWS = select.POLLIN | getattr(select, "POLLRDHUP", select.POLLHUP)
_LAST_WORDS_S = 0.1
"""So long a connection is listened to that is not fit: the loop may not have read what makes it so."""
_BURST = 64
"""So many requests leave together at most."""
_DESCRIPTOR_S = 0.1
"""So often it is looked for a free file descriptor: nobody tells, and another process may have had it."""
_logger = logging.getLogger(__name__)


class NotHttp(Exception):
    """What came is no HTTP."""


class Silent(Exception):
    """Nothing came in the time that a first byte has."""


class Unasked(Exception):
    """A connection was closed, or brought something, before anything was asked."""


class TooEarly(Exception):
    """What came had left the other end before the request was there: it is no answer to it."""


class CancelledUnsent(asyncio.CancelledError):
    """Cancelled before a byte of the request left."""


class Reply:
    """An answer up to the end of its headers; `finish` has to be called when no more is wanted of it."""

    __slots__ = ("_keep", "_line", "content", "headers", "status")

    def __init__(
        self, message: RawResponseMessage, content: StreamReader, line: _Line, keep: Callable[[_Line], None]
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


class _Line:
    """A connection from its making to its end, with one parser for all answers that come over it."""

    __slots__ = (
        "_arrival",
        "_connection",
        "_on_surplus",
        "_poll",
        "_since",
        "message",
        "parser",
        "protocol",
        "transport",
    )

    def __init__(self, connection: Connection, on_surplus: Callable[[], None]) -> None:
        assert connection.protocol is not None
        assert connection.transport is not None
        self._connection = connection
        self._since = math.inf
        self.message = b""
        """What is to leave over it next."""
        self.protocol = connection.protocol
        self.transport = connection.transport
        self._poll = select.poll()
        self._poll.register(self.transport.get_extra_info("socket"), _NEWS)
        self._arrival = arrival_over(self.transport)
        self._on_surplus = on_surplus
        self.parser = Parser(self.protocol, on_surplus)
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
        waiter = self.protocol._waiter
        if not self.message or waiter is None or waiter.done():
            return
        if self.protocol.should_close or self._poll.poll(0):
            waiter.set_exception(Unasked())
        else:
            self.send_now(self.message)
            self.message = b""

    def send_now(self, message: bytes) -> None:
        """Let a message leave, whatever has come."""
        self.parser.ask()
        self.transport.write(message)
        if self._arrival:
            self._arrival.sent(len(message))

    def check_answer(self) -> None:
        """Raise `TooEarly` where what came can't be an answer to what was sent."""
        if self._arrival and not self.is_new and not self._arrival.has_begun():
            self._on_surplus()
            raise TooEarly

    def close(self) -> None:
        self.transport.abort()  # nothing is wanted any more: TLS would wait for the other end to say goodbye
        self._connection.close()


class _Target:
    """A URL, with all that is the same in each request to it."""

    __slots__ = ("_head", "request")

    def __init__(self, request: aiohttp.ClientRequest) -> None:
        self.request = request
        self._head = b""

    def message(self, body: bytes) -> bytes:
        """Return a request as it goes over the wire. Not before a connection was made: it may want more headers."""
        if not self._head:
            request = self.request
            through = request.proxy and not request.is_ssl()
            lines = [f"POST {request.url if through else request.url.raw_path_qs} HTTP/1.1"]
            lines += [f"{name}: {value}" for name, value in request.headers.items() if name != hdrs.CONTENT_LENGTH]
            self._head = "\r\n".join([*lines, "Content-Length: "]).encode()
        return b"%b%d\r\n\r\n%b" % (self._head, len(body), body)


class Connections:
    """An async context that holds the connections to one host."""

    def __init__(
        self, headers: Mapping[str, str], *, proxy: URL | None, tls: ssl.SSLContext | None, connect_s: float
    ) -> None:
        self.surplus_answers = 0
        """How often something came that nobody had asked for; no request was given it."""
        self._headers = headers
        self._proxy = proxy
        self._tls = tls
        self._timeout = aiohttp.ClientTimeout(connect=connect_s, ceil_threshold=math.inf)
        self._targets: dict[str, _Target] = {}
        self._idle: list[_Line] = []
        self._ready: list[_Line] = []  # to send, at the end of this turn of the event loop
        self._is_closed = False
        self._leaving: collections.deque[_Line] = collections.deque()
        self._connector: aiohttp.TCPConnector

    async def __aenter__(self) -> Connections:
        self._loop = asyncio.get_running_loop()
        self._connector = aiohttp.TCPConnector(limit=0, ttl_dns_cache=300)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._is_closed = True
        for line in (*self._idle, *self._leaving):
            line.close()
        self._idle.clear()
        self._leaving.clear()
        await self._connector.close()

    async def post(self, url: str, body: bytes, first_byte_s: float | None = None) -> Reply:
        """Send a request and return what is heard up to the end of the headers.

        Raises `ClientError`, `OSError`, `ValueError` (the URL is none), `NotHttp`, `Unasked`, `TooEarly`, `Silent`
        after `first_byte_s`, and `CancelledUnsent` where it is cancelled in time.
        """
        target = self._targets.get(url) or self._target(url)
        while True:
            try:
                line = self._kept() or await self._connect(target)
            except asyncio.CancelledError as error:
                raise CancelledUnsent from error
            try:
                self._send(line, target.message(body))
                if first_byte_s is None:
                    return await self._reply(line)
                return await self._reply_within(first_byte_s, line)
            except BaseException as error:
                is_sent, line.message = not line.message, b""
                if is_sent:
                    line.close()
                    raise
                self._leave(line)
                if isinstance(error, asyncio.CancelledError):
                    raise CancelledUnsent from error

    def _send(self, line: _Line, message: bytes) -> None:
        """Let a request leave with the others that are ready in this turn of the event loop.

        Where each leaves by itself, the other end falls asleep between them, and to wake it takes as long again.
        """
        if line.is_new:  # and was found silent just now; TLS may yet have something to say, which is no answer
            line.send_now(message)
            return
        if len(self._ready) == _BURST:
            self._send_all()
        if not self._ready:
            self._loop.call_soon(self._send_all)
        line.message = message
        self._ready.append(line)

    def _send_all(self) -> None:
        ready, self._ready = self._ready, []
        for line in ready:
            line.send()

    def _kept(self) -> _Line | None:
        """Return the connection that was used last."""
        while self._idle:
            line = self._idle.pop()
            if line.is_fresh():
                return line
            self._leave(line)
        return None

    def _leave(self, line: _Line) -> None:
        """Use a connection no more, but listen to it for a little while."""
        self._leaving.append(line)
        self._loop.call_later(_LAST_WORDS_S, self._close_oldest)

    def _keep(self, line: _Line) -> None:
        if self._is_closed:
            line.close()
        else:
            self._idle.append(line)

    def _close_oldest(self) -> None:
        if self._leaving:
            self._leaving.popleft().close()

    def _note_surplus(self) -> None:
        self.surplus_answers += 1
        if self.surplus_answers == 1:
            _logger.warning(
                "something came that nobody had asked for, behind an answer or over an idle connection: no row is given"
                " it, and the connection is closed"
            )

    async def _connect(self, target: _Target) -> _Line:
        while True:
            try:
                connection = await self._connector.connect(target.request, [], self._timeout)
                break
            except TimeoutError as error:
                raise aiohttp.ConnectionTimeoutError from error
            except aiohttp.ClientConnectorError as error:
                if error.errno not in OUT_OF_THEM:
                    raise
            await asyncio.sleep(_DESCRIPTOR_S)
            if line := self._kept():
                return line
        line = _Line(connection, self._note_surplus)
        try:
            if not await line.is_silent():
                raise Unasked
        except BaseException:
            line.close()
            raise
        return line

    async def _reply(self, line: _Line) -> Reply:
        while True:
            try:
                message, content = await line.protocol.read()
            except HttpProcessingError as error:
                raise NotHttp(error.message) from error
            if message.code == 101:  # to a protocol that nobody has asked for
                raise NotHttp
            if not 100 <= message.code < 200:  # "continue" and the like go before an answer
                line.check_answer()
                return Reply(message, content, line, self._keep)

    async def _reply_within(self, first_byte_s: float, line: _Line) -> Reply:
        try:
            async with asyncio.timeout(first_byte_s) as limit:
                return await self._reply(line)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise Silent from error

    def _target(self, url: str) -> _Target:
        request = aiohttp.ClientRequest(
            hdrs.METH_POST, URL(url), headers=self._headers, loop=self._loop, proxy=self._proxy, ssl=self._tls or True
        )
        target = self._targets[url] = _Target(request)
        return target
