"""The wire: one request out, one `Exchange` back, whatever happened. The only owner of aiohttp's client."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import io
import math
import os
import re
import resource
import ssl
import time
from collections.abc import Mapping
from types import TracebackType
from urllib.parse import urlsplit

import aiohttp
from multidict import istr
from yarl import URL

from batchmix import __version__
from batchmix.job import Timeouts
from batchmix.records import Exchange, Request
from batchmix.redact import Secrets
from batchmix.send.deadlines import Deadlines
from batchmix.send.listening import Fault, ended, listen
from batchmix.send.proxies import proxy_for
from batchmix.send.stream import AnswerStream
from batchmix.send.waits import quotas, retry_after_s

_MOST_ANSWER_BYTES = 64 * 2**20
_MOST_HEADER_BYTES = 2**17
"""A header line above aiohttp's 8 kB must not cost an answer that was paid for."""
_IN_ONE_WRITE_BYTES = 2**20
"""aiohttp hands bytes to the socket at once, and warns above this size."""
_DESCRIPTORS_BESIDE = 64
"""File descriptors that the process needs besides its connections."""
_TRACE_ID = re.compile(r"\((?:tid|request id):\s*([\w-]+)\)")
_LONGEST_HEADER = 200

# Made once: looking up a plain string would fold its case each time.
_CONTENT_TYPE = istr("Content-Type")
_TRACE = istr("x-aihubmix-request-id")
_REQUEST_ID = istr("X-Request-Id")
_MODEL = istr("X-Aihubmix-Model")
_ROUTED_MODEL = istr("X-Aihubmix-Router-Resolved-Model")

_NO_FAULT: Fault = (None, "", False)


class _TooLarge(Exception):
    """The answer is larger than anybody wants."""


