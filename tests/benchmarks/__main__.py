"""Measure what batchmix promises of its speed: python -m tests.benchmarks [--quick] [--markdown FILE].

nginx, and for answers that take a while a stand-in, run on core 0, the clients on core 1. The rows are batchmix beside
a bare aiohttp loop under uvloop (fixed workers, bodies ready as bytes, answers parsed), as it comes and with the garbage
collector set as batchmix sets it; beside the openai package where it is installed (pip install -e '.[bench]'); with long
prompts and answers; and its start beside the imports that it can't do without. It takes about ten minutes, with --quick
three; the ratios are what to look at.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks import servers, sizes, speed, start
from tests.benchmarks.table import COLUMNS, Line, conditions, in_columns, markdown

PARTS = ("throughput", "latency", "sizes", "start")


def measure(part: str, *, quick: bool) -> Iterator[Line]:
    """Measure one part."""
    if part == "start":
        yield from start.measure(7 if quick else 11)
        return
    if part == "sizes":
        for load in sizes.loads(quick=quick):
            yield from speed.measure(load)
        yield from sizes.memory(quick=quick)
        return
    for load in speed.loads(quick=quick)[PARTS.index(part)]:
        yield from speed.measure(load)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"some of {', '.join(PARTS)}; default: all")
    parser.add_argument("--quick", action="store_true", help="fewer rows and rounds")
    parser.add_argument(
        "--markdown", metavar="FILE", help="also write the table as Markdown; - for stdout, in its place"
    )
    args = parser.parse_args()
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    servers.check()
    os.sched_setaffinity(0, {servers.CORES[0]})  # measuring must not disturb the measured processes
    shown = sys.stderr if args.markdown == "-" else sys.stdout
    print(in_columns(COLUMNS), file=shown, flush=True)
    lines: list[Line] = []
    for part in args.parts or PARTS:
        for line in measure(part, quick=args.quick):
            lines.append(line)
            print(in_columns(line.cells()), file=shown, flush=True)
    how = "medians of interleaved rounds, the server on core 0 and the client on core 1"
    written = markdown(lines, conditions(f"{how}, --quick" if args.quick else how))
    if args.markdown == "-":
        print(written, end="")
    elif args.markdown:
        Path(args.markdown).write_text(written)


if __name__ == "__main__":
    main()
