"""The same task with batchmix and with other libraries: python -m tests.benchmarks.peers [--python NAME=PATH]...

Each script classifies the same 2,000 reviews against a rehearsal provider on this machine, which repeats the prompts,
so that an answer beside the wrong row is found. There are three rounds: one undisturbed, of which the fastest of three
runs counts; one that is killed (SIGKILL) once half of the rows are answered, after which the same script is run again;
and one in which the provider refuses 5 % of the rows for good (400) and throttles 5 % of the requests (429). The
figures come from the provider's log and the script's output.

A library runs in a virtual environment of its own, which has pandas too: --python curator=/somewhere/bin/python. One
without is left out. The whole takes some ten minutes, and nothing leaves the machine.
"""

from __future__ import annotations

import argparse
import datetime
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tests.benchmarks.peers.rounds import (
    Bounds,
    KilledRound,
    Round,
    Script,
    faults,
    killed_round,
    refused_rows,
    requests_per_refused_row,
    whole_round,
)
from tests.benchmarks.peers.source_lines import count_lines
from tests.killing import fetch, provider

T = TypeVar("T")
HERE = Path(__file__).parent
DISTRIBUTIONS = {
    "batchmix": "batchmix",
    "curator": "bespokelabs-curator",
    "lm-deluge": "lm-deluge",
    "daft": "daft",
}
"""The libraries by name, each with its distribution."""
CALM = "latency={}&echo=1"
TROUBLE = "latency={}&echo=0.95&429=0.05&reject=0.05"


def script_of(name: str) -> Path:
    """Return the script that does the task with a library."""
    return HERE / f"{name.replace('-', '_')}_task.py"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", action="append", default=[], metavar="NAME=PATH", help="the Python of a library")
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--latency", default="0.2-0.3", help="seconds; default: 0.2-0.3")
    parser.add_argument("--runs", type=int, default=3, help="undisturbed runs, of which the fastest counts; default: 3")
    parser.add_argument("--within", type=float, default=300, metavar="S", help="the most seconds that a run may take")
    args = parser.parse_args()
    pythons = {"batchmix": sys.executable, **dict(one.split("=", 1) for one in args.python)}
    if unknown := set(pythons) - set(DISTRIBUTIONS):
        parser.error(f"no such library: {', '.join(sorted(unknown))}")
    columns: dict[str, dict[str, str]] = {}
    with provider(CALM.format(args.latency)) as url:
        for name in DISTRIBUTIONS:
            if (version := _version(name, pythons.get(name, ""))) is None:
                continue
            script = Script(script_of(name), pythons[name])
            columns[f"{name} {version}"] = measure(script, url, args.latency, Bounds(args.rows, args.within), args.runs)
    print(_markdown(columns))
    print(f"\n{datetime.date.today()}, {args.rows:,} rows, latency {args.latency} s, {os.cpu_count()} cores")


def _version(name: str, python: str) -> str | None:
    """Return the installed version of a library. None, with a message, if it is not installed."""
    if not python:
        print(f"{name} is left out: name its Python with --python {name}=PATH", file=sys.stderr)
        return None
    code = "import importlib.metadata, sys, pandas; print(importlib.metadata.version(sys.argv[1]))"
    found = subprocess.run([python, "-c", code, DISTRIBUTIONS[name]], capture_output=True, text=True, check=False)
    if found.returncode:
        print(f"{name} is left out: {python} lacks it, or pandas", file=sys.stderr)
        return None
    return found.stdout.strip()


def measure(script: Script, url: str, latency: str, bounds: Bounds, runs: int) -> dict[str, str]:
    """Run all rounds of a script, and return its figures by their name."""
    lines = count_lines(script.path)
    figures = {"lines of code": f"{lines.code}", "and of imports": f"{lines.imports}"}
    fetch(url, "behaviour", CALM.format(latency))
    whole = [_in_new_folder(whole_round, script, url, bounds) for _ in range(runs)]
    figures |= _undisturbed(min(whole, key=lambda found: found.seconds), bounds.rows)
    figures |= _killed(_in_new_folder(killed_round, script, url, bounds), bounds.rows)
    fetch(url, "behaviour", TROUBLE.format(latency))
    figures |= _troubled(_in_new_folder(whole_round, script, url, bounds), bounds.rows)
    print(f"{script.path.name}: measured", file=sys.stderr, flush=True)
    return figures


def _in_new_folder(make: Callable[[Script, str, Path, Bounds], T], script: Script, url: str, bounds: Bounds) -> T:
    with tempfile.TemporaryDirectory(prefix="peers-") as folder:
        return make(script, url, Path(folder), bounds)


def _undisturbed(found: Round, rows: int) -> dict[str, str]:
    ids = found.answers.ids
    return {
        "seconds": _seconds(found),
        "from the first request to the last reply": f"{found.sending_s:.1f}",
        "requests": f"{_requests(found):,}",
        "columns that come back": ", ".join(found.answers.columns),
        "rows in the order of the input": f"{sum(a == b for a, b in zip(ids, range(rows), strict=False)):,}",
        "answers beside the wrong row": f"{len(found.answers.wrong):,}",
    }


def _killed(found: KilledRound, rows: int) -> dict[str, str]:
    answers = found.round.answers
    return {
        "killed, and run again: seconds of the second run": _seconds(found.round),
        "rows missing": f"{rows - len(answers.answered):,}",
        "rows doubled": f"{len(answers.doubled()):,}",
        "answered before the kill, and paid again": f"{found.answered_again:,} of {found.answered:,}",
        "in flight at the kill, and paid again": f"{found.in_flight_again:,} of {found.in_flight:,}",
    }


def _troubled(found: Round, rows: int) -> dict[str, str]:
    answers, refused = found.answers, refused_rows(found)
    return {
        "5 % refused, 5 % throttled: seconds": _seconds(found),
        "rows refused by the provider": f"{len(refused):,}",
        "of them in the table, with no answer": f"{len(refused & set(answers.ids) - answers.answered):,}",
        "of them not in the table": f"{len(refused - set(answers.ids)):,}",
        "requests for each of them": f"{requests_per_refused_row(found):.1f}",
        "requests throttled": f"{faults(found)['429']:,}",
        "other rows without an answer": f"{rows - len(refused) - len(answers.answered - refused):,}",
    }


def _seconds(found: Round) -> str:
    if found.exit_code is None:
        return f"ended after {found.seconds:.0f}"
    return f"{found.seconds:.1f}" + (f" (exit code {found.exit_code})" if found.exit_code else "")


def _requests(found: Round) -> int:
    return found.others + sum(len(records) for records in found.requests.values())


def _markdown(columns: dict[str, dict[str, str]]) -> str:
    """Return a table with a column for each library, and a row for each figure."""
    head = ["", *columns]
    names = list(next(iter(columns.values()), {}))
    rows = [head, ["---"] * len(head), *([name, *(figures[name] for figures in columns.values())] for name in names)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    main()
