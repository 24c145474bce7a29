"""Evaluating, comparing and reporting many results: python -m tests.benchmarks.report [--rows 100000].

Three models answer so many rows twice; a tenth of the scores moves between. What each command takes of time and memory is
measured of the process, and the report is opened in Chromium where there is one.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from tests.benchmarks import diff
from tests.browser import CHROMIUM, browser, file_url

BOUNDS = {2_000: 2_000_000, 10_000_000: 5_000_000}
"""The most bytes of a report, by number of rows."""


TELLING = """
import atexit, pathlib, sys
told = pathlib.Path(sys.argv.pop(1))
status = pathlib.Path("/proc/self/status")
atexit.register(lambda: told.write_text(status.read_text().split("VmHWM:")[1].split()[0]))
from batchmix.cli import main
main()
"""
"""A command that leaves its peak memory in kB; what the system says of a child counts that of its parent."""


def measured(peak_file: Path, *command: str) -> str:
    """Run a command; return how long it took and its peak memory."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", TELLING, str(peak_file), *command], stdout=subprocess.DEVNULL, check=False
    )
    assert done.returncode in {0, 1}, f"exit code {done.returncode}"
    return f"{time.perf_counter() - began:.1f} s, {int(peak_file.read_text()) // 1024} MB"


async def opening_s(path: Path) -> float:
    async with browser() as page:
        took_s = await page.open(file_url(path))
        assert page.log == []
        return took_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    args = parser.parse_args()
    diff.ROWS, draw = args.rows, np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as folder:
        runs = diff.evaluated_run(Path(folder), "a"), diff.evaluated_run(Path(folder), "b")
        peak_file = Path(folder) / "told"
        print(f"{args.rows * len(diff.MODELS):,} results")
        print(f"eval    {measured(peak_file, 'eval', str(runs[1]), '--progress', 'none')}")
        before = diff.first_night(draw)
        for run, scores in zip(runs, (before, diff.next_night(draw, before, diff.DROP)), strict=True):
            diff.put(run, scores)
        print(f"diff    {measured(peak_file, 'diff', *map(str, runs))}")
        print(f"report  {measured(peak_file, 'report', str(runs[1]), '--against', str(runs[0]))}")
        page = runs[1] / "report.html"
        size, most = page.stat().st_size, min(bound for rows, bound in BOUNDS.items() if args.rows <= rows)
        print(f"report.html has {size / 1e6:.2f} MB (promised: {most / 1e6:.0f} MB)")
        assert size < most
        if CHROMIUM:
            took_s = asyncio.run(opening_s(page))
            print(f"Chromium opens it in {took_s:.2f} s (promised: 1 s)")
            assert took_s < 1


if __name__ == "__main__":
    main()
