"""The HTTP server of the rehearsal provider. aiohttp parses the requests, and `delivery` writes the replies."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable
from types import TracebackType

import aiohttp
from aiohttp import web

from batchmix.rehearsal.behaviour import Behaviour
from batchmix.rehearsal.delivery import (
    CLOSE,
    RehearsalReply,
    compress,
    send_nothing,
    send_slowly,
    wait_until_sent,
    write,
)
from batchmix.rehearsal.lookups import control, look_up
from batchmix.rehearsal.option_values import REFUSED
from batchmix.rehearsal.provider import RehearsalProvider
from batchmix.rehearsal.reply_kind import Delivery
from batchmix.rehearsal.reply_table import WEB_PAGE
from batchmix.rehearsal.request import ENDPOINTS
from batchmix.rehearsal.request_log import RequestRecord

_BEARER = "Bearer "
_BACKLOG = 4096
"""The most connections that wait to be accepted. This is more than batchmix opens at once."""


class Rehearsal:
    """A rehearsal provider that runs on the current event loop. `async with` starts it and gives its base URL."""

    def __init__(self, behaviour: Behaviour, host: str = "127.0.0.1", port: int = 0) -> None:
        self._provider = RehearsalProvider(behaviour)
        self._host = host
        self._port = port
        self._listener: _Listener
        self._outages: asyncio.Task[None] | None = None

    @property
    def behaviour(self) -> Behaviour:
        """The current behaviour."""
        return self._provider.behaviour

    @property
    def records(self) -> list[RequestRecord]:
        """The records of all requests so far, in the order of arrival."""
        return self._provider.log.records

    @property
    def totals(self) -> Counter[str]:
        """The number of all `requests`, of those `answered`, and of each kind of reply."""
        return self._provider.log.totals

    async def __aenter__(self) -> str:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> str:
        """Start listening, and return the base URL."""
        server = web.Server(self._handle, handler_cancellation=True, access_log=None)
        self._listener = _Listener(server, self._host, self._port)
        address = await self._listener.open()
        self._plan_outages()
        return f"http://{address}/v1"

    async def stop(self) -> None:
        """Cut every connection, and return when no task is left."""
        outages, self._outages = self._outages, None
        if outages is not None:
            outages.cancel()
            await asyncio.wait([outages])
        await self._listener.close()

    def _plan_outages(self) -> None:
        """Start or restart the task that refuses connections during outages of the kind `refused`.

        Called at the start, and whenever the behaviour is replaced.
        """
        refused = sorted(
            (outage.start_s, outage.length_s) for outage in self.behaviour.outage if outage.kind == REFUSED
        )
        before = self._outages
        if before is not None:
            before.cancel()
        self._outages = asyncio.create_task(self._refuse(refused)) if refused or before else None

    async def _refuse(self, outages: list[tuple[float, float]]) -> None:
        await self._listener.open()  # the previous task may have been cancelled during an outage
        for start_s, length_s in outages:
            await self._sleep_until(start_s)
            await self._listener.refuse()
            await self._sleep_until(start_s + length_s)
            await self._listener.open()

    async def _sleep_until(self, at_s: float) -> None:
        await asyncio.sleep(self._provider.started_at + at_s - time.monotonic())

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if "Expect" in request.headers and request.transport is not None:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        try:
            raw = await request.content.read()
        except (ConnectionError, aiohttp.ClientPayloadError, web.RequestPayloadError):
            return CLOSE
        path = request.raw_path.partition("?")[0]
        if path in ENDPOINTS and request.method == "POST":
            return await self._complete(request, path, raw)
        return write(request, self._other(request, path, raw))

    async def _complete(self, request: web.BaseRequest, path: str, raw: bytes) -> web.StreamResponse:
        """Reply to a request for a completion, and log when the whole reply was sent."""
        provider = self._provider
        plan = provider.plan(path, raw, _key(request), _peer(request))
        if not await plan.model_state.places.enter(queued=plan.queued):
            return write(request, provider.refused(plan))
        try:
            if plan.delay_s:
                await asyncio.sleep(plan.delay_s)
            if plan.kind.status is None:
                return await send_nothing(request, plan.kind.delivery)
            response = await self._send(request, plan.kind.delivery, provider.reply(plan))
            if await wait_until_sent(request):
                provider.close(plan)
            return response
        finally:
            plan.model_state.places.leave()

    async def _send(
        self, request: web.BaseRequest, delivery: Delivery | None, reply: RehearsalReply
    ) -> web.StreamResponse:
        if delivery is not None or reply.pieces is not None:
            return await send_slowly(request, reply, delivery)
        if reply.duration_s:
            await asyncio.sleep(reply.duration_s)
        if self.behaviour.gzip and "gzip" in request.headers.get("Accept-Encoding", ""):
            compress(reply)
        return write(request, reply)

    def _other(self, request: web.BaseRequest, path: str, raw: bytes) -> RehearsalReply:
        """Return the reply to a request that is not for a completion."""
        method = request.method
        top = path.split("/", 2)[1] if path.startswith("/") else ""
        if top == "rehearsal":
            before = self._provider.started_at
            reply = control(self._provider, method, path.removeprefix("/rehearsal/"), raw)
            if self._provider.started_at != before:
                self._plan_outages()
            return reply
        if top not in {"v1", "api"}:
            return RehearsalReply(200, WEB_PAGE, "text/html")
        return look_up(self._provider, method, path, _key(request), request.headers.get("If-None-Match", ""))


def _key(request: web.BaseRequest) -> str:
    return request.headers.get("Authorization", "").removeprefix(_BEARER)


def _peer(request: web.BaseRequest) -> object:
    """Return what tells a connection apart from others: the client's address and port."""
    return request.transport and request.transport.get_extra_info("peername")


