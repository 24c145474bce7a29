"""How long batchmix takes to start: its help, and the first request of a small job, beside what it must import."""

from __future__ import annotations

import contextlib
import http.server
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.servers import ANSWER
from tests.benchmarks.speed import batchmix, on_core
from tests.benchmarks.table import Bound, Line
from tests.killing import write_rows

HELP, FIRST = Bound("≤", 2), Bound("≤", 1.5)


def measure(rounds: int) -> Iterator[Line]:
    """Measure the help and the first request in interleaved rounds, after one that doesn't count."""
    taken: list[tuple[float, float, float, float]] = []
    with tempfile.TemporaryDirectory() as root, _first_post() as listener:
        rows, environ = Path(root, "rows.jsonl"), _compiled(Path(root, "compiled"))
        write_rows(rows, 2)
        for _ in range(rounds + 1):
            taken.append(
                (
                    _python_s(environ, "-m", "batchmix", "--help"),
                    _python_s(environ, "-c", "import click"),
                    _first_request_s(environ, listener, rows),
                    _python_s(environ, "-c", "import aiohttp, pyarrow"),
                )
            )
    shown, click, first, libraries = zip(*taken[1:], strict=True)  # the first one compiled, and filled the page cache
    yield _line("batchmix --help", shown, "import click", click, HELP)
    yield _line("first request of a job of two rows", first, "import aiohttp, pyarrow", libraries, FIRST)


def _line(what: str, mine: tuple[float, ...], beside: str, others: tuple[float, ...], bound: Bound) -> Line:
    ratio = statistics.median(a / b for a, b in zip(mine, others, strict=True))
    return Line(what, statistics.median(mine), " s", beside, statistics.median(others), ratio, bound)


def _compiled(folder: Path) -> dict[str, str]:
    """Return an environment in which all modules are compiled once, into a folder, as they are where pip installed them."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**environ, "PYTHONPYCACHEPREFIX": str(folder)}


def _python_s(environ: dict[str, str], *call: str) -> float:
    began = time.perf_counter()
    subprocess.run([*on_core(), sys.executable, *call], stdout=subprocess.DEVNULL, check=True, env=environ)
    return time.perf_counter() - began


class _Listener(http.server.ThreadingHTTPServer):
    """Records when the first POST was received."""

    at: float | None = None


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Listener

    def do_POST(self) -> None:
        if self.server.at is None:
            self.server.at = time.perf_counter()
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(ANSWER)))
        self.end_headers()
        self.wfile.write(ANSWER.encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the library
        """Say nothing."""


@contextlib.contextmanager
def _first_post() -> Iterator[_Listener]:
    with _Listener(("127.0.0.1", 0), _Handler) as listener:
        thread = threading.Thread(target=listener.serve_forever)
        thread.start()
        try:
            yield listener
        finally:
            listener.shutdown()
            thread.join()


def _first_request_s(environ: dict[str, str], listener: _Listener, rows: Path) -> float:
    """Return the seconds from the start of the process to its first request at the server."""
    listener.at = None
    began = time.perf_counter()
    batchmix(f"http://127.0.0.1:{listener.server_port}/v1", rows, rows.parent / "out", 64, environ)
    assert listener.at is not None
    return listener.at - began
