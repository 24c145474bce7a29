"""Answers and inputs that went wrong: python -m tests.benchmarks.fuzz [--answers N] [--heard N] [--inputs N].

`--answers` are random bytes, random JSON and answers that went wrong, as bodies and as streams, each judged by itself: an
answer or a failure. `--heard` are given to whole runs by a server, and `--inputs` are files of JSON lines, CSV and
Parquet that went wrong: a run ends in words, each row stands in the output once, and the same command goes on.

The runs are made by processes of their own, so that one that crashes is told. What breaks a promise is printed with
its seed, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import random
import resource
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path

from tests.fuzzing import ANSWERS, cases, outcome_of
from tests.fuzzing_runs import odd_bodies, try_answers, try_input
from tests.killing import fetch, provider

_AT_ONCE = 1000
_ROWS = 250
"""Answers received in one run."""
_BATCH = 50
"""Inputs for one process."""
_MOST_BYTES = 8 << 30


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", type=int, default=50_000)
    parser.add_argument("--heard", type=int, default=40_000)
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", nargs=2, metavar=("KIND", "COUNT"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        kind, count = args.child
        return _heard(args.seed, int(count)) if kind == "heard" else _inputs(args.seed, int(count))
    counts: Counter[str] = Counter()
    for first in range(0, args.answers, _AT_ONCE):
        _judge(counts, args.seed + first, min(_AT_ONCE, args.answers - first))
    for first in range(0, args.heard, _ROWS):
        _child(counts, "heard", args.seed + first, min(_ROWS, args.heard - first))
    for first in range(0, args.inputs, _BATCH):
        _child(counts, "inputs", args.seed + first, min(_BATCH, args.inputs - first))
    for outcome, count in sorted(counts.items()):
        print(f"{count:8}  {outcome}")
    return 1 if counts["BROKEN"] else 0


def _judge(counts: Counter[str], seed: int, count: int) -> None:
    for number, case in enumerate(cases(count, seed)):
        try:
            counts[f"{case.kind}: {outcome_of(case)}"] += 1
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
            counts["BROKEN"] += 1
            print(f"seed {seed}, case {number}: {type(error).__name__}: {error}\n  {case!r:.2000}", flush=True)


def _child(counts: Counter[str], kind: str, seed: int, count: int) -> None:
    call = [sys.executable, "-m", "tests.benchmarks.fuzz", "--seed", str(seed), "--child", kind, str(count)]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    for line in done.stdout.splitlines():
        number, _, what = line.partition(" ")
        counts[f"{kind}: {what}"] += int(number)
    if done.returncode:
        counts["BROKEN"] += max(1, done.returncode)
        print(f"{' '.join(call[1:])}: exit code {done.returncode}\n{done.stderr}", flush=True)


def _heard(seed: int, count: int) -> int:
    dice = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = try_answers(seed, Path(folder), odd_bodies(dice, count, ANSWERS))
        except Exception:  # noqa: BLE001 - as above
            print(f"seed {seed}\n{traceback.format_exc()}", file=sys.stderr)
            return 1
    for status, number in found.items():
        print(number, status)
    return 0


def _inputs(seed: int, count: int) -> int:
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_BYTES, _MOST_BYTES))  # a damaged file may ask for any size
    broken = 0
    found: Counter[str] = Counter()
    with provider("") as url:
        for number in range(seed, seed + count):
            with tempfile.TemporaryDirectory() as folder:
                try:
                    found[try_input(number, Path(folder), url, lambda: fetch(url, "totals").get("requests", 0))] += 1
                except Exception:  # noqa: BLE001 - as above
                    broken += 1
                    print(f"seed {number}\n{traceback.format_exc()}", file=sys.stderr)
    for what, number in found.items():
        print(number, what)
    return broken


if __name__ == "__main__":
    sys.exit(main())
