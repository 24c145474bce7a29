"""The client of one API: it sends a request and returns an `Exchange`, whether or not an answer arrives."""

from __future__ import annotations

import asyncio
import functools
import re
import ssl
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from aiohttp import hdrs
from multidict import istr

from batchmix import __version__
from batchmix.http.body_reader import first_object, read_pieces, read_stream, stream_result
from batchmix.http.connection import Response
from batchmix.http.connection_pool import CancelledUnsent, ConnectionPool, available_connections
from batchmix.http.faults import BREAKS, NO_FAULT, Fault, Faults, TooLarge, proxy_message
from batchmix.http.proxies import proxy_for
from batchmix.job import Timeouts
from batchmix.records import Exchange, Request
from batchmix.redact import Secrets
from batchmix.responses.rate_limits import (
    REMAINING_REQUESTS,
    REMAINING_TOKENS,
    has_scoped_quotas,
    quotas,
    retry_after_s,
)
from batchmix.responses.stream import AnswerStream

_MAX_ANSWER_BYTES = 64 * 2**20
_TRACE_ID = re.compile(r"\((?:tid|request id):\s*([\w-]+)\)")
"""Matches the request id at the end of error messages of AiHubMix and of the gateways that it is based on."""
_TRACE_ID_WITHIN = 20_000
"""How many bytes of an error's body are searched for `_TRACE_ID`."""
_MAX_HEADER_CHARS = 200
"""Longer header values are cut to this many characters."""
_CHOICES_WITHIN = 400
"""How many bytes of a body are searched for `choices`. A body without `choices` may be an error that quotes a key."""
_NO_QUOTAS = None, None

# `istr`, because looking up a plain string would fold its case each time.
_CONTENT_TYPE = istr("Content-Type")
_TRACE = istr("x-aihubmix-request-id")
_REQUEST_ID = istr("X-Request-Id")
_MODEL = istr("X-Aihubmix-Model")
_ROUTED_MODEL = istr("X-Aihubmix-Router-Resolved-Model")
_REMAINING_REQUESTS, _REMAINING_TOKENS = istr(REMAINING_REQUESTS), istr(REMAINING_TOKENS)


