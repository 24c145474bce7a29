"""The wire: one request out, one `Exchange` back, whatever happened. The only owner of aiohttp's client."""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import math
import os
import re
import resource
import ssl
import time
import urllib.request
from collections.abc import Mapping
from types import TracebackType
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from batchmix import __version__
from batchmix.job import Timeouts
from batchmix.records import Exchange, Request
from batchmix.redact import Secrets

_MOST_ANSWER_BYTES = 64 * 2**20
_TRACE_ID = re.compile(r"\((?:tid|request id):\s*([\w-]+)\)")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DESCRIPTORS_BESIDE = 64
"""File descriptors that the process needs besides its connections."""


class _TooLarge(Exception):
    """The answer is larger than anybody wants."""


class Client:
    """An async context that holds the connections to one API.

    `post` never raises for what the network or the server does; only a cancellation passes through. aiohttp itself
    sends a POST once only: it repeats nothing but idempotent methods.
    """

    def __init__(
        self, base_url: str, secrets: Secrets, timeouts: Timeouts, concurrency: int,
        *, most_answer_bytes: int = _MOST_ANSWER_BYTES,
    ) -> None:  # fmt: skip
        self._base_url = base_url
        self._host = urlsplit(base_url).netloc
        self._secrets = secrets
        self._total_s = timeouts.total_s
        self._connect_s = timeouts.connect_s
        self._concurrency = concurrency
        self._most_answer_bytes = most_answer_bytes
        self._urls: dict[str, URL] = {}
        self._proxy = _proxy(base_url)
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> Client:
        _raise_descriptor_limit(self._concurrency + _DESCRIPTORS_BESIDE)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=300, keepalive_timeout=30),
            # Answers are not streamed, so the first byte may come as late as the last one.
            timeout=aiohttp.ClientTimeout(total=self._total_s, sock_connect=self._connect_s, sock_read=None),
            headers={
                "Content-Type": "application/json",
                "Accept": "application/json",
                "Accept-Encoding": "gzip, deflate",
                "User-Agent": f"batchmix/{__version__}",
                **self._secrets.headers,
            },
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,  # it would take netrc too, which then collides with our Authorization header
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self._session.close()

    async def post(self, request: Request) -> Exchange:
        """Send a request and return what came of it."""
        url = self._urls.get(request.path)
        if url is None:
            url = self._urls[request.path] = URL(self._base_url + request.path)
        sent_at_ms = time.time_ns() // 1_000_000
        began = time.perf_counter()
        response: aiohttp.ClientResponse | None = None
        body = b""
        fault: tuple[str, str, bool] | None = None
        try:
            async with self._session.post(url, data=request.body, allow_redirects=False, proxy=self._proxy) as response:
                body = await self._body(response)
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError, _TooLarge) as error:
            fault = self._fault(error, heard=response is not None)
        latency_s = time.perf_counter() - began
        return self._exchange(sent_at_ms, latency_s, response, body, fault)

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        """Return the whole body, or raise `_TooLarge`; a small body of known length costs one await."""
        length = response.content_length
        if length is not None and length <= self._most_answer_bytes and "Content-Encoding" not in response.headers:
            return await response.read()
        pieces, size = [], 0
        async for piece in response.content.iter_any():
            pieces.append(piece)
            size += len(piece)
            if size > self._most_answer_bytes:
                raise _TooLarge
        return b"".join(pieces)

    def _exchange(
        self, sent_at_ms: int, latency_s: float, response: aiohttp.ClientResponse | None, body: bytes,
        fault: tuple[str, str, bool] | None,
    ) -> Exchange:  # fmt: skip
        kind, message, maybe_billed = fault or (None, "", False)
        finished_at_ms = sent_at_ms + round(latency_s * 1000)
        if response is None:
            return Exchange(
                sent_at_ms, finished_at_ms, latency_s, fault=kind, fault_message=message, maybe_billed=maybe_billed
            )
        headers = response.headers
        status = response.status
        body = self._secrets.redacted(body)
        if 300 <= status < 400:
            message = self._shown(headers.get("Location", ""))
        return Exchange(
            sent_at_ms,
            finished_at_ms,
            latency_s,
            status,
            body,
            self._shown(headers.get("Content-Type", "")),
            self._request_id(status, headers, body),
            self._shown(headers.get("X-Aihubmix-Model") or headers.get("X-Aihubmix-Router-Resolved-Model") or "")
            or None,
            retry_after_s(status, headers, time.time()) if status != 200 else None,
            kind,
            message,
            maybe_billed,
        )

    def _request_id(self, status: int, headers: Mapping[str, str], body: bytes) -> str | None:
        found = headers.get("x-aihubmix-request-id")
        if found is None and status != 200:
            match = _TRACE_ID.search(body[:20_000].decode("utf-8", "replace"))
            found = match[1] if match else None
        return self._shown(found or headers.get("X-Request-Id") or "") or None

    def _shown(self, value: str) -> str:
        """Return a header's value as it may be kept."""
        if value.isascii() and value.isprintable() and len(value) <= 200:
            return self._secrets.redacted_text(value)
        return self._secrets.redacted_text("".join(char if char.isprintable() else "?" for char in value))[:200]

    def _fault(self, error: Exception, *, heard: bool) -> tuple[str, str, bool]:
        """Return kind and message of what went wrong, and whether the request may have been billed.

        Never from the error's `repr`: aiohttp puts the request's headers, and so the key, into it.
        """
        host = self._host
        if isinstance(error, _TooLarge):
            return "too_large", f"the answer is larger than {self._most_answer_bytes >> 20} MB", True
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            return "timeout", f"no connection to {host} within {self._connect_s:g} s", False
        if isinstance(error, asyncio.TimeoutError):
            return "timeout", f"no whole answer from {host} within {self._total_s:g} s", True
        if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError | ssl.SSLError):
            return "connection", f"no secure connection to {host}: {_reason(error)}", False
        if isinstance(
            error, aiohttp.ClientConnectorError | aiohttp.ClientProxyConnectionError | aiohttp.ClientHttpProxyError
        ):
            return "connection", f"can't connect to {host}: {_reason(error)}", False
        if isinstance(error, aiohttp.InvalidURL):
            return "connection", f"{host} is no address", False
        if heard or isinstance(error, aiohttp.ClientPayloadError):
            return "cut_off", f"{host} broke off in the middle of its answer", True
        if isinstance(error, aiohttp.ClientResponseError):
            return "bad_answer", f"{host} answered something that is not HTTP", True
        return "connection", f"{host} closed the connection without an answer", True