class _Listener:
    """A listening socket that can refuse connections for a time and then listen on the same port again.

    With port 0, a free port is chosen.
    """

    def __init__(self, server: web.Server, host: str, port: int) -> None:
        self._server = server
        self._host = host
        self._port = port
        self._listening: asyncio.Server | None = None
        self._reserved: socket.socket | None = None

    async def open(self) -> str:
        """Listen, unless already listening, and return `HOST:PORT`."""
        loop = asyncio.get_running_loop()
        if self._listening is None:
            bound, self._reserved = self._reserved or self._bound(), None
            self._listening = await loop.create_server(self._server, sock=bound, backlog=_BACKLOG)
            self._port = self._listening.sockets[0].getsockname()[1]
        return f"{f'[{self._host}]' if ':' in self._host else self._host}:{self._port}"

    async def refuse(self) -> None:
        """Cut every connection and refuse new ones. The port stays reserved."""
        await self._shut()
        self._reserved = self._bound()

    async def close(self) -> None:
        """Cut every connection, release the port, and return when no task is left."""
        await self._shut()
        if self._reserved is not None:
            self._reserved.close()
            self._reserved = None

    def _bound(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        bound = socket.socket(family, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((self._host, self._port))
        return bound

    async def _shut(self) -> None:
        listening, self._listening = self._listening, None
        if listening is None:
            return
        listening.close()
        for _ in range(3):  # until connections that are being accepted are in `connections`
            await asyncio.sleep(0)
        while connections := self._server.connections:
            for connection in connections:
                if connection.transport is not None:
                    connection.transport.abort()
            await asyncio.sleep(0)
        await listening.wait_closed()


def run_server(behaviour: Behaviour, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Run a rehearsal provider until SIGINT or SIGTERM. Calls `ready` with the base URL once it listens."""

    async def serve() -> None:
        stopped = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stopped.set)
        async with Rehearsal(behaviour, host, port) as url:
            ready(url)
            await stopped.wait()

    try:
        import uvloop
    except ImportError:
        asyncio.run(serve())
    else:
        uvloop.run(serve())
