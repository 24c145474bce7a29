"""A server that sends the bytes that a test sets. It reads just enough HTTP to find the end of a request."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from batchmix.http.client import Client
from batchmix.job import Timeouts
from batchmix.records import Exchange, Failure, Request
from batchmix.redact import Secrets

KEY = "sk-secret/0123456789"
REQUEST = Request(0, "m", 0, "h", "/chat/completions", b'{"model":"m"}', 3, None)
GOOD: dict[str, Any] = {
    "id": "x",
    "model": "gpt-4o-mini-2024",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Paris"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6},
}
PAGE = b"<!DOCTYPE html>\n<html><head><title>AiHubMix</title></head></html>"
# Used by these tests only. Made with `openssl ca -startdate 20200101000000Z -enddate 21200101000000Z`, for 127.0.0.1.
CERTIFICATE = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgZXSpkErD5g8g2LzW
0/NlxmUxoZOHZ10tHlAN1ILEwgihRANCAASW72GoL7o54s54GkUmdSESTyaSP0Vd
3d3Yhf0OhpYs2iKpaNjXUw7Cknzt7k1OLaepada7/cmGT5ZKXlPr1w69
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBeDCCAR2gAwIBAgIUIMhvN2YRpiuWkyjg/pI4oqnoTYgwCgYIKoZIzj0EAwIw
GDEWMBQGA1UEAwwNYmF0Y2htaXggdGVzdDAgFw0yMDAxMDEwMDAwMDBaGA8yMTIw
MDEwMTAwMDAwMFowGDEWMBQGA1UEAwwNYmF0Y2htaXggdGVzdDBZMBMGByqGSM49
AgEGCCqGSM49AwEHA0IABJbvYagvujnizngaRSZ1IRJPJpI/RV3d3diF/Q6Gliza
Iqlo2NdTDsKSfO3uTU4tp6lp1rv9yYZPlkpeU+vXDr2jQzBBMA8GA1UdEQQIMAaH
BH8AAAEwDwYDVR0TAQH/BAUwAwEB/zAdBgNVHQ4EFgQUvv76OCDS90cka7hxq5di
TeE7ssMwCgYIKoZIzj0EAwIDSQAwRgIhAITWibw/zTSNZx1w0DsiTNyrGQP15kPL
W9UYf9AK1pb2AiEAokEAiWcSZjSLRabL2Z6cJRuw0cKGE/ioAi4u71QNzQk=
-----END CERTIFICATE-----
"""

