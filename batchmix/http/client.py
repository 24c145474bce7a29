"""The wire: one request out, one `Exchange` back, whatever happened."""

from __future__ import annotations

import asyncio
import functools
import re
import ssl
import time
from collections.abc import Mapping
from types import TracebackType
from urllib.parse import urlsplit

import aiohttp
from aiohttp.http import HttpProcessingError
from multidict import istr

from batchmix import __version__
from batchmix.http.connect_errors import proxy_said, reason, tls_fault
from batchmix.http.connection import Reply, TooEarly, Unasked
from batchmix.http.connections import CancelledUnsent, Connections, Silent
from batchmix.http.deadlines import Deadlines
from batchmix.http.descriptors import connection_room
from batchmix.http.parser import SPEAKS_TLS, first_object
from batchmix.http.proxies import proxy_for
from batchmix.http.stream_reader import Fault, ended, listen
from batchmix.job import Timeouts
from batchmix.records import Exchange, Request
from batchmix.redact import Secrets
from batchmix.responses.rate_limits import quotas, retry_after_s
from batchmix.responses.stream import AnswerStream

_MOST_ANSWER_BYTES = 64 * 2**20
_TRACE_ID = re.compile(r"\((?:tid|request id):\s*([\w-]+)\)")
_ENCODING = re.compile(r"decode content-encoding: ([\w-]+)")
"""Said by aiohttp of what is packed in a way that it can't unpack, or was not packed so at all."""
_LONGEST_HEADER = 200
_CHOICES_WITHIN = 400
"""So many bytes tell whether an answer may be a refusal instead."""

# Made once: looking up a plain string would fold its case each time.
_CONTENT_TYPE = istr("Content-Type")
_TRACE = istr("x-aihubmix-request-id")
_REQUEST_ID = istr("X-Request-Id")
_MODEL = istr("X-Aihubmix-Model")
_ROUTED_MODEL = istr("X-Aihubmix-Router-Resolved-Model")

_BREAKS = (aiohttp.ClientError, HttpProcessingError, Silent, Unasked, TooEarly, OSError, ValueError)
_NO_FAULT: Fault = (None, "", False)


class _TooLarge(Exception):
    """The answer is larger than anybody wants."""


