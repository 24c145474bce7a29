"""A server that answers each row with the bytes that a test sets."""

from __future__ import annotations

import itertools
import re
import socketserver
import threading
from collections.abc import Callable

from tests.wire import GOOD, reply

Answer = Callable[[int, int, int], bytes | None]
"""A function that returns the bytes of a reply, or None to close the connection.

Its arguments are the row, the number of the row's attempt, and the number of the request on its connection. Both numbers
count from 1.
"""


class Provider(socketserver.ThreadingTCPServer):
    """A provider that answers each row with the bytes that `answer` returns."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.answer: Answer = lambda row, attempt, nth: reply(200, GOOD)
        self.closes = False
        """Whether the provider closes the connection after each answer."""
        self.rows_received: list[int] = []
        self.bodies_received: list[str] = []
        self.current = threading.local()
        """Its attribute `body` is the body of the request that `answer` is called for."""


class _Connection(socketserver.StreamRequestHandler):
    server: Provider

    def handle(self) -> None:
        for nth in itertools.count(1):
            head = b""
            while (line := self.rfile.readline()) not in {b"\r\n", b""}:
                head += line.lower()
            length = re.search(rb"content-length: (\d+)", head)
            if not length:
                return
            body = self.rfile.read(int(length[1])).decode()
            row = re.search(r"row (\d+)", body)
            assert row
            self.server.bodies_received.append(body)
            self.server.current.body = body
            self.server.rows_received.append(int(row[1]))
            answer = self.server.answer(int(row[1]), self.server.rows_received.count(int(row[1])), nth)
            if answer is None:
                return
            self.wfile.write(answer)
            if self.server.closes:
                return
