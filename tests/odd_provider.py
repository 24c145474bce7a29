"""A server that sends the bytes it is told to."""

from __future__ import annotations

import itertools
import re
import socketserver
from collections.abc import Callable

from tests.wire import GOOD, reply

Answer = Callable[[int, int, int], bytes | None]
"""From the row, how often it was asked, and how often its connection; None: the connection is closed."""


class Provider(socketserver.ThreadingTCPServer):
    """Answers each row as it is told to."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.answer: Answer = lambda row, asked, kept: reply(200, GOOD)
        self.closes = False
        """After each answer."""
        self.asked: list[int] = []


class _Connection(socketserver.StreamRequestHandler):
    server: Provider

    def handle(self) -> None:
        for kept in itertools.count(1):
            head = b""
            while (line := self.rfile.readline()) not in {b"\r\n", b""}:
                head += line.lower()
            length = re.search(rb"content-length: (\d+)", head)
            if not length:
                return
            row = re.search(r"row (\d+)", self.rfile.read(int(length[1])).decode())
            assert row
            self.server.asked.append(int(row[1]))
            answer = self.server.answer(int(row[1]), self.server.asked.count(int(row[1])), kept)
            if answer is None:
                return
            self.wfile.write(answer)
            if self.server.closes:
                return
