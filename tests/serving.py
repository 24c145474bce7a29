"""Servers of other projects, which batchmix is tested against."""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def serving(call: list[str], pattern: str) -> Iterator[str]:
    """Run a server, and yield the address that the server prints."""
    with subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                found = re.search(pattern, line)
                if found:
                    break
            else:
                raise AssertionError("the server did not start")
            # Its further output must be read: a full pipe would block it.
            reader = threading.Thread(target=process.stdout.read)
            reader.start()
            yield found[1]
        finally:
            process.terminate()


@contextlib.contextmanager
def llmock_serving(*more: str) -> Iterator[str]:
    """Run llmock and yield its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    call = [_llmock(), "serve", "--host", "127.0.0.1", "--port", str(port), *more]
    with serving(call, r"Uvicorn running on (http://[\d.:]+)") as url:
        yield url


def llmock_report(url: str) -> subprocess.CompletedProcess[str]:
    """Return llmock's report on its clients. Its exit code is 1 if a client misbehaved."""
    return subprocess.run([_llmock(), "report", "--url", url], capture_output=True, text=True, check=False)


def _llmock() -> str:
    return shutil.which("llmock") or str(Path(sys.executable).with_name("llmock"))
