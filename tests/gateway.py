"""A server with the gateway's catalogue that also acts as the proxy for the gateway's own address."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ADDRESS = "http://aihubmix.com/v1"
"""Reached through the proxy that `serving` starts, so that nothing leaves this machine."""


def model(name: str, **fields: Any) -> dict[str, Any]:
    """Return one model as the catalogue writes it."""
    return {
        "model_id": name,
        "context_length": 128000,
        "max_output": 16384,
        "pricing": {"input": 0.15, "output": 0.6, "cache_read": 0.075},
        "retire_stage": None,
        "successor_model": None,
        **fields,
    }


class Gateway:
    """What the server sends, and the requests that it received."""

    def __init__(self) -> None:
        self.body = b""
        self.status = 200
        self.etag = '"one"'
        self.gets: list[tuple[str, str | None]] = []
        """Path and `If-None-Match` of each GET for the catalogue."""
        self.posts: list[bytes] = []
        self.raw: list[bytes] = []
        """Bodies of the next answers, each sent once; after them, answers are built from the fields below."""
        self.message: dict[str, Any] = {"content": "yes"}
        self.usage: Any = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
        self.billed: str | None = None
        self.url = ""
        self.limit_usd: float | None = None
        """The hard limit that the account reports; None: it reports none (404)."""
        self.keys: set[str | None] = set()
        """The `Authorization` headers of requests for the balance."""
        self.offer(model("gpt-4o-mini"), model("gpt-4o", pricing={"input": 2.5, "output": 10}))

    def offer(self, *models: dict[str, Any]) -> None:
        self.body = json.dumps({"data": models, "message": "", "success": True}).encode()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    gateway: Gateway

    def do_GET(self) -> None:
        gateway = self.gateway
        if "/dashboard/billing/" in self.path:
            gateway.keys.add(self.headers["Authorization"])
            billing = {"hard_limit_usd": gateway.limit_usd} if "subscription" in self.path else {"total_usage": 150.0}
            self._reply(404 if gateway.limit_usd is None else 200, json.dumps(billing).encode())
            return
        seen = self.headers["If-None-Match"]
        gateway.gets.append((self.path, seen))
        if seen == gateway.etag and gateway.status == 200:
            self._reply(304, b"")
        else:
            self._reply(gateway.status, gateway.body, ETag=gateway.etag)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.gateway.posts.append(body)
        if self.gateway.raw:
            found = self.gateway.raw.pop(0)
            self._reply(400 if found.startswith(b'{"error"') else 200, found)
            return
        answer = {
            "model": "some-name-that-changes",
            "choices": [{"message": self.gateway.message, "finish_reason": "stop"}],
            "usage": self.gateway.usage,
        }
        billed = {"X-Aihubmix-Model": self.gateway.billed} if self.gateway.billed else {}
        if self.path.endswith("/embeddings"):
            answer |= {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}]}
        self._reply(200, json.dumps(answer).encode(), **billed)

    def _reply(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def serving() -> Iterator[Gateway]:
    """Serve a gateway on loopback; `url` is its address."""
    gateway = Gateway()
    handler = type("Handler", (_Handler,), {"gateway": gateway})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        gateway.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield gateway
        finally:
            server.shutdown()
            thread.join()