class Client:
    """An async context that holds the connections to one API.

    `post` never raises for what the network or the server does; only a cancellation passes through. aiohttp itself
    repeats nothing but idempotent methods, so a POST leaves once only. The proxy is the environment's; netrc is never
    looked at.
    """

    def __init__(
        self, base_url: str, secrets: Secrets, timeouts: Timeouts, concurrency: int,
        *, most_answer_bytes: int = _MOST_ANSWER_BYTES,
    ) -> None:  # fmt: skip
        self._base_url = base_url
        self._host = urlsplit(base_url).netloc.rpartition("@")[2]
        self._secrets = secrets
        self._total_s = timeouts.total_s
        self._idle_s = timeouts.idle_s
        # Shorter than the total: whatever then takes too long has been sent, and may have been billed.
        self._connect_s = min(timeouts.connect_s, 0.9 * timeouts.total_s)
        self._concurrency = concurrency
        self._most_answer_bytes = most_answer_bytes
        self._urls: dict[str, URL] = {}
        self._proxy = proxy_for(base_url)
        self._headers = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Accept-Encoding": "gzip, deflate",
            "User-Agent": f"batchmix/{__version__}",
            **secrets.headers,
        }
        # With each request only where there is a proxy, because it costs time: aiohttp puts a session's Authorization
        # into what it says to the proxy, and the key is none of the proxy's business.
        self._headers_beside = self._headers if self._proxy else None
        self._shown_again = functools.lru_cache(maxsize=256)(self._shown)
        self._session: aiohttp.ClientSession
        self._deadlines: Deadlines

    async def __aenter__(self) -> Client:
        _raise_descriptor_limit(self._concurrency + _DESCRIPTORS_BESIDE)
        self._deadlines = Deadlines(self._total_s)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0, ttl_dns_cache=300, keepalive_timeout=50, ssl=_tls() if self._base_url[:5] == "https" else True
            ),
            # `Deadlines` keeps the total. Answers are not streamed: their first byte may come as late as the last.
            timeout=aiohttp.ClientTimeout(total=None, connect=self._connect_s, sock_read=None, ceil_threshold=math.inf),
            headers=None if self._proxy else self._headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,  # it would take netrc too, which then collides with our Authorization header
            max_field_size=_MOST_HEADER_BYTES,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._deadlines.close()
        await self._session.close()

    async def post(self, request: Request) -> Exchange:
        """Send a request and return what came of it."""
        url = self._urls.get(request.path)
        if url is None:
            url = self._urls[request.path] = URL(self._base_url + request.path)
        task = asyncio.current_task()
        assert task is not None
        cancels = task.cancelling()
        sent_at_ms = time.time_ns() // 1_000_000
        began = time.perf_counter()
        response: aiohttp.ClientResponse | None = None
        pieces: list[bytes] = []
        stream: AnswerStream | None = None
        fault: Fault = _NO_FAULT
        self._deadlines.start(task)
        try:
            response = await self._ask(url, request.body)
            if request.streamed_choices and response.status == 200:
                stream = AnswerStream(request.streamed_choices, self._most_answer_bytes)
            await (listen(response.content, stream, self._idle_s) if stream else self._read(response, pieces))
        except (aiohttp.ClientError, OSError, ValueError, _TooLarge) as error:
            fault = self._fault(error, response)
        except asyncio.CancelledError:
            if not self._deadlines.is_late(task) or task.uncancel() > cancels:
                raise
            fault = "timeout", f"no whole answer from {self._host} within {self._total_s:g} s", True
        finally:
            self._deadlines.stop(task)
            if response is not None and not response.closed:  # not read to its end
                response.close()
        latency_s = time.perf_counter() - began
        finished_at_ms = sent_at_ms + round(latency_s * 1000)
        if response is None:
            kind, message, maybe_billed = fault
            return Exchange(
                sent_at_ms, finished_at_ms, latency_s, fault=kind, fault_message=message, maybe_billed=maybe_billed
            )
        if stream is not None:
            pieces, fault = ended(stream, fault)
        return self._exchange((sent_at_ms, finished_at_ms, latency_s), response, b"".join(pieces), fault)

    async def _ask(self, url: URL, body: bytes) -> aiohttp.ClientResponse:
        """Send a request and return what is heard up to the end of the headers."""
        data = body if len(body) <= _IN_ONE_WRITE_BYTES else io.BytesIO(body)
        post, headers, proxy = self._session.post, self._headers_beside, self._proxy
        try:
            return await post(url, data=data, headers=headers, allow_redirects=False, proxy=proxy)
        except aiohttp.ClientOSError as error:
            if data is not body or not _is_unsent(error):
                raise
        # The server had closed the connection since its last answer, and that was seen before a byte left.
        return await post(url, data=data, headers=headers, allow_redirects=False, proxy=proxy)

    async def _read(self, response: aiohttp.ClientResponse, pieces: list[bytes]) -> None:
        """Put the body into `pieces`, as far as it comes; raise `_TooLarge` at the limit.

        Not `response.read()`, which throws away what it has when the connection breaks. The connection goes back to
        its pool by itself when the end has come.
        """
        content = response.content
        size = 0
        while True:
            piece = await content.readany()
            pieces.append(piece)
            size += len(piece)
            if size > self._most_answer_bytes:
                pieces.clear()
                raise _TooLarge
            if content.at_eof():
                return

    def _exchange(
        self, when: tuple[int, int, float], response: aiohttp.ClientResponse, body: bytes,
        fault: Fault,
    ) -> Exchange:  # fmt: skip
        kind, message, maybe_billed = fault
        headers = response.headers
        status = response.status
        body = self._secrets.redacted(body)
        if 300 <= status < 400 and kind is None:
            message = self._shown(headers.get("Location", ""))
        served = headers.get(_MODEL) or headers.get(_ROUTED_MODEL)
        return Exchange(
            *when,
            status,
            body,
            self._shown_again(headers.get(_CONTENT_TYPE, "")),
            self._request_id(status, headers, body),
            self._shown_again(served) if served else None,
            retry_after_s(status, headers, time.time()) if status != 200 else None,
            kind,
            message,
            maybe_billed,
            quotas(headers),
        )

    def _request_id(self, status: int, headers: Mapping[str, str], body: bytes) -> str | None:
        found = headers.get(_TRACE)
        if not found and (status != 200 or body.startswith(b'{"error"')):
            match = _TRACE_ID.search(body[:20_000].decode("utf-8", "replace"))
            found = match[1] if match else None
        found = found or headers.get(_REQUEST_ID)
        return self._shown(found) if found else None

    def _shown(self, value: str) -> str:
        """Return a header's value as it may be kept."""
        if not (value.isascii() and value.isprintable()):
            value = "".join(char if char.isprintable() else "?" for char in value)
        return self._secrets.redacted_text(value)[:_LONGEST_HEADER]

    def _fault(self, error: Exception, response: aiohttp.ClientResponse | None) -> Fault:
        """Return what went wrong, in words.

        Never from the error's `repr`: aiohttp puts the request's headers, and so the key, into it.
        """
        host = self._host
        if isinstance(error, _TooLarge):
            return "too_large", f"the answer from {host} is larger than {_size(self._most_answer_bytes)}", True
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            return "timeout", f"no connection to {host} within {self._connect_s:g} s", False
        if isinstance(error, aiohttp.ClientSSLError):
            return "connection", f"no secure connection to {host}: {_reason(error)}", False
        if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ClientHttpProxyError):
            return "connection", f"can't connect to {host}: {_reason(error)}", False
        if isinstance(error, aiohttp.InvalidURL | UnicodeError):
            return "connection", f"{host} is no address", False
        if response is not None:  # a refusal is not billed, whole or not
            return "cut_off", f"{host} broke off in the middle of its answer", not 400 <= response.status < 500
        if isinstance(error, aiohttp.ClientResponseError):
            return "bad_answer", f"{host} answered something that is not HTTP", True
        return "connection", f"{host} closed the connection without an answer", not _is_unsent(error)


def _is_unsent(error: Exception) -> bool:
    """Return whether aiohttp refused to write to a closing connection, so that no byte has left.

    aiohttp has no exception of its own for this; should its words change, the request counts as sent. Headers and
    body leave in one write; a body that does not is not asked about here.
    """
    cause = error.__cause__
    return isinstance(cause, aiohttp.ClientConnectionResetError) and "closing transport" in str(cause)


def _reason(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"the proxy answered {error.status}"
    cause = getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"{cause.verify_message}; if you trust it, name its authority's file in SSL_CERT_FILE"
    if isinstance(cause, ssl.SSLError):
        return (cause.reason or type(cause).__name__).replace("_", " ").lower()
    if isinstance(cause, OSError) and (cause.errno or 0) > 0:
        return os.strerror(cause.errno or 0)
    return str(getattr(cause, "strerror", None) or type(cause).__name__)


def _size(count: int) -> str:
    return f"{count >> 20} MB" if count >= 2**20 else f"{count} bytes"


def _tls() -> ssl.SSLContext:
    """Return the system's defaults, `SSL_CERT_FILE` and `SSL_CERT_DIR` among them."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def _raise_descriptor_limit(needed: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        wanted = needed if hard == resource.RLIM_INFINITY else hard
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
