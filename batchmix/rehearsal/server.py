"""The stand-in's server: one handler on aiohttp's low-level server."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import json
import math
import signal
import time
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Any

from aiohttp import web

from batchmix.rehearsal import answers
from batchmix.rehearsal.behaviour import Behaviour
from batchmix.rehearsal.limits import Limits

_WEB_PAGE = b"<!doctype html><html><head><title>A gateway</title></head><body>Welcome</body></html>"
_ODD_ANSWERS = {"answer", "filter", "null", "refusal", "tools", "reasoning", "echo"}
_ERRORS: dict[str, tuple[int, str, str, str | None]] = {
    "400": (400, "Invalid value for a parameter", "invalid_request_error", "invalid_value"),
    "401": (401, "Invalid API key", "invalid_request_error", "invalid_api_key"),
    "402": (402, "Your balance is insufficient", "billing_error", None),
    "403": (403, "Your balance is insufficient", "aihubmix_error", "insufficient_user_quota"),
    "429": (429, "Too many requests", "rate_limit_error", "rate_limit_exceeded"),
    "500": (500, "The server had an error", "server_error", None),
    "502": (502, "Bad gateway", "server_error", None),
    "503": (503, "Rate limited by provider, try again", "aihubmix_error", "server_is_overloaded"),
    "504": (504, "The upstream took too long", "server_error", None),
}
"""What a kind of fault answers: status, message, type, code."""


@dataclasses.dataclass(slots=True)
class Record:
    """One request as the ledger has it. Times are `time.monotonic()`, which all processes of a machine share."""

    prompt: str
    digest: str
    """Of the body's bytes."""
    attempt: int
    begun: float
    """When it had been read."""
    finished: float | None = None
    """When the last byte of the reply was with the kernel; None if that never happened."""
    status: int | None = None
    kind: str = ""
    answered: bool = False
    """A whole answer was sent."""