class Client:
    """An async context that holds the connections to one API.

    `post` never raises for what the network or the server does; only a cancellation passes through. A request leaves
    once only. The proxy is the environment's; netrc is never looked at.
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
        self._connect_s = timeouts.connect_s
        self._concurrency = concurrency
        self._most_answer_bytes = most_answer_bytes
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Accept-Encoding": "gzip, deflate",
            "User-Agent": f"batchmix/{__version__}",
            **secrets.headers,
        }
        self._tls = _tls() if base_url.startswith("https") else None
        proxy = proxy_for(base_url)
        self._proxy = f"{proxy.host}:{proxy.port}" if proxy else ""
        self._has_heard = False
        self._connections = Connections(headers, proxy=proxy, tls=self._tls, connect_s=self._connect_s)
        self._shown_again = functools.lru_cache(maxsize=256)(self._shown)
        self._deadlines: Deadlines
        self.room = concurrency
        """How many connections there may be at once."""

    async def __aenter__(self) -> Client:
        self.room = connection_room(self._concurrency)
        self._deadlines = Deadlines(self._total_s)
        await self._connections.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._deadlines.close()
        await self._connections.__aexit__(kind, error, at)

    @property
    def surplus_answers(self) -> int:
        """How often something came that nobody had asked for; no request was given it."""
        return self._connections.surplus_answers

    async def post(self, request: Request) -> Exchange:
        """Send a request and return what came of it."""
        task = asyncio.current_task()
        assert task is not None
        cancels = task.cancelling()
        sent_at_ms = time.time_ns() // 1_000_000
        began = time.perf_counter()
        reply: Reply | None = None
        pieces: list[bytes] = []
        stream: AnswerStream | None = None
        fault: Fault = _NO_FAULT
        self._deadlines.start(task)
        try:
            # What is not streamed says nothing until it is whole, so that its first byte has all the time there is.
            first_byte_s = self._idle_s if request.streamed_choices else None
            reply = await self._connections.post(self._base_url + request.path, request.body, first_byte_s)
            if request.streamed_choices and reply.status == 200:
                stream = AnswerStream(request.streamed_choices, self._most_answer_bytes)
                await listen(reply.content, stream, self._idle_s)
            elif not self._takes_whole(reply, pieces):
                await self._read(reply, pieces)
        except (*_BREAKS, _TooLarge) as error:
            fault = self._fault(error, reply)
            if reply is not None and not isinstance(error, _TooLarge):
                (pieces.append if stream is None else stream.feed)(reply.unread())
        except asyncio.CancelledError as error:
            if not self._deadlines.is_late(task) or task.uncancel() > cancels:
                raise
            fault = self._late(is_sent=not isinstance(error, CancelledUnsent))
        finally:
            self._deadlines.stop(task)
            if reply is not None:
                reply.finish()
        latency_s = time.perf_counter() - began
        when = sent_at_ms, sent_at_ms + round(latency_s * 1000), latency_s
        if reply is None:
            return Exchange(*when, fault=fault[0], fault_message=fault[1], maybe_billed=fault[2])
        if stream is not None:
            pieces, fault = ended(stream, fault)
        body = b"".join(pieces) if reply.is_framed else first_object(b"".join(pieces))
        return self._exchange(when, reply, body, fault)

    def _late(self, *, is_sent: bool) -> Fault:
        missing = "whole answer from" if is_sent else "connection to"
        return "timeout", f"no {missing} {self._host} within {self._total_s:g} s", is_sent

    def _takes_whole(self, reply: Reply, pieces: list[bytes]) -> bool:
        """Put the body into `pieces` where all of it has come, and return whether it has; raise `_TooLarge`."""
        body = reply.whole()
        if body is None:
            return False
        if len(body) > self._most_answer_bytes:
            raise _TooLarge
        pieces.append(body)
        return True

    async def _read(self, reply: Reply, pieces: list[bytes]) -> None:
        """Put the body into `pieces`, as far as it comes; raise `_TooLarge` at the limit."""
        content = reply.content
        size = 0
        while True:
            pieces.append(await content.readany())
            size += len(pieces[-1])
            if size > self._most_answer_bytes:
                pieces.clear()
                raise _TooLarge
            if content.at_eof():
                return

    def _exchange(
        self, when: tuple[int, int, float], reply: Reply, body: bytes,
        fault: Fault,
    ) -> Exchange:  # fmt: skip
        kind, message, maybe_billed = fault
        headers = reply.headers
        status = reply.status
        refusal = status != 200 or body.find(b'"choices"', 0, _CHOICES_WITHIN) < 0
        body = self._secrets.redacted(body, refusal=refusal)
        self._has_heard = True
        if status >= 300 and kind is None:
            if headers.get("X-Squid-Error"):
                kind, message = "proxy", self._shown(proxy_said(self._proxy, status, headers))
                maybe_billed = "ERR_READ" in message or "ERR_ZERO" in message  # the request had gone on from there
            elif status < 400:
                message = self._shown(headers.get("Location", ""))
        served = headers.get(_MODEL) or headers.get(_ROUTED_MODEL)
        return Exchange(
            *when,
            status,
            body,
            self._shown_again(headers.get(_CONTENT_TYPE, "")),
            self._request_id(status, headers, body),
            self._shown_again(served) if served else None,
            None if status == 200 else retry_after_s(status, headers, time.time()),
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

    def _fault(self, error: Exception, reply: Reply | None) -> Fault:
        """Return what went wrong, in words.

        Never from the error's `repr`: aiohttp puts the request's headers, and so the key, into it.
        """
        host = self._host
        if isinstance(error, _TooLarge):
            return "too_large", f"the answer from {host} is larger than {_size(self._most_answer_bytes)}", True
        if isinstance(error, Silent):
            return "timeout", f"nothing came from {host} for {self._idle_s:g} s", True
        if isinstance(error, Unasked):
            return "connection", f"{host} hung up, or spoke, before anything was asked of it", False
        if isinstance(error, TooEarly):
            return "connection", f"what came from {host} had left before the request was there: it is another's", True
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            return "timeout", f"no connection to {host} within {self._connect_s:g} s", False
        if isinstance(error, aiohttp.ClientSSLError):
            return tls_fault(host, error)
        if isinstance(error, aiohttp.ClientProxyConnectionError):
            return "connection", f"can't connect to the proxy {self._proxy}: {reason(error)}", False
        if isinstance(error, aiohttp.ClientHttpProxyError):
            return "proxy", f"{proxy_said(self._proxy, error.status, error.headers)}, on the way to {host}", False
        if isinstance(error, aiohttp.ClientConnectorError):
            return "connection", f"can't connect to {host}: {reason(error)}", False
        if isinstance(error, aiohttp.InvalidURL | UnicodeError):
            return "connection", f"{host} is no address", False
        is_billed = reply is None or not 400 <= reply.status < 500  # a refusal is not, whole or not
        if encoding := _ENCODING.search(str(error)):
            return "bad_answer", f"{host} says that it answers in {encoding[1]}, which can't be read", is_billed
        if reply is not None:
            return "cut_off", f"{host} broke off in the middle of its answer", is_billed
        if isinstance(error, HttpProcessingError):
            if error.message == SPEAKS_TLS:
                return "tls", f"{host} speaks TLS: base_url must begin with https://", False
            return "bad_answer", f"{host} answered something that is not HTTP", True
        hint = "" if self._tls or self._has_heard else "; if it speaks TLS, base_url must begin with https://"
        return "connection", f"{host} closed the connection without an answer{hint}", True


def _size(count: int) -> str:
    return f"{count >> 20} MB" if count >= 2**20 else f"{count} bytes"


def _tls() -> ssl.SSLContext:
    """Return the system's defaults, `SSL_CERT_FILE` and `SSL_CERT_DIR` among them."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
