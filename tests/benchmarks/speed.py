"""The whole of `batchmix run` beside a bare aiohttp loop and the openai package, in requests per second.

Each has the clients' core to itself while it runs; they take turns. Of batchmix the time that a run of one row takes
is taken off, since of the others only the loop is timed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.benchmarks.servers import CORES, Server, nginx, waiting
from tests.benchmarks.table import Bound, Line
from tests.killing import command, write_rows

BESIDE = {"aiohttp": "bare aiohttp", "aiohttp-tuned": "bare aiohttp, gc tuned", "openai": "openai"}
PEAK = Bound("≤", 150, " MB")
BUSY = Bound("≤", 60, " %")
"""Above it a server might be what is measured."""


@dataclasses.dataclass(frozen=True)
class Load:
    """The requests that a client sends, and how many."""

    latency: str
    """`LOW-HIGH` in seconds, or nothing for answers at once."""
    workers: int
    rows: int
    openai_rows: int
    """Fewer, as it takes twenty times as long."""
    rounds: int
    bound: Bound

    @property
    def name(self) -> str:
        after = "no latency"
        if self.latency:
            after = f"{'–'.join(f'{float(end) * 1000:.0f}' for end in self.latency.split('-'))} ms"
        return f"{self.workers:,} in flight, {after}"


def loads(*, quick: bool) -> tuple[list[Load], list[Load]]:
    """Return the loads without and with latency."""
    rows, openai_rows, rounds = (10_000, 500, 2) if quick else (20_000, 1_500, 5)
    at_once = [Load("", workers, rows, openai_rows, rounds, Bound("≥", 0.85)) for workers in (64, 256)]
    late = Load("0.1-0.3", 2_000, 20_000, 2_000 if quick else 4_000, 1 if quick else 3, Bound("≥", 0.85))
    return at_once, [late]


def measure(load: Load) -> Iterator[Line]:
    """Measure a load, and yield the results."""
    serving = waiting(load.latency) if load.latency else nginx()
    with serving as server, waiting("0") as prompt, tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as root:
        rounds = [_round(server, prompt, load, Path(root)) for _ in range(load.rounds)]
    mine = statistics.median(each.batchmix for each in rounds)
    for client in rounds[0].others:
        theirs = statistics.median(each.others[client] for each in rounds)
        ratio = statistics.median(each.batchmix / each.others[client] for each in rounds)
        yield Line(load.name, mine, "/s", BESIDE[client], theirs, ratio, load.bound if client == "aiohttp" else None)
    if load.latency:
        yield Line("its peak memory", max(each.peak_mb for each in rounds), " MB", bound=PEAK)
    yield Line("server busy, under the bare loop", max(each.busy for each in rounds) * 100, " %", bound=BUSY)


@dataclasses.dataclass(frozen=True)
class Round:
    """One turn of each: requests per second."""

    batchmix: float
    others: dict[str, float]
    """By client; without openai where it is not installed."""
    peak_mb: float
    """Of batchmix."""
    busy: float
    """The share of its core that the server took while the bare loop ran."""


def _round(server: Server, prompt: Server, load: Load, root: Path) -> Round:
    """Let each take its turn; `prompt` answers at once, so that a start is measured and no latency."""
    whole, one = root / "rows.jsonl", root / "one.jsonl"
    if not one.exists():
        write_rows(whole, load.rows)
        write_rows(one, 1)
    before = server.cpu_s()
    others = {"aiohttp": rate("aiohttp", server, load.rows, load.workers)}
    busy = (server.cpu_s() - before) * others["aiohttp"] / load.rows
    others["aiohttp-tuned"] = rate("aiohttp-tuned", server, load.rows, load.workers)
    if importlib.util.find_spec("openai"):
        others["openai"] = rate("openai", server, load.openai_rows, load.workers)
    start_s, _ = batchmix(prompt.url, one, root / "out", load.workers)
    whole_s, peak_mb = batchmix(server.url, whole, root / "out", load.workers)
    return Round(load.rows / (whole_s - start_s), others, peak_mb, busy)


def rate(name: str, server: Server, rows: int, workers: int) -> float:
    """Return the requests per second of another client, by its own account."""
    call = [sys.executable, "-m", "tests.benchmarks.clients", name, server.url, str(rows), str(workers)]
    done = subprocess.run([*on_core(), *call], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return rows / float(done.stdout)


def batchmix(
    url: str, source: Path, out: Path, workers: int, environ: Mapping[str, str] | None = None
) -> tuple[float, float]:
    """Run a job from nothing to its end; return its seconds and its peak memory in MB."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(out)
    call = [*on_core(), *command(url, source, out, "--concurrency", str(workers))]
    with tempfile.TemporaryFile("w+") as output:
        began = time.perf_counter()
        process = subprocess.Popen(call, stdout=output, stderr=output, env=environ)
        _, code, usage = os.wait4(process.pid, 0)  # the peak of this child, not of all
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(code)
        if process.returncode:
            output.seek(0)
            sys.exit(output.read())
    return seconds, usage.ru_maxrss / 1024


def on_core() -> list[str]:
    """Return what goes before a client's call, to keep it on the clients' core."""
    return ["taskset", "-c", str(CORES[1])]