def _reason(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"the proxy answered {error.status}"
    cause = getattr(error, "os_error", None) or getattr(error, "certificate_error", None) or error
    if isinstance(cause, OSError) and (cause.errno or 0) > 0:
        return os.strerror(cause.errno or 0)
    for name in ("verify_message", "strerror", "reason"):
        if getattr(cause, name, None):
            return str(getattr(cause, name))
    return type(cause).__name__


def _proxy(base_url: str) -> str | None:
    """Return the environment's proxy for this address; netrc is never looked at."""
    parts = urlsplit(base_url)
    if not parts.hostname or urllib.request.proxy_bypass(parts.hostname):
        return None
    proxies = urllib.request.getproxies()
    return proxies.get(parts.scheme) or proxies.get("all")


def _raise_descriptor_limit(needed: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        wanted = needed if hard == resource.RLIM_INFINITY else min(hard, max(needed, soft))
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def retry_after_s(status: int, headers: Mapping[str, str], now: float) -> float | None:
    """Return how long the provider asks to wait, or None where it does not say; `now` is Unix time.

    `retry-after-ms`, `Retry-After` as seconds or date (RFC 9110, 10.2.3), LiteLLM's `llm_provider-retry-after`; on a
    429 or 503 also `x-ratelimit-reset-*` of a budget with nothing remaining: Go durations, or Azure's whole seconds.
    """
    found = _seconds(headers.get("retry-after-ms"), 0.001)
    for name in ("Retry-After", "llm_provider-retry-after"):
        value = headers.get(name)
        if found is None and value is not None:
            found = _seconds(value)
            if found is None:
                found = _until(value, now)
    if found is None and status in {429, 503}:
        resets = [
            _go_duration(headers.get(f"x-ratelimit-reset-{budget}"))
            for budget in ("requests", "tokens")
            if headers.get(f"x-ratelimit-remaining-{budget}") == "0"
        ]
        found = max((reset for reset in resets if reset is not None), default=None)
    return found


def _seconds(value: str | None, unit: float = 1.0) -> float | None:
    try:
        seconds = float(value or "") * unit
    except ValueError:
        return None
    return seconds if seconds >= 0 and math.isfinite(seconds) else None


def _until(value: str, now: float) -> float | None:
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return None


def _go_duration(value: str | None) -> float | None:
    plain = _seconds(value)
    if plain is not None or value is None:
        return plain
    pieces = _DURATION.findall(value)
    if not pieces or "".join(number + unit for number, unit in pieces) != value:
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in pieces)
