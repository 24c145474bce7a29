"""How much of their limits four lanes use that run beside each other: python -m tests.benchmarks.lanes [--seconds 60].

One stand-in on core 0 limits each of four models by itself, in requests a minute, and has saved up a minute's worth at the
start, or --burst seconds' worth. One run on core 1 is told the limits and asks all four. When what was saved up is used, what
the stand-in answers is held against the sum of the limits.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.killing import fetch, provider, write_rows

RPM = {"a": 600, "b": 1200, "c": 2400, "d": 4800}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="about how long it takes")
    parser.add_argument("--burst", type=float, default=60.0, help="seconds' worth that the limits save up")
    parser.add_argument("--untold", action="store_true", help="let the run find the limits out")
    args = parser.parse_args()
    os.sched_setaffinity(0, {0})  # what is started from here on, but for the run, stays there
    behaviour = f"latency=0.05-0.3&burst_s={args.burst}&" + "&".join(
        f"rpm[{model}]={rpm}" for model, rpm in RPM.items()
    )
    with tempfile.TemporaryDirectory() as folder, provider(behaviour) as url:
        measure(Path(folder), url, args.seconds, limits_set=not args.untold)


def measure(root: Path, url: str, seconds: float, *, limits_set: bool) -> None:
    """Print what each lane used of its limit, and all of them together."""
    write_rows(root / "rows.jsonl", round(max(RPM.values()) / 60 * (seconds + 120)))
    job = ['name = "lanes"\n[input]\npath = "rows.jsonl"\nprompt = "Say {{ text }}"\n']
    for model, rpm in RPM.items():
        limits = f"requests_per_minute = {rpm}, " if limits_set else ""
        job.append(f'[[models]]\nid = "{model}"\nlimits = {{ {limits}concurrency = 400 }}\n')
    (root / "job.toml").write_text("".join(job))
    call = [
        sys.executable,
        "-m",
        "batchmix",
        "run",
        "job.toml",
        "--base-url",
        url,
        "--out",
        "run",
        "--progress",
        "none",
    ]
    call += ["--set", "provider.api_key_env=", "--deadline", str(seconds)]
    process = subprocess.Popen(call, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.sched_setaffinity(process.pid, {1})
    process.wait()
    report(fetch(url, "ledger"), process.returncode)


def report(ledger: list[dict[str, object]], code: int) -> None:
    """Print the rates in the middle of the run, from the ledger."""
    begun = [float(str(record["begun"])) for record in ledger]
    first, last = min(begun), max(begun)
    start, end = first + 0.4 * (last - first), last - 0.1 * (last - first)
    used = dict.fromkeys(RPM, 0)
    for record in ledger:
        finished = record["finished"]
        if record["answered"] and finished is not None and start <= float(str(finished)) < end:
            used[str(record["model"])] += 1
    for model, rpm in RPM.items():
        print(f"{model}: {used[model] / (rpm / 60 * (end - start)):.1%} of {rpm:,} a minute")
    whole = sum(used.values()) / (sum(RPM.values()) / 60 * (end - start))
    refused = sum(record["kind"] == "throttled" for record in ledger) / len(ledger)
    print(f"all: {whole:.1%} of the sum of the limits, over {end - start:.0f} s; {refused:.2%} throttled; exit {code}")


if __name__ == "__main__":
    main()