class Client:
    """An async context that holds the connections to one API.

    `post` never sends a request twice. It does not raise failures of the network or the server, but returns them. Only
    a cancellation is raised, and what `check` raises. The proxy comes from the environment; netrc is never read.
    """

    def __init__(  # noqa: PLR0913 - two are for rare callers
        self, base_url: str, secrets: Secrets, timeouts: Timeouts, concurrency: int,
        *, max_answer_bytes: int = _MAX_ANSWER_BYTES, check: Callable[[], None] | None = None,
    ) -> None:  # fmt: skip
        """`check` is called right before requests are sent, and raises a `BatchmixError` if none may be sent."""
        self._base_url = base_url
        self._secrets = secrets
        self._idle_s = timeouts.idle_s
        self._concurrency = concurrency
        self._max_answer_bytes = max_answer_bytes
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Accept-Encoding": "gzip, deflate",
            "User-Agent": f"batchmix/{__version__}",
            **secrets.headers,
        }
        tls = _tls() if base_url.startswith("https") else None
        proxy = proxy_for(base_url)
        self._faults = Faults(
            host=urlsplit(base_url).netloc.rpartition("@")[2],
            proxy=f"{proxy.host}:{proxy.port}" if proxy else "",
            uses_tls=tls is not None,
            connect_s=timeouts.connect_s,
            idle_s=timeouts.idle_s,
            total_s=timeouts.total_s,
            max_answer_bytes=max_answer_bytes,
        )
        self._has_answered = False
        self._has_scoped_quotas: bool | None = None  # unknown until the first answer
        self._pool = ConnectionPool(headers, proxy=proxy, tls=tls, connect_s=timeouts.connect_s, check=check)
        self._cached_value = functools.lru_cache(maxsize=256)(self._header_value)
        self._deadlines: _Deadlines
        self.max_connections = concurrency
        """The maximum number of connections. Entering the context may lower it, if too few files may be open."""

    async def __aenter__(self) -> Client:
        self.max_connections = available_connections(self._concurrency)
        self._deadlines = _Deadlines(self._faults.total_s)
        await self._pool.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._deadlines.close()
        await self._pool.__aexit__(kind, error, at)

    @property
    def surplus_answers(self) -> int:
        """How often data arrived that no request was waiting for. Such data is dropped."""
        return self._pool.surplus_answers

    async def post(self, request: Request) -> Exchange:
        """Send a request and return its exchange: the response, or the fault that prevented one."""
        task = asyncio.current_task()
        assert task is not None
        cancels = task.cancelling()
        sent_at_ms, began = time.time_ns() // 1_000_000, time.perf_counter()
        response: Response | None = None
        pieces: list[bytes] = []
        stream: AnswerStream | None = None
        fault = NO_FAULT
        self._deadlines.start(task)
        try:
            # Without streaming, the first byte comes only once the answer is complete.
            first_byte_s = self._idle_s if request.streamed_choices else None
            response = await self._pool.post(self._base_url + request.path, request.body, first_byte_s)
            if request.streamed_choices and response.status == 200:
                stream = AnswerStream(request.streamed_choices, self._max_answer_bytes)
                await read_stream(response.content, stream, self._idle_s)
            elif (body := response.complete_body(self._max_answer_bytes)) is not None:
                pieces.append(body)
            else:
                await read_pieces(response.content, pieces, self._max_answer_bytes)
        except BREAKS as error:
            status = response.status if response else None
            fault = self._faults.describe(error, status, answered_before=self._has_answered)
            if response is not None and not isinstance(error, TooLarge):
                (pieces.append if stream is None else stream.feed)(response.unread())
        except asyncio.CancelledError as error:
            if not self._deadlines.is_late(task) or task.uncancel() > cancels:
                raise
            fault = self._faults.late(is_sent=not isinstance(error, CancelledUnsent))
        finally:
            self._deadlines.stop(task)
            if response is not None:
                self._pool.release(response)
        latency_s = time.perf_counter() - began
        when = sent_at_ms, sent_at_ms + round(latency_s * 1000), latency_s
        if response is None:
            return Exchange(*when, fault=fault.type, fault_message=fault.message, maybe_billed=fault.maybe_billed)
        body, fault = (b"".join(pieces), fault) if stream is None else stream_result(stream, fault)
        return self._exchange(when, response, body, fault)

    def _exchange(self, when: tuple[int, int, float], response: Response, body: bytes, fault: Fault) -> Exchange:
        status, headers = response.status, response.headers
        if hdrs.CONTENT_LENGTH not in headers and hdrs.TRANSFER_ENCODING not in headers:
            body = first_object(body)
        is_answer = status == 200 and body.find(b'"choices"', 0, _CHOICES_WITHIN) >= 0
        body = self._secrets.redacted(body, refusal=not is_answer)
        if is_answer and self._has_scoped_quotas is None:
            self._has_scoped_quotas = has_scoped_quotas(headers)  # looking in each answer would take too long
        self._has_answered = True
        if status >= 300 and fault.type is None:
            fault = self._refusal(status, headers, fault)
        served = headers.get(_MODEL) or headers.get(_ROUTED_MODEL)
        request_id = headers.get(_TRACE) or self._other_request_id(status, headers, body)
        has_quotas = _REMAINING_REQUESTS in headers or _REMAINING_TOKENS in headers or self._has_scoped_quotas
        return Exchange(
            *when,
            status,
            body,
            self._cached_value(headers.get(_CONTENT_TYPE, "")),
            self._header_value(request_id) if request_id else None,
            self._cached_value(served) if served else None,
            None if status == 200 else retry_after_s(status, headers, time.time()),
            *fault,
            quotas(headers) if has_quotas else _NO_QUOTAS,
        )

    def _refusal(self, status: int, headers: Mapping[str, str], fault: Fault) -> Fault:
        """Return the fault for a redirection or for a proxy's own error; `fault` for any other error status."""
        if headers.get("X-Squid-Error"):
            message = self._header_value(proxy_message(self._faults.proxy, status, headers))
            # These errors occur after the proxy has passed the request on.
            return Fault("proxy", message, "ERR_READ" in message or "ERR_ZERO" in message)
        return Fault(None, self._header_value(headers.get("Location", ""))) if status < 400 else fault

    def _other_request_id(self, status: int, headers: Mapping[str, str], body: bytes) -> str | None:
        """Return the provider's id of a request, for responses without AiHubMix's own header."""
        if status != 200 or body.startswith(b'{"error"'):
            match = _TRACE_ID.search(body[:_TRACE_ID_WITHIN].decode("utf-8", "replace"))
            if match:
                return match[1]
        return headers.get(_REQUEST_ID)

    def _header_value(self, value: str) -> str:
        """Make a header's value printable, mask secrets in it, and cut it to `_MAX_HEADER_CHARS`."""
        if not (value.isascii() and value.isprintable()):
            value = "".join(char if char.isprintable() else "?" for char in value)
        return self._secrets.redacted_text(value)[:_MAX_HEADER_CHARS]


class _Deadlines:
    """Cancels each task that is not done `after_s` seconds after its start.

    All tasks get the same time, so the first to start is the first to be late, and one timer is enough. aiohttp and
    `asyncio.timeout` would set a timer for each request, which takes a tenth of a request's CPU time.
    """

    def __init__(self, after_s: float) -> None:
        self._after_s = after_s
        self._loop = asyncio.get_running_loop()
        self._due: dict[asyncio.Task[Any], float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def start(self, task: asyncio.Task[Any]) -> None:
        """Start the clock for a task."""
        self._due[task] = due = self._loop.time() + self._after_s
        if self._timer is None:
            self._timer = self._loop.call_at(due, self._cancel_late)

    def is_late(self, task: asyncio.Task[Any]) -> bool:
        """Return whether a task was cancelled because its time was up. The task must then call its `uncancel`."""
        return task not in self._due

    def stop(self, task: asyncio.Task[Any]) -> None:
        """Stop the clock for a task that is done."""
        self._due.pop(task, None)

    def close(self) -> None:
        """Stop the timer. No task is cancelled after that."""
        if self._timer:
            self._timer.cancel()

    def _cancel_late(self) -> None:
        self._timer = None
        now = self._loop.time()
        for task, due in list(self._due.items()):
            if due > now:
                self._timer = self._loop.call_at(due, self._cancel_late)
                return
            del self._due[task]
            task.cancel()


def _tls() -> ssl.SSLContext:
    """Return a TLS context with the system's defaults, which respect `SSL_CERT_FILE` and `SSL_CERT_DIR`."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
