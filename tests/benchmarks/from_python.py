"""`bm.run` beside `batchmix run`: python -m tests.benchmarks.from_python [--rounds 5] [--rows 60000] [--kinds file].

The two take turns on core 1, nginx answers on core 0. Of each, the time that a call with one row takes is taken off, since
a program imports and starts once; those starts are shown too. `bm.run` gets the same file, and the rows as dictionaries
and as a DataFrame, which have to be written into the run folder first.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks import servers
from tests.benchmarks.servers import Server, nginx
from tests.benchmarks.speed import batchmix, on_core
from tests.benchmarks.table import COLUMNS, Bound, Line, in_columns
from tests.killing import write_rows

WORKERS = 256
CALL = """
import json, sys
import batchmix as bm
kind, url, source, out, workers = sys.argv[1:]
rows = source
if kind == "dicts":
    rows = map(json.loads, open(source))
if kind == "pandas":
    import pandas
    rows = pandas.read_json(source, lines=True)
run = bm.run(
    rows, "Say {{ text }}", model="m", base_url=url, out=out, concurrency=int(workers), provider={"api_key_env": ""}
)
assert run.summary["failed"] == run.summary["unanswered"] == 0
"""
KINDS = ("file", "dicts", "pandas")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=KINDS, help="what bm.run gets; default: all")
    args = parser.parse_args()
    servers.check()
    os.sched_setaffinity(0, {servers.CORES[0]})
    with nginx() as server, tempfile.TemporaryDirectory() as root:
        whole, one = Path(root, "rows.jsonl"), Path(root, "one.jsonl")
        write_rows(whole, args.rows)
        write_rows(one, 1)
        ways = ["shell", *args.kinds]
        rounds = []
        for number in range(args.rounds):  # each way comes first as often as last, since the machine's speed drifts
            order = ways if number % 2 else ways[::-1]
            rounds.append(measure(server, (one, whole), Path(root, "out"), args.rows, order))
    print(in_columns(COLUMNS))
    for kind in args.kinds:
        ratios = [rates[kind] / rates["shell"] for rates, _ in rounds]
        mine, theirs = (statistics.median(rates[which] for rates, _ in rounds) for which in (kind, "shell"))
        bound = Bound("≥", 0.97) if kind == "file" else None
        line = Line(f"bm.run, {kind}", mine, "/s", "batchmix run", theirs, statistics.median(ratios), bound)
        print(in_columns(line.cells()))
    for kind in args.kinds:
        mine, theirs = (statistics.median(starts[which] for _, starts in rounds) for which in (kind, "shell"))
        print(in_columns(Line(f"one row, {kind}", mine, " s", "batchmix run", theirs).cells()))


def measure(
    server: Server, sources: tuple[Path, Path], out: Path, rows: int, ways: list[str]
) -> tuple[dict[str, float], dict[str, float]]:
    """Return the requests per second of each way, and the seconds of a call with one row."""
    rates, starts = {}, {}
    for which in ways:
        seconds = [
            batchmix(server.url, source, out, WORKERS).wall_s
            if which == "shell"
            else called(which, server.url, source, out)
            for source in sources
        ]
        starts[which] = seconds[0]
        rates[which] = rows / (seconds[1] - seconds[0])
    return rates, starts


def called(kind: str, url: str, source: Path, out: Path) -> float:
    """Run a program that calls `bm.run`; return its seconds."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(out)
    began = time.perf_counter()
    subprocess.run([*on_core(), sys.executable, "-c", CALL, kind, url, str(source), str(out), str(WORKERS)], check=True)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
