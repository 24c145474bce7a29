"""A server that answers each POST after a random while: python -m tests.benchmarks.waiting LOW-HIGH.

It parses no more than where a request ends, so that it can answer several times as many as any client in Python asks.
Prints its base URL, then serves until it is killed.
"""

from __future__ import annotations

import asyncio
import random
import resource
import sys
from typing import cast

from tests.benchmarks.servers import ANSWER

RESPONSE = (
    f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(ANSWER)}\r\n\r\n{ANSWER}".encode()
)


class Waiting(asyncio.Protocol):
    """One connection: finds the end of each request, answers later."""

    def __init__(self, low_s: float, high_s: float) -> None:
        self._low_s, self._high_s = low_s, high_s
        self._rest = b""
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are none by inheritance

    def data_received(self, data: bytes) -> None:
        self._rest += data
        while (end := _request_end(self._rest)) is not None:
            self._rest = self._rest[end:]
            self._loop.call_later(random.uniform(self._low_s, self._high_s), self._answer)

    def _answer(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(RESPONSE)


def _request_end(received: bytes) -> int | None:
    """Return where the first request ends, None where it is not there as a whole."""
    head = received.find(b"\r\n\r\n")
    if head < 0:
        return None
    length = received[:head].lower().partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0]
    end = head + 4 + int(length or 0)
    return end if len(received) >= end else None


async def serve(low_s: float, high_s: float) -> asyncio.Server:
    """Listen on a free port of loopback."""
    loop = asyncio.get_running_loop()
    return await loop.create_server(lambda: Waiting(low_s, high_s), "127.0.0.1", 0, backlog=4096)


async def _main(low_s: float, high_s: float) -> None:
    server = await serve(low_s, high_s)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    import uvloop

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    low, _, high = sys.argv[1].partition("-")
    uvloop.run(_main(float(low), float(high or low)))
