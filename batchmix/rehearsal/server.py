"""The stand-in's server: one handler on aiohttp's low-level server, which writes whole replies itself."""

from __future__ import annotations

import asyncio
import http
import signal
import time
import zlib
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Any

import aiohttp
import msgspec
from aiohttp import web

from batchmix.rehearsal import answers
from batchmix.rehearsal.asking import ENDPOINTS
from batchmix.rehearsal.behaviour import Behaviour
from batchmix.rehearsal.ledger import Record
from batchmix.rehearsal.provider import Provider, Reply

_REASONS = {status.value: status.phrase for status in http.HTTPStatus}
_BEARER = "Bearer "
_WORTH_PACKING_BYTES = 1024


class _Written(web.StreamResponse):
    """Tells aiohttp that the reply has been written, and whether the connection stays."""

    def __init__(self, *, keep: bool) -> None:
        super().__init__()
        self._keep = keep

    @property
    def keep_alive(self) -> bool:
        return self._keep

    async def prepare(self, request: web.BaseRequest) -> None:
        pass

    async def write_eof(self, data: bytes = b"") -> None:
        pass


class Rehearsal:
    """The provider, on this event loop. `async with` gives its base URL."""

    def __init__(self, behaviour: Behaviour, host: str = "127.0.0.1", port: int = 0) -> None:
        self._provider = Provider(behaviour)
        self._host = host
        self._port = port
        self._keep = _Written(keep=True)
        self._close = _Written(keep=False)

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
        loop = asyncio.get_running_loop()
        self._web = web.Server(self._handle, handler_cancellation=True, access_log=None)
        self._listener = await loop.create_server(self._web, self._host, self._port, backlog=4096)
        port = self._listener.sockets[0].getsockname()[1]
        return f"http://{f'[{self._host}]' if ':' in self._host else self._host}:{port}/v1"

    async def stop(self) -> None:
        """Stop at once: every connection is cut, and no task is left when this returns."""
        self._listener.close()
        for _ in range(3):  # connections that are being accepted come to be known
            await asyncio.sleep(0)
        while connections := self._web.connections:
            for connection in connections:
                if connection.transport is not None:
                    connection.transport.abort()
            await asyncio.sleep(0)
        await self._listener.wait_closed()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if "Expect" in request.headers and request.transport is not None:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        try:
            raw = await request.content.read()
        except (ConnectionError, aiohttp.ClientPayloadError, web.RequestPayloadError):
            return self._close
        path = request.raw_path.partition("?")[0]
        if path in ENDPOINTS and request.method == "POST":
            return await self._serve(request, path, raw)
        return self._write(request, self._other(request.method, path, raw))

    async def _serve(self, request: web.BaseRequest, path: str, raw: bytes) -> web.StreamResponse:
        provider = self._provider
        turn = provider.turn(path, raw, request.headers.get("Authorization", "").removeprefix(_BEARER))
        provider.in_flight += 1
        try:
            if turn.delay_s:
                await asyncio.sleep(turn.delay_s)
            if turn.kind.how == "hang":
                await asyncio.get_running_loop().create_future()  # cancelled when the connection ends
            if turn.kind.how == "drop":
                return self._abort(request)
            reply = provider.reply(turn)
            turn.record.status = reply.status
            if turn.kind.how == "cut":
                return self._cut(request, reply)
            if provider.behaviour.gzip and "gzip" in request.headers.get("Accept-Encoding", ""):
                _pack(reply)
            written = self._write(request, reply)
            if await _is_sent(request):
                provider.ledger.close(turn.record, time.monotonic())
            return written
        finally:
            provider.in_flight -= 1

    def _write(self, request: web.BaseRequest, reply: Reply) -> web.StreamResponse:
        transport = request.transport
        if transport is None or transport.is_closing():
            return self._close
        keep = request.keep_alive
        head = _head(reply, keep=keep)
        transport.write(head if request.method == "HEAD" else head + reply.body)
        return self._keep if keep else self._close

    def _cut(self, request: web.BaseRequest, reply: Reply) -> web.StreamResponse:
        """Send the first half of an answer, then end the connection."""
        if request.transport is not None and not request.transport.is_closing():
            request.transport.write(_head(reply, keep=True) + reply.body[: len(reply.body) // 2])
            request.transport.close()
        return self._close

    def _abort(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.transport is not None:
            request.transport.abort()
        return self._close

    def _other(self, method: str, path: str, raw: bytes) -> Reply:
        """Return the reply to whatever asks for no answer."""
        top = path.split("/", 2)[1] if path.startswith("/") else ""
        if top == "rehearsal":
            return self._control(method, path.removeprefix("/rehearsal/"), raw)
        if top not in {"v1", "api"}:
            return Reply(200, answers.WEB_PAGE, "text/html")
        tid = answers.trace_id()
        headers = [("x-aihubmix-request-id", tid)]
        if path == "/v1/models" and method in {"GET", "HEAD"}:
            return Reply(200, answers.models(self.behaviour.models), headers=headers)
        message = f"Invalid URL ({method} {path})"
        return Reply(404, answers.error(message, "invalid_request_error", None, tid), headers=headers)

    def _control(self, method: str, what: str, raw: bytes) -> Reply:
        match method, what:
            case "GET", "ledger":
                return _json(self.ledger)
            case "POST", "reset":
                self._provider.reset()
            case "POST", "behaviour":
                try:
                    self._provider.behave(Behaviour.parse(raw.decode("utf-8", "replace")))
                except ValueError as error:
                    return _json({"error": {"message": str(error)}}, 400)
            case "GET", "totals":
                pass
            case _:
                return _json({"error": {"message": f"not found: {method} /rehearsal/{what}"}}, 404)
        return _json(dict(self.totals))


async def _is_sent(request: web.BaseRequest) -> bool:
    """Wait until the last byte written is with the kernel; return False if the connection broke before.

    A broken connection's buffer is empty too, so an empty one proves nothing by itself.
    """
    transport = request.transport
    if transport is None:
        return False
    if transport.get_write_buffer_size():
        await asyncio.sleep(0)  # uvloop writes at the end of this turn of the loop
    if transport.get_write_buffer_size():
        transport.set_write_buffer_limits(0)  # from here on, drained means empty
        try:
            await request.writer.drain()
        except ConnectionError:
            return False
    return not transport.is_closing()


def _pack(reply: Reply) -> None:
    """Compress a reply's body, if that is worth it."""
    if len(reply.body) > _WORTH_PACKING_BYTES:
        reply.body = zlib.compress(reply.body, 1, wbits=31)
        reply.headers.append(("Content-Encoding", "gzip"))


def _head(reply: Reply, *, keep: bool) -> bytes:
    lines = [
        f"HTTP/1.1 {reply.status} {_REASONS.get(reply.status, '')}",
        f"Content-Type: {reply.content_type}",
        f"Content-Length: {len(reply.body)}",
    ]
    lines += [f"{name}: {' '.join(value.split())}" for name, value in reply.headers]  # a line break would end it
    if not keep:
        lines.append("Connection: close")
    return "\r\n".join((*lines, "", "")).encode("latin-1", "replace")


def _json(value: Any, status: int = 200) -> Reply:
    return Reply(status, msgspec.json.encode(value))


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
