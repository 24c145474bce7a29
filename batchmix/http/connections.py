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
import ssl
from collections.abc import Mapping

import aiohttp
from aiohttp import hdrs
from yarl import URL

from batchmix.http.connection import Line, Reply, Unasked
from batchmix.http.descriptors import OUT_OF_THEM
from batchmix.http.parser import Head

_LAST_WORDS_S = 0.1
"""So long a connection is listened to that is not fit: the loop may not have read what makes it so."""
_BURST = 64
"""So many requests leave together at most."""
_DESCRIPTOR_S = 0.1
"""So often it is looked for a free file descriptor: nobody tells, and another process may have had it."""
_logger = logging.getLogger(__name__)


class Silent(Exception):
    """Nothing came in the time that a first byte has."""


class CancelledUnsent(asyncio.CancelledError):
    """Cancelled before a byte of the request left."""


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
        self._idle: list[Line] = []
        self._ready: list[Line] = []  # to send, at the end of this turn of the event loop
        self._is_closed = False
        self._leaving: collections.deque[Line] = collections.deque()
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

        Raises `ClientError`, `OSError`, `ValueError` (the URL is none), `HttpProcessingError` (what came is no HTTP),
        `Unasked`, `TooEarly`, `Silent` after `first_byte_s`, and `CancelledUnsent` where it is cancelled in time.
        """
        target = self._targets.get(url) or self._target(url)
        while True:
            try:
                line = self._kept() or await self._connect(target)
            except asyncio.CancelledError as error:
                raise CancelledUnsent from error
            try:
                head = line.parser.expect()
                self._send(line, target.message(body))
                found = await head if first_byte_s is None else await _within(first_byte_s, head)
                line.check_answer()
                return Reply(*found, line, self._keep)
            except BaseException as error:
                is_sent, line.message = not line.message, b""
                if is_sent:
                    line.close()
                    raise
                self._leave(line)
                if isinstance(error, asyncio.CancelledError):
                    raise CancelledUnsent from error
                if not isinstance(error, Exception):
                    raise

    def _send(self, line: Line, message: bytes) -> None:
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

    def _kept(self) -> Line | None:
        """Return the connection that was used last."""
        while self._idle:
            line = self._idle.pop()
            if line.is_fresh():
                return line
            self._leave(line)
        return None

    def _leave(self, line: Line) -> None:
        """Use a connection no more, but listen to it for a little while."""
        self._leaving.append(line)
        self._loop.call_later(_LAST_WORDS_S, self._close_oldest)

    def _keep(self, line: Line) -> None:
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

    async def _connect(self, target: _Target) -> Line:
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
        line = Line(connection, self._note_surplus)
        try:
            if not await line.is_silent():
                raise Unasked
        except BaseException:
            line.close()
            raise
        return line

    def _target(self, url: str) -> _Target:
        request = aiohttp.ClientRequest(
            hdrs.METH_POST, URL(url), headers=self._headers, loop=self._loop, proxy=self._proxy, ssl=self._tls or True
        )
        target = self._targets[url] = _Target(request)
        return target


async def _within(seconds: float, head: asyncio.Future[Head]) -> Head:
    try:
        async with asyncio.timeout(seconds) as limit:
            return await head
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise Silent from error
