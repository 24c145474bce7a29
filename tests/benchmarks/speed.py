"""The whole of `batchmix run` beside a bare aiohttp loop, as a ratio: python -m tests.benchmarks.speed.

nginx answers a fixed completion of 1 KB with no latency on core 0; the clients take turns on core 1. The bare loop has
fixed workers, one session, bodies as bytes, and parses the JSON. Of batchmix the time that a one-row run takes is
taken off.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import msgspec

from tests.killing import command

ANSWER = {
    "id": "chatcmpl-benchmark",
    "object": "chat.completion",
    "created": 1700000000,
    "model": "gpt-4o-mini",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "word " * 130}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 20, "completion_tokens": 130, "total_tokens": 150},
}
CONF = """
daemon off; pid {root}/nginx.pid; error_log {root}/error.log; worker_processes 1;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 100000000; client_body_buffer_size 64k; client_body_temp_path {root};
  proxy_temp_path {root}; fastcgi_temp_path {root}; uwsgi_temp_path {root}; scgi_temp_path {root};
  server {{ listen 127.0.0.1:{port} backlog=4096;
    location / {{ default_type application/json; return 200 '{answer}'; }} }}
}}
"""


@contextlib.contextmanager
def nginx() -> Iterator[str]:
    """Run nginx on core 0; give the base URL."""
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    if not Path(program).exists():
        sys.exit("nginx is missing; on Debian: apt-get install nginx-light")
    with tempfile.TemporaryDirectory() as root, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        Path(root, "nginx.conf").write_text(CONF.format(root=root, port=port, answer=json.dumps(ANSWER)))
        process = subprocess.Popen(["taskset", "-c", "0", program, "-c", f"{root}/nginx.conf", "-p", root])
        url = f"http://127.0.0.1:{port}/v1"
        try:
            for _ in range(200):
                with contextlib.suppress(OSError):
                    urllib.request.urlopen(url).close()
                    break
                time.sleep(0.02)
            yield url
        finally:
            process.terminate()
            process.wait()


async def bare_loop(url: str, bodies: list[bytes], workers: int) -> float:
    """Send all bodies; return the seconds."""
    rest = iter(bodies)
    connector = aiohttp.TCPConnector(limit=0)
    headers = {"Content-Type": "application/json", "Authorization": "Bearer none"}
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:

        async def work() -> None:
            for body in rest:
                async with session.post(f"{url}/chat/completions", data=body) as response:
                    msgspec.json.decode(await response.read())

        began = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(workers)))
        return time.perf_counter() - began


def run_bare(url: str, rows: int, workers: int) -> None:
    """Be the bare loop's process; print the seconds."""
    import uvloop

    bodies = [
        msgspec.json.encode({"model": "m", "messages": [{"role": "user", "content": f"Say question {i}"}]})
        for i in range(rows)
    ]
    print(uvloop.run(bare_loop(url, bodies, workers)))


def pinned(*call: str) -> tuple[float, str]:
    """Run a call on core 1; return its seconds and what it printed."""
    began = time.perf_counter()
    done = subprocess.run(["taskset", "-c", "1", sys.executable, *call], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr + done.stdout)
    return time.perf_counter() - began, done.stdout


def batchmix_seconds(url: str, source: Path, root: Path, workers: int, *more: str) -> float:
    """Return how long a whole run takes."""
    out = root / "out"
    shutil.rmtree(out, ignore_errors=True)
    call = command(url, source, out, "--concurrency", str(workers), *more)
    return pinned(*call[1:])[0]


def compare(url: str, root: Path, rows: int, workers: int, rounds: int) -> None:
    """Print both rates and their ratio, as medians of interleaved rounds."""
    source, one = root / "rows.jsonl", root / "one.jsonl"
    with source.open("w") as file:
        file.writelines(json.dumps({"id": i, "text": f"question {i}"}) + "\n" for i in range(rows))
    one.write_text(json.dumps({"id": 0, "text": "question"}) + "\n")
    bare, whole = [], []
    for _ in range(rounds):
        bare.append(
            rows
            / float(
                pinned("-m", "tests.benchmarks.speed", "--bare", url, "--rows", str(rows), "--in-flight", str(workers))[
                    1
                ]
            )
        )
        start = batchmix_seconds(url, one, root, workers)
        whole.append(rows / (batchmix_seconds(url, source, root, workers) - start))
    ratio = statistics.median(mine / theirs for mine, theirs in zip(whole, bare, strict=True))
    a, b = statistics.median(bare), statistics.median(whole)
    print(
        f"{workers:>5} in flight: bare {a:8,.0f}/s ({1e6 / a:5.1f} µs)"
        f"   batchmix {b:8,.0f}/s ({1e6 / b:5.1f} µs)   ratio {ratio:.2f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=30_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--in-flight", type=int, nargs="*", default=[64, 256])
    parser.add_argument("--bare", metavar="URL", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.bare:
        run_bare(asked.bare, asked.rows, asked.in_flight[0])
        return
    with nginx() as url, tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as root:
        for workers in asked.in_flight:
            compare(url, Path(root), asked.rows, workers, asked.rounds)


if __name__ == "__main__":
    main()