class Rehearsal:
    """The provider, on this event loop. `async with` gives its base URL."""

    def __init__(self, behaviour: Behaviour, host: str = "127.0.0.1", port: int = 0) -> None:
        self.behaviour = behaviour
        self.ledger: list[Record] = []
        self.totals: Counter[str] = Counter()
        self._host = host
        self._port = port
        self._times: Counter[str] = Counter()
        self._in_flight = 0
        self._limits = Limits(behaviour, time.monotonic())

    async def __aenter__(self) -> str:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> str:
        """Listen; return the base URL."""
        self._stopped = asyncio.Event()
        self._server = web.Server(self._handle, access_log=None)
        runner = web.ServerRunner(self._server, handle_signals=False, shutdown_timeout=0.2)
        await runner.setup()
        site = web.TCPSite(runner, self._host, self._port, backlog=4096, reuse_address=True)
        await site.start()
        self._runner = runner
        port = runner.addresses[0][1]
        return f"http://{self._host}:{port}/v1"

    async def stop(self) -> None:
        """Stop at once; what hangs is let go."""
        self._stopped.set()
        await self._runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.path
        if path.startswith("/rehearsal/"):
            return await self._control(request)
        if not path.startswith(("/v1/", "/api/")):
            return web.Response(body=_WEB_PAGE, content_type="text/html")
        if path == "/v1/models":
            data = [{"id": name, "object": "model"} for name in self.behaviour.models]
            return web.json_response({"object": "list", "data": data})
        if request.method != "POST" or path not in {"/v1/chat/completions", "/v1/completions", "/v1/embeddings"}:
            tid = answers.trace_id()
            return _reply(
                404, answers.error(f"Invalid URL ({request.method} {path})", "invalid_request_error", None, tid), tid
            )
        return await self._serve(request, await _read(request))

    async def _serve(self, request: web.BaseRequest, raw: bytes) -> web.StreamResponse:
        digest = hashlib.blake2b(raw, digest_size=16).hexdigest()
        self._times[digest] += 1
        body = _object(raw)
        text = answers.last_text(body) if body else ""
        record = Record(text, digest, self._times[digest], time.monotonic())
        if self.behaviour.ledger:
            self.ledger.append(record)
        self.totals["requests"] += 1
        self._in_flight += 1
        try:
            record.kind = self._kind(request, body, record, text)
            delay = self.behaviour.latency_s(digest, record.attempt)
            if delay and record.kind not in {"401", "throttled", "busy"}:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopped.wait(), delay)
            return await self._act(request, body or {}, record)
        except ConnectionError:  # the client is gone
            record.answered = False
            _abort(request)
            return web.Response()
        finally:
            self._in_flight -= 1
            self.totals[record.kind] += 1

    def _kind(self, request: web.BaseRequest, body: answers.Json | None, record: Record, text: str) -> str:
        """Return what is to happen to a request."""
        behaviour = self.behaviour
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if behaviour.key and given != behaviour.key:
            return "401"
        if body is None or not any(name in body for name in ("messages", "prompt", "input")):
            return "malformed"
        if behaviour.models and body.get("model") not in behaviour.models:
            return "unknown"
        if 0 <= behaviour.balance <= self.totals["answered"]:
            return "403"
        if behaviour.concurrency and self._in_flight > behaviour.concurrency:
            return "busy"
        most = body.get("max_completion_tokens", body.get("max_tokens"))
        charged = answers.prompt_tokens(body) if behaviour.tpm else 0
        charged += (most if isinstance(most, int) else behaviour.words) if behaviour.tpm else 0
        self._wait_s = self._limits.admit(charged, time.monotonic())
        if self._wait_s > 0:
            return "throttled"
        return behaviour.fault(record.digest, record.attempt, text)

    async def _act(self, request: web.BaseRequest, body: answers.Json, record: Record) -> web.StreamResponse:
        kind, tid = record.kind, answers.trace_id()
        if kind == "hang":
            await self._stopped.wait()
        if kind in {"hang", "drop"}:
            _abort(request)
            return web.Response()
        if kind in {"html", "empty"}:
            plain = web.Response(body=_WEB_PAGE if kind == "html" else b"", content_type="text/html")
            return await _send(request, plain, record)
        headers = self._limits.headers(time.monotonic()) if self.behaviour.rate_headers else {}
        if kind in _ODD_ANSWERS or kind == "cut":
            headers["X-Aihubmix-Model"] = str(body.get("model"))
            said = json.dumps(self._answer(request.path, body, kind)).encode()
            if kind == "cut":
                return await _cut(request, said)
            record.answered = True
            response = await _send(request, _reply(200, said, tid, headers), record)
            self.totals["answered"] += 1
            return response
        status, error = self._error(kind, request, body, tid)
        if status == 429 and self.behaviour.rate_headers:
            wait_s = self._wait_s if kind == "throttled" else 1.0
            headers |= {"Retry-After": str(math.ceil(wait_s)), "retry-after-ms": str(math.ceil(wait_s * 1000))}
        return await _send(request, _reply(status, error, tid, headers), record)

    def _answer(self, path: str, body: answers.Json, kind: str) -> answers.Json:
        if path.endswith("/embeddings"):
            return answers.embedding(body, self.behaviour)
        return answers.completion(body, self.behaviour, kind, path=path)

    def _error(self, kind: str, request: web.BaseRequest, body: answers.Json, tid: str) -> tuple[int, bytes]:
        if kind == "malformed":
            return 400, answers.error(
                "The body must be a JSON object with messages", "invalid_request_error", None, tid
            )
        if kind == "unknown":
            message = f"Incorrect model ID. Please request to view the available models: {body.get('model')}"
            return 503, answers.error(message, "aihubmix_error", None, tid)
        status, message, group, code = _ERRORS[
            "429" if kind in {"throttled", "busy"} else kind if kind in _ERRORS else "500"
        ]
        if status == 401:
            message = f"{message}: {request.headers.get('Authorization', '').removeprefix('Bearer ')}"
        return status, answers.error(message, group, code, tid)

    async def _control(self, request: web.BaseRequest) -> web.Response:
        what = request.path.removeprefix("/rehearsal/")
        if what == "ledger":
            return web.json_response([dataclasses.asdict(record) for record in self.ledger])
        if what == "behaviour" and request.method == "POST":
            try:
                self.behaviour = Behaviour.parse((await request.read()).decode())
            except ValueError as error:
                return web.json_response({"error": str(error)}, status=400)
            self._limits = Limits(self.behaviour, time.monotonic())
        elif what == "reset" and request.method == "POST":
            self.ledger.clear()
            self.totals.clear()
            self._times.clear()
        elif what != "totals":
            return web.json_response({"error": "not found"}, status=404)
        return web.json_response(dict(self.totals))


async def _read(request: web.BaseRequest) -> bytes:
    """Return the body, however large."""
    return b"".join([piece async for piece in request.content.iter_any()])


def _object(raw: bytes) -> answers.Json | None:
    try:
        found: Any = json.loads(raw)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _reply(status: int, body: bytes, tid: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        body=body,
        status=status,
        content_type="application/json",
        headers={"x-aihubmix-request-id": tid, **(headers or {})},
    )


async def _send(request: web.BaseRequest, response: web.Response, record: Record) -> web.Response:
    """Send a reply and note when its last byte was with the kernel."""
    record.status = response.status
    await response.prepare(request)
    await response.write_eof()
    transport = request.transport
    if transport is not None and not transport.get_write_buffer_size():
        record.finished = time.monotonic()
    else:
        asyncio.get_running_loop().call_soon(_note_when_sent, request, record)
    return response


def _note_when_sent(request: web.BaseRequest, record: Record) -> None:
    transport = request.transport
    if transport is None or transport.is_closing():
        return
    if not transport.get_write_buffer_size():
        record.finished = time.monotonic()
    else:
        asyncio.get_running_loop().call_later(0.001, _note_when_sent, request, record)


async def _cut(request: web.BaseRequest, said: bytes) -> web.StreamResponse:
    """Send the first half of an answer, then cut the connection."""
    response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": str(len(said))})
    await response.prepare(request)
    await response.write(said[: len(said) // 2])
    if request.transport is not None:
        request.transport.close()
    return response


def _abort(request: web.BaseRequest) -> None:
    if request.transport is not None:
        request.transport.abort()


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