# Made in the same way; it expired in February 2020.
EXPIRED = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQglqcpN6ixsvLDEo9Z
DZ2JnyyrmwVW+969HSwUBhpwR7GhRANCAARVjkBz/qI2H+/V93ISx2T/tADs/Qao
TlRPJNKlx+L/WJYjldwiRx5BTAB3Nl1MC315s5boUglNzJRiUBJpF/Hu
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBRTCB7KADAgECAgIQAjAKBggqhkjOPQQDAjASMRAwDgYDVQQDDAdleHBpcmVk
MB4XDTIwMDEwMTAwMDAwMFoXDTIwMDIwMTAwMDAwMFowEjEQMA4GA1UEAwwHZXhw
aXJlZDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABFWOQHP+ojYf79X3chLHZP+0
AOz9BqhOVE8k0qXH4v9YliOV3CJHHkFMAHc2XUwLfXmzluhSCU3MlGJQEmkX8e6j
MjAwMA8GA1UdEQQIMAaHBH8AAAEwHQYDVR0OBBYEFHpL7E5hiQJ/fX7NwAhmK5VJ
GOXpMAoGCCqGSM49BAMCA0gAMEUCID4rcVedczXh8/w3pnWC/2BjyT0cnoRYdNQQ
qYYmGrZnAiEA+NMwucOOgy2/3rf6O/VwEjzzvoMbcPgmEiQt+pdxlWo=
-----END CERTIFICATE-----
"""


def reply(status: int, body: object = b"", *headers: str, kind: str = "application/json") -> bytes:
    """Return an HTTP reply of known length."""
    data = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
    head = [f"HTTP/1.1 {status} X", f"Content-Type: {kind}", f"Content-Length: {len(data)}", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + data


def error(message: str, code: object = None, **more: object) -> dict[str, object]:
    """Return an error body as AiHubMix sends it."""
    return {"error": {"message": f"{message} (tid: 2026112300000001)", "param": "", "code": code, **more}}


def page(status: int) -> bytes:
    """Return a web page."""
    return reply(status, PAGE, kind="text/html; charset=utf-8")


def follows(failure: Failure) -> str:
    """Return the action of a failure as short text, such as `retry 3, at first stop_run`."""
    text = failure.action.value + (f" {failure.attempts}" if failure.attempts else "")
    text += ", between answers pause" if failure.may_be_throttling else ""
    return f"{text}, at first {failure.early_action.value}" if failure.early_action else text


@dataclass(frozen=True)
class Closing:
    """A reply after which the connection is closed, by an RST if `reset`."""

    data: bytes
    reset: bool = False


@dataclass(frozen=True)
class Early:
    """A reply that is sent before the body of the request is read. Then the connection is closed."""

    data: bytes


Reply = bytes | Closing | Early | None
"""What the server sends for a request. With None, the request never gets a reply."""


class Wire:
    """A server that sends `replies` in order, and repeats the last one."""

    def __init__(self) -> None:
        self.replies: list[Reply] = [reply(200, GOOD)]
        self.requests: list[bytes] = []
        self.connections = 0
        self.address = ""
        self._tasks: set[asyncio.Task[Any]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"http://{self.address}/v1"

    @contextlib.asynccontextmanager
    async def listening(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[Wire]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls, backlog=512)
        self.address = "127.0.0.1:{1}".format(*server.sockets[0].getsockname())
        try:
            yield self
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        self.connections += 1
        self._writers.add(writer)
        try:
            while await self._answer(reader, writer):
                pass
        except (asyncio.IncompleteReadError, OSError, asyncio.CancelledError):
            pass
        finally:
            self._writers.discard(writer)
            writer.transport.abort() if task.cancelling() else writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        fields = dict(line.split(b": ", 1) for line in head.lower().split(b"\r\n")[1:] if line)
        if isinstance(early := self.replies[0], Early):
            writer.write(early.data)
            writer.write_eof()
            await reader.read()
            return False
        body = await reader.readexactly(int(fields.get(b"content-length", b"0")))
        self.requests.append(head + body)
        found = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if found is None:
            await asyncio.Event().wait()
        assert isinstance(found, bytes | Closing)
        writer.write(found.data if isinstance(found, Closing) else found)
        await writer.drain()
        if isinstance(found, Closing) and found.reset:
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        return not isinstance(found, Closing)

    def send_unrequested(self, data: bytes) -> None:
        """Send bytes over each open connection, without a request."""
        for writer in self._writers:
            writer.write(data)

    @property
    def is_connected(self) -> bool:
        """Whether any connection is open."""
        return bool(self._writers)

    def hang_up(self) -> None:
        """Close all connections within this turn of the event loop."""
        for writer in self._writers:
            writer.get_extra_info("socket").shutdown(socket.SHUT_RDWR)

    def client(self, *, max_answer_bytes: int = 100_000, **timeouts: float) -> Client:
        return Client(self.url, Secrets(KEY), Timeouts(**timeouts), 4, max_answer_bytes=max_answer_bytes)

    async def exchange(self, *replies: Reply, **timeouts: float) -> Exchange:
        """Send one request, which gets these replies, and return the exchange."""
        if replies:
            self.replies = list(replies)
        async with self.client(**timeouts) as client:
            return await client.post(REQUEST)


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    """A server that sends the bytes that a test sets."""
    async with Wire().listening() as found:
        yield found


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A file with a certificate that no system trusts, and its key."""
    path = tmp_path / "certificate.pem"
    path.write_text(CERTIFICATE)
    return path
