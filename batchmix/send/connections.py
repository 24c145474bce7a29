"""HTTP exchanges on aiohttp's connections, without its session.

A session makes each request anew: URL, headers, cookies, payload, a task that writes it. Here all requests to a URL
differ in nothing but their body: the head is made once, and leaves with the body in one write. That takes a third of
what a request costs. Connections, proxies, TLS and parsing are aiohttp's.
"""

from __future__ import annotations

import asyncio
import math
import select
import ssl
from collections.abc import Mapping

import aiohttp
from aiohttp import hdrs
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http import HttpProcessingError
from aiohttp.streams import StreamReader
from multidict import CIMultiDictProxy
from yarl import URL

_MOST_HEADER_BYTES = 2**17
"""A header line above aiohttp's 8 kB must not cost an answer that was paid for."""
_KEPT_S = 4.0
"""How long an idle connection is kept. Many servers close theirs after 5 s (uvicorn, Node, Apache), and a request that
leaves just then is lost, and may have been billed; so this side is first."""
_MOST_CLOSED = 3
"""So many connections may turn out closed, one after the other, before a byte of a request has left."""
_CLOSED = getattr(select, "POLLRDHUP", select.POLLHUP)


class NotHttp(Exception):
    """What came is no HTTP."""


class Silent(Exception):
    """Nothing came in the time that a first byte has."""


class CancelledUnsent(asyncio.CancelledError):
    """Cancelled before a byte of the request left."""


class Reply:
    """An answer up to the end of its headers; `finish` has to be called when no more is wanted of it."""

    __slots__ = ("_connection", "content", "headers", "status")

    def __init__(
        self, status: int, headers: CIMultiDictProxy[str], content: StreamReader, connection: Connection
    ) -> None:
        self.status = status
        self.headers = headers
        self.content = content
        self._connection = connection

    def finish(self) -> None:
        """Let go of the connection: it is used again if the answer was read to its end, and closed if not."""
        self._connection.release()


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
        self._headers = headers
        self._proxy = proxy
        self._tls = tls
        self._timeout = aiohttp.ClientTimeout(connect=connect_s, ceil_threshold=math.inf)
        self._targets: dict[str, _Target] = {}
        self._connector: aiohttp.TCPConnector

    async def __aenter__(self) -> Connections:
        self._loop = asyncio.get_running_loop()
        self._connector = aiohttp.TCPConnector(limit=0, ttl_dns_cache=300, keepalive_timeout=_KEPT_S)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._connector.close()

    async def post(self, url: str, body: bytes, first_byte_s: float | None = None) -> Reply:
        """Send a request and return what is heard up to the end of the headers.

        Raises `ClientError`, `OSError`, `ValueError` (the URL is none), `NotHttp`, `Silent` after `first_byte_s`, and
        `CancelledUnsent` where it is cancelled in time.
        """
        target = self._targets.get(url) or self._target(url)
        try:
            connection = await self._open(target)
        except asyncio.CancelledError as error:
            raise CancelledUnsent from error
        try:
            protocol = connection.protocol
            assert protocol is not None
            assert protocol.transport is not None
            protocol.set_response_params(
                read_until_eof=True, max_line_size=_MOST_HEADER_BYTES, max_field_size=_MOST_HEADER_BYTES
            )
            protocol.transport.write(target.message(body))
            if first_byte_s is None:
                return await _reply(protocol, connection)
            return await _reply_within(first_byte_s, protocol, connection)
        except BaseException:
            connection.close()
            raise

    async def _open(self, target: _Target) -> Connection:
        """Return a connection, if possible one whose other end is open; nothing may be awaited before it is used."""
        for _ in range(_MOST_CLOSED):
            connection = await self._connect(target)
            if not _is_closed(connection):
                return connection
            connection.close()
            await asyncio.sleep(0)  # the loop reads the ends of the others
        return await self._connect(target)

    async def _connect(self, target: _Target) -> Connection:
        try:
            return await self._connector.connect(target.request, [], self._timeout)
        except TimeoutError as error:
            raise aiohttp.ConnectionTimeoutError from error

    def _target(self, url: str) -> _Target:
        request = aiohttp.ClientRequest(
            hdrs.METH_POST, URL(url), headers=self._headers, loop=self._loop, proxy=self._proxy, ssl=self._tls or True
        )
        target = self._targets[url] = _Target(request)
        return target


def _is_closed(connection: Connection) -> bool:
    """Return whether the other end has closed: the kernel may know it before the event loop has looked."""
    transport = connection.transport
    if transport is None or transport.is_closing():
        return True
    poll = select.poll()
    poll.register(transport.get_extra_info("socket"), _CLOSED)
    return bool(poll.poll(0))


async def _reply(protocol: ResponseHandler, connection: Connection) -> Reply:
    while True:
        try:
            message, content = await protocol.read()
        except HttpProcessingError as error:
            raise NotHttp from error
        if not 100 <= message.code < 200:  # "continue" and the like go before an answer
            return Reply(message.code, message.headers, content, connection)


async def _reply_within(first_byte_s: float, protocol: ResponseHandler, connection: Connection) -> Reply:
    try:
        async with asyncio.timeout(first_byte_s) as limit:
            return await _reply(protocol, connection)
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise Silent from error
