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
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.benchmarks.servers import CORES, Server, nginx, waiting
from tests.benchmarks.table import Bound, Line
from tests.killing import command, words, write_rows

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
    """Fewer, as it takes twenty times as long. 0: it is not measured."""
    rounds: int
    bound: Bound | None
    prompt_bytes: int = 0
    """How much longer the prompts are than a few words."""
    answer_bytes: int = 0
    """The length of the answers' text. 0: answers of 1 KB."""
    streamed: bool = False
    parquet: bool = False
    """Whether the rows are in a Parquet file instead of JSON lines."""

    @property
    def is_long(self) -> bool:
        """Whether its prompts or answers are."""
        return bool(self.prompt_bytes or self.answer_bytes)

    def rows_of(self, client: str) -> int:
        """Return how many requests a client sends."""
        return self.openai_rows if client == "openai" else self.rows

    @property
    def name(self) -> str:
        if self.is_long:
            what, size = ("prompts", self.prompt_bytes) if self.prompt_bytes else ("answers", self.answer_bytes)
            how = ", streamed" * self.streamed + ", Parquet" * self.parquet
            return f"{self.workers:,} in flight, {what} of {size // 1000} KB{how}"
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
    serving = waiting(load.latency) if load.latency else nginx(words(load.answer_bytes), streamed=load.streamed)
    with serving as server, waiting("0") as prompt, tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as root:
        rounds = [_round(server, prompt, load, Path(root)) for _ in range(load.rounds)]
    mine = statistics.median(load.rows / each.batchmix.wall_s for each in rounds)
    for client in rounds[0].others:
        theirs = statistics.median(load.rows_of(client) / each.others[client].wall_s for each in rounds)
        ratio = statistics.median(each.ratio(client, load) for each in rounds)
        yield Line(load.name, mine, "/s", BESIDE[client], theirs, ratio, load.bound if client == "aiohttp" else None)
    mine = statistics.median(each.batchmix.cpu_s for each in rounds) / load.rows * 1e6
    theirs = statistics.median(each.others["aiohttp"].cpu_s for each in rounds) / load.rows * 1e6
    yield Line("its CPU time for a request", mine, " µs", BESIDE["aiohttp"], theirs)
    if load.latency:
        yield Line("its peak memory", max(each.peak_mb for each in rounds), " MB", bound=PEAK)
    yield Line("server busy, under the bare loop", max(each.busy for each in rounds) * 100, " %", bound=BUSY)


@dataclasses.dataclass(frozen=True)
class Taken:
    """What one turn took."""

    wall_s: float
    cpu_s: float
    peak_mb: float = 0

    def __sub__(self, other: Taken) -> Taken:
        return Taken(self.wall_s - other.wall_s, self.cpu_s - other.cpu_s, self.peak_mb)


@dataclasses.dataclass(frozen=True)
class Round:
    """One turn of each."""

    batchmix: Taken
    """Without its start."""
    others: dict[str, Taken]
    """By client; without openai where it is not installed."""
    busy: float
    """The share of its core that the server took while the bare loop ran."""

    @property
    def peak_mb(self) -> float:
        """Of batchmix."""
        return self.batchmix.peak_mb

    def ratio(self, client: str, load: Load) -> float:
        """Return how fast batchmix is beside another client."""
        return load.rows / self.batchmix.wall_s / (load.rows_of(client) / self.others[client].wall_s)


def _round(server: Server, prompt: Server, load: Load, root: Path) -> Round:
    """Let each take its turn; `prompt` answers at once, so that a start is measured and no latency."""
    whole, one = (
        source(root / name, rows, load.prompt_bytes, parquet=load.parquet)
        for name, rows in (("rows", load.rows), ("one", 1))
    )
    before = server.cpu_s()
    others = {"aiohttp": taken("aiohttp", server, load)}
    busy = (server.cpu_s() - before) / others["aiohttp"].wall_s
    if not load.is_long:
        others["aiohttp-tuned"] = taken("aiohttp-tuned", server, load)
    if load.openai_rows and importlib.util.find_spec("openai"):
        others["openai"] = taken("openai", server, load)
    more = ["--set", "params.stream=true"] * load.streamed
    start = batchmix((server if load.streamed else prompt).url, one, root / "out", load.workers, more=more)
    run = batchmix(server.url, whole, root / "out", load.workers, more=more)
    return Round(run - start, others, busy)


def source(path: Path, rows: int, prompt_bytes: int, *, parquet: bool) -> Path:
    """Return a file with so many rows. It is written if it is not there yet."""
    lines, table = path.with_suffix(".jsonl"), path.with_suffix(".parquet")
    if not lines.exists():
        write_rows(lines, rows, prompt_bytes=prompt_bytes)
    if not parquet:
        return lines
    if not table.exists():  # by a process of its own: a child's peak memory starts at what its parent has loaded
        call = (
            "import sys, pyarrow.json as j, pyarrow.parquet as q; q.write_table(j.read_json(sys.argv[1]), sys.argv[2])"
        )
        subprocess.run([sys.executable, "-c", call, str(lines), str(table)], check=True)
    return table


def taken(name: str, server: Server, load: Load) -> Taken:
    """Return what another client takes, by its own account."""
    call = [sys.executable, "-m", "tests.benchmarks.clients", name, server.url, str(load.rows_of(name))]
    call += [str(load.workers), str(load.prompt_bytes), "streamed" if load.streamed else "plain"]
    done = subprocess.run([*on_core(), *call], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return Taken(*map(float, done.stdout.split()))


def batchmix(
    url: str, source: Path, out: Path, workers: int, environ: Mapping[str, str] | None = None, more: Sequence[str] = ()
) -> Taken:
    """Run a job from nothing to its end; return what it took. `more` is added to the command line."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(out)
    call = [*on_core(), *command(url, source, out, "--concurrency", str(workers), *more)]
    with tempfile.TemporaryFile("w+") as output:
        began = time.perf_counter()
        process = subprocess.Popen(call, stdout=output, stderr=output, env=environ)
        _, code, usage = os.wait4(process.pid, 0)  # the peak of this child, not of all
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(code)
        if process.returncode:
            output.seek(0)
            sys.exit(output.read())
    return Taken(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def on_core() -> list[str]:
    """Return what goes before a client's call, to keep it on the clients' core."""
    return ["taskset", "-c", str(CORES[1])]
