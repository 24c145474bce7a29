"""Sends HTTP requests over aiohttp's connections, but without its `ClientSession`. This saves a third of the CPU time.

A session builds the URL, headers, cookies, payload and a writing task for each request. Here, all requests to a URL
differ only in their body, so the head is built once and sent with the body in one write. aiohttp still provides
connections, proxies, TLS and parsing.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import errno
import logging
import math
import resource
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic

import aiohttp
from aiohttp import hdrs
from yarl import URL

from batchmix.errors import BatchmixError
from batchmix.http.connection import Connection, Response
from batchmix.http.faults import FirstByteTimeout, UnrequestedData

_KEPT_S = 4.0
"""Seconds for which an idle connection is kept. Many servers (uvicorn, Node, Apache) close theirs after 5 s. A request
that is sent at that moment is lost and may have been billed, so this side closes first."""
_LEFT_OPEN_S = 0.1
"""Seconds for which a discarded connection stays open, to read and count surplus data."""
_LONG_BYTES = 1 << 14
"""The length of a body from which sending it as a piece of its own takes less time than a copy with its headers."""
_BURST = 64
"""The most requests that are sent before control returns to the event loop."""
_OUT_OF_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE})
_DESCRIPTOR_S = 0.1
"""Seconds between attempts to connect while no file descriptor is free. The system does not report when one is."""
_OTHER_DESCRIPTORS = 32
"""File descriptors that the process opens besides its connections, for journals and parts."""
_logger = logging.getLogger(__name__)


class CancelledUnsent(asyncio.CancelledError):
    """The task was cancelled before any byte of the request was sent."""


class _Target:
    """A URL, with the head that all requests to it share."""

    __slots__ = ("head", "request")

    def __init__(self, request: aiohttp.ClientRequest) -> None:
        self.request = request
        self.head = b""
        """The head up to the value of `Content-Length`, its last header; empty before the first request."""

    def make_head(self) -> bytes:
        """Build and return the head. Call this after connecting, which may add headers for a proxy."""
        request = self.request
        is_absolute = request.proxy and not request.is_ssl()
        lines = [f"POST {request.url if is_absolute else request.url.raw_path_qs} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in request.headers.items() if name != hdrs.CONTENT_LENGTH]
        self.head = "\r\n".join([*lines, "Content-Length: "]).encode()
        return self.head


class ConnectionPool:
    """An async context that holds the connections to one host.

    `surplus_answers` counts how often surplus data arrived and was dropped.
    """

    def __init__(
        self, headers: Mapping[str, str], *, proxy: URL | None, tls: ssl.SSLContext | None, connect_s: float,
        check: Callable[[], None] | None = None,
    ) -> None:  # fmt: skip
        """`check` is called right before requests are sent, and raises a `BatchmixError` if none may be sent."""
        self.surplus_answers = 0
        self._check = check
        self._headers = headers
        self._proxy = proxy
        self._tls = tls
        self._timeout = aiohttp.ClientTimeout(connect=connect_s, ceil_threshold=math.inf)
        self._targets: dict[str, _Target] = {}
        self._idle: list[tuple[Connection, float]] = []  # each with the monotonic time since which it has been idle
        self._ready: list[Connection] = []  # send their requests at the end of this turn of the event loop
        self._closing: collections.deque[Connection] = collections.deque()
        self._is_closed = False
        self._connector: aiohttp.TCPConnector

    async def __aenter__(self) -> ConnectionPool:
        self._loop = asyncio.get_running_loop()
        self._connector = aiohttp.TCPConnector(limit=0, ttl_dns_cache=300)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._is_closed = True
        for connection in (*(idle for idle, _ in self._idle), *self._closing):
            connection.close()
        self._idle.clear()
        self._closing.clear()
        await self._connector.close()

    async def post(self, url: str, body: bytes, first_byte_s: float | None = None) -> Response:
        """Send a request and return the response once its headers have arrived. The caller has to `release` it.

        If a connection breaks before the request is sent over it, another connection is used.

        Raises `ClientError`, `OSError`, `ValueError` (invalid URL), `HttpProcessingError` (the response is not HTTP),
        `UnrequestedData`, `EarlyResponse`, `FirstByteTimeout` after `first_byte_s`, and `CancelledUnsent` if the task
        is cancelled before the request was sent. A `BatchmixError` of `check` is raised too.
        """
        target = self._targets.get(url) or self._target(url)
        while True:
            try:
                connection = self._take_idle() or await self._connect(target)
            except asyncio.CancelledError as error:
                raise CancelledUnsent from error
            try:
                response = self._send(connection, target, body)
                return await response if first_byte_s is None else await _within(first_byte_s, response)
            except BaseException as error:
                is_sent, connection.unsent = not connection.unsent, ()
                if is_sent:
                    connection.close()
                    raise
                self._close_soon(connection)
                if isinstance(error, asyncio.CancelledError):
                    raise CancelledUnsent from error
                if isinstance(error, BatchmixError) or not isinstance(error, Exception):
                    raise

    def release(self, response: Response) -> None:
        """Take back a response's connection. It is kept if the response was read to its end and nothing followed."""
        connection = response.connection
        if not (response.content.at_eof() and connection.finish()) or self._is_closed:
            connection.close()
        elif connection.was_paused:  # TLS may hold data that polling does not show: let the event loop read it first
            self._loop.call_soon(self._loop.call_soon, self._keep, connection)
        else:
            self._idle.append((connection, monotonic()))

    def _send(self, connection: Connection, target: _Target, body: bytes) -> asyncio.Future[Response]:
        """Send a request, together with the others of this turn of the event loop; return a future for the response.

        If requests were sent one by one, the server would go to sleep in between, and waking it up doubles the time.
        """
        head = target.head or target.make_head()
        if len(body) < _LONG_BYTES:
            response = connection.expect(b"%b%d\r\n\r\n%b" % (head, len(body), body))
        else:
            response = connection.expect(b"%b%d\r\n\r\n" % (head, len(body)), body)
        if connection.is_new:
            self._send_each([connection])
            return response
        if len(self._ready) == _BURST:
            self._send_all()
        if not self._ready:
            self._loop.call_soon(self._send_all)
        self._ready.append(connection)
        return response

    def _send_all(self) -> None:
        ready, self._ready = self._ready, []
        self._send_each(ready)

    def _send_each(self, connections: list[Connection]) -> None:
        try:
            if self._check is not None:
                self._check()
        except BatchmixError as error:
            for connection in connections:
                connection.give_up(error)
        else:
            for connection in connections:
                connection.send()

    def _take_idle(self) -> Connection | None:
        """Return the idle connection that was used last. None if all have been idle for longer than `_KEPT_S`."""
        while self._idle:
            connection, since = self._idle.pop()
            if monotonic() - since <= _KEPT_S:
                return connection
            self._close_soon(connection)
        return None

    def _keep(self, connection: Connection) -> None:
        if self._is_closed:
            connection.close()
        else:
            self._idle.append((connection, monotonic()))

    def _close_soon(self, connection: Connection) -> None:
        """Discard a connection, but leave it open for `_LEFT_OPEN_S` to read surplus data."""
        self._closing.append(connection)
        self._loop.call_later(_LEFT_OPEN_S, self._close_oldest)

    def _close_oldest(self) -> None:
        if self._closing:
            self._closing.popleft().close()

    def _count_surplus(self) -> None:
        self.surplus_answers += 1
        if self.surplus_answers == 1:
            _logger.warning(
                "surplus data arrived, behind an answer or over an idle connection: no row is given it, and the"
                " connection is closed"
            )

    async def _connect(self, target: _Target) -> Connection:
        while True:
            try:
                pooled = await self._connector.connect(target.request, [], self._timeout)
                break
            except TimeoutError as error:
                raise aiohttp.ConnectionTimeoutError from error
            except aiohttp.ClientConnectorError as error:
                if error.errno not in _OUT_OF_DESCRIPTORS:
                    raise
            await asyncio.sleep(_DESCRIPTOR_S)
            if idle := self._take_idle():
                return idle
        connection = Connection(pooled, self._count_surplus)
        try:
            if not await connection.is_silent():
                raise UnrequestedData
        except BaseException:
            connection.close()
            raise
        return connection

    def _target(self, url: str) -> _Target:
        request = aiohttp.ClientRequest(
            hdrs.METH_POST, URL(url), headers=self._headers, loop=self._loop, proxy=self._proxy, ssl=self._tls or True
        )
        target = self._targets[url] = _Target(request)
        return target


async def _within(seconds: float, response: asyncio.Future[Response]) -> Response:
    try:
        async with asyncio.timeout(seconds) as limit:
            return await response
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise FirstByteTimeout from error


def available_connections(wanted: int) -> int:
    """Return how many connections this process can open, up to `wanted`. Warns if there are fewer.

    Each connection takes a file descriptor. The process's limit of open files is increased if necessary and possible.
    """
    taken = sum(1 for _ in Path("/dev/fd").iterdir()) + _OTHER_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < taken + wanted:
        soft = taken + wanted if hard == resource.RLIM_INFINITY else hard
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft == resource.RLIM_INFINITY or soft >= taken + wanted:
        return wanted
    room = max(1, soft - taken)
    _logger.warning(
        "no more than %d requests are sent at once, not %d: this process may open %d files (ulimit -n); raise that, or"
        " lower limits.concurrency", room, wanted, soft,
    )  # fmt: skip
    return room
