"""The stand-in's server: one handler on aiohttp's low-level server, which writes whole replies itself."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Callable
from types import TracebackType

import aiohttp
from aiohttp import web

from batchmix.rehearsal.behaviour import REFUSED, Behaviour
from batchmix.rehearsal.control import control
from batchmix.rehearsal.listener import Listener
from batchmix.rehearsal.lookups import look_up
from batchmix.rehearsal.provider import Provider
from batchmix.rehearsal.reply_kind import Wire
from batchmix.rehearsal.reply_table import WEB_PAGE
from batchmix.rehearsal.request import ENDPOINTS
from batchmix.rehearsal.request_log import Record
from batchmix.rehearsal.wire import CLOSE, Reply, is_sent, pack, play, say_nothing, write

_BEARER = "Bearer "


class Rehearsal:
    """The provider, on this event loop. `async with` gives its base URL."""

    def __init__(self, behaviour: Behaviour, host: str = "127.0.0.1", port: int = 0) -> None:
        self._provider = Provider(behaviour)
        self._host = host
        self._port = port
        self._listener: Listener
        self._outages: asyncio.Task[None] | None = None

    @property
    def behaviour(self) -> Behaviour:
        """How it behaves now."""
        return self._provider.behaviour

    @property
    def ledger(self) -> list[Record]:
        """All requests so far, in the order in which they came."""
        return self._provider.ledger.records

    @property
    def totals(self) -> Counter[str]:
        """How many `requests` there were, how many were `answered`, and how many of each kind."""
        return self._provider.ledger.totals

    async def __aenter__(self) -> str:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> str:
        """Listen; return the base URL, which is good at once."""
        served = web.Server(self._handle, handler_cancellation=True, access_log=None)
        self._listener = Listener(served, self._host, self._port)
        address = await self._listener.open()
        self._plan_outages()
        return f"http://{address}/v1"

    async def stop(self) -> None:
        """Stop at once: every connection is cut, and no task is left when this returns."""
        outages, self._outages = self._outages, None
        if outages is not None:
            outages.cancel()
            await asyncio.wait([outages])
        await self._listener.close()

    def _plan_outages(self) -> None:
        """Plan when connections are refused, by a behaviour that was taken on just now."""
        refused = sorted((one.start_s, one.length_s) for one in self.behaviour.outage if one.how == REFUSED)
        before = self._outages
        if before is not None:
            before.cancel()
        self._outages = asyncio.create_task(self._refuse(refused)) if refused or before else None

    async def _refuse(self, outages: list[tuple[float, float]]) -> None:
        await self._listener.open()  # an outage may have been called off as it began
        for start_s, length_s in outages:
            await self._sleep_until(start_s)
            await self._listener.refuse()
            await self._sleep_until(start_s + length_s)
            await self._listener.open()

    async def _sleep_until(self, at_s: float) -> None:
        await asyncio.sleep(self._provider.begun + at_s - time.monotonic())

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if "Expect" in request.headers and request.transport is not None:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        try:
            raw = await request.content.read()
        except (ConnectionError, aiohttp.ClientPayloadError, web.RequestPayloadError):
            return CLOSE
        path = request.raw_path.partition("?")[0]
        if path in ENDPOINTS and request.method == "POST":
            return await self._serve(request, path, raw)
        return write(request, self._other(request, path, raw))

    async def _serve(self, request: web.BaseRequest, path: str, raw: bytes) -> web.StreamResponse:
        provider = self._provider
        turn = provider.turn(path, raw, _key(request))
        turn.gate.in_flight += 1
        try:
            if turn.delay_s:
                await asyncio.sleep(turn.delay_s)
            if turn.kind.status is None:
                return await say_nothing(request, turn.kind.wire)
            reply = provider.reply(turn)
            turn.record.status = reply.status
            written = await self._send(request, turn.kind.wire, reply)
            if await is_sent(request):
                provider.ledger.close(turn.record, time.monotonic())
            return written
        finally:
            turn.gate.in_flight -= 1

    async def _send(self, request: web.BaseRequest, wire: Wire | None, reply: Reply) -> web.StreamResponse:
        if wire is not None or reply.pieces is not None:
            return await play(request, reply, wire)
        if reply.takes_s:
            await asyncio.sleep(reply.takes_s)
        if self.behaviour.gzip and "gzip" in request.headers.get("Accept-Encoding", ""):
            pack(reply)
        return write(request, reply)

    def _other(self, request: web.BaseRequest, path: str, raw: bytes) -> Reply:
        """Return the reply to whatever asks for no answer."""
        method = request.method
        top = path.split("/", 2)[1] if path.startswith("/") else ""
        if top == "rehearsal":
            before = self._provider.begun
            reply = control(self._provider, method, path.removeprefix("/rehearsal/"), raw)
            if self._provider.begun != before:
                self._plan_outages()
            return reply
        if top not in {"v1", "api"}:
            return Reply(200, WEB_PAGE, "text/html")
        return look_up(self._provider, method, path, _key(request), request.headers.get("If-None-Match", ""))


def _key(request: web.BaseRequest) -> str:
    return request.headers.get("Authorization", "").removeprefix(_BEARER)


def run_server(behaviour: Behaviour, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; `ready` is called with the base URL once it listens."""

    async def serve() -> None:
        over = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, over.set)
        async with Rehearsal(behaviour, host, port) as url:
            ready(url)
            await over.wait()

    try:
        import uvloop
    except ImportError:
        asyncio.run(serve())
    else:
        uvloop.run(serve())
