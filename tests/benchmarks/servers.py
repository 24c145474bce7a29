"""The servers of the benchmarks: nginx, which answers at once, and a stand-in that answers after a while.

Both send the same fixed completion of 1 KB, nginx also one of another size or a stream of it, and have a core to
themselves. The stand-in exists because a stock nginx can't wait; how busy a server was is measured each time, since a
figure means nothing where the server is the limit.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

_EVENT_CHARS = 40
"""The characters of an answer in each event of a stream. Providers send one token, or what has come since."""
_FRAME = {"id": "chatcmpl-benchmark", "object": "chat.completion", "created": 1700000000, "model": "gpt-4o-mini"}
_USAGE = {"prompt_tokens": 20, "completion_tokens": 130, "total_tokens": 150}


def answer(text: str) -> str:
    """Return a completion with this text."""
    message = {"role": "assistant", "content": text}
    return json.dumps(
        {**_FRAME, "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": _USAGE}
    )


def stream(text: str) -> str:
    """Return the same completion as server-sent events."""
    frame = {**_FRAME, "object": "chat.completion.chunk"}
    pieces = [text[at : at + _EVENT_CHARS] for at in range(0, len(text), _EVENT_CHARS)]
    choices = [{"index": 0, "delta": {"content": piece}, "finish_reason": None} for piece in pieces]
    choices.append({"index": 0, "delta": {}, "finish_reason": "stop"})
    events = [*({**frame, "choices": [choice]} for choice in choices), {**frame, "choices": [], "usage": _USAGE}]
    return "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"


ANSWER = answer("word " * 130)
CORES = (0, 1)
"""The servers' core and the clients' core."""
_CONF = """
daemon off; master_process off; pid {root}/nginx.pid; error_log {root}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 100000000; client_body_buffer_size 64k; client_body_temp_path {root};
  proxy_temp_path {root}; fastcgi_temp_path {root}; uwsgi_temp_path {root}; scgi_temp_path {root};
  server {{ listen 127.0.0.1:{port} backlog=4096;
    {places} }}
}}
"""


_ONE_PLACE = f"location / {{ default_type application/json; return 200 '{ANSWER}'; }}"
# A value in nginx's configuration has at most 4 KB. Its files are not for POST, but an error page may be one.
_FROM_FILE = """location / {{ error_page 405 =200 /answer; return 405; }}
    location = /answer {{ default_type {type}; root {root}; }}"""


@dataclasses.dataclass(frozen=True)
class Server:
    """A running server."""

    url: str
    """With `/v1`."""
    pid: int

    def cpu_s(self) -> float:
        """Return the CPU seconds it has taken so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def check() -> None:
    """Exit with a message on what is missing, if the benchmarks cannot run."""
    if sys.platform != "linux" or shutil.which("taskset") is None:
        sys.exit("the benchmarks need Linux and taskset (on Debian: apt-get install util-linux)")
    if not set(CORES) <= os.sched_getaffinity(0):
        sys.exit("the benchmarks need the cores 0 and 1: one for the server, one for the client")
    _nginx_program()


def _nginx_program() -> str:
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    if not Path(program).exists():
        sys.exit("nginx is missing; on Debian and Ubuntu: apt-get install nginx-light; on Fedora: dnf install nginx")
    return program


@contextlib.contextmanager
def nginx(text: str = "", *, streamed: bool = False) -> Iterator[Server]:
    """Run nginx on the servers' core; it answers at once: with `ANSWER`, or with a completion or stream of a text."""
    program = _nginx_program()
    with tempfile.TemporaryDirectory() as root:
        places = _ONE_PLACE
        if text:
            Path(root, "answer").write_text(stream(text) if streamed else answer(text))
            places = _FROM_FILE.format(root=root, type="text/event-stream" if streamed else "application/json")
            Path(root).chmod(0o755)  # where nginx is started by root, another user reads the file
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        Path(root, "nginx.conf").write_text(_CONF.format(root=root, port=port, places=places))
        call = [program, "-c", f"{root}/nginx.conf", "-p", root]
        with _running(call) as process:
            url = f"http://127.0.0.1:{port}/v1"
            _wait_for(url)
            yield Server(url, process.pid)


@contextlib.contextmanager
def waiting(latency: str) -> Iterator[Server]:
    """Run the stand-in on the servers' core; it answers after a latency of `LOW-HIGH` seconds, drawn evenly."""
    with _running([sys.executable, "-m", "tests.benchmarks.waiting", latency], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield Server(process.stdout.readline().decode().strip(), process.pid)


@contextlib.contextmanager
def _running(call: list[str], stdout: int | None = None) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["taskset", "-c", str(CORES[0]), *call], stdout=stdout)  # taskset becomes the program
    try:
        yield process
    finally:
        process.terminate()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _wait_for(url: str) -> None:
    for _ in range(200):
        with contextlib.suppress(OSError):
            urllib.request.urlopen(url).close()
            return
        time.sleep(0.02)
    sys.exit(f"nginx does not answer at {url}")
