"""Memory of a million rows against ten thousand, and the resume at 99 %: python -m tests.benchmarks.memory.

nginx answers with no latency. The big run is killed when 99 % of its parts are there; then it is started again against
the stand-in provider, which says when the first request came.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.servers import nginx
from tests.killing import command, fetch, provider


def write(path: Path, rows: int) -> None:
    with path.open("w") as file:
        file.writelines(json.dumps({"id": i, "text": f"question {i}"}) + "\n" for i in range(rows))


def peak_mb(call: list[str], out: Path, stop_at_parts: int | None = None) -> float:
    """Run a call, kill it when so many parts are there; return its peak memory."""
    process = subprocess.Popen(["taskset", "-c", "1", *call], stdout=subprocess.DEVNULL)
    while stop_at_parts is not None and process.poll() is None:
        if len(list((out / "data").glob("*.parquet"))) >= stop_at_parts:
            break
        time.sleep(0.05)
    if stop_at_parts is not None:
        process.kill()
    _, code, usage = os.wait4(process.pid, 0)
    process.returncode = code
    if code and stop_at_parts is None:
        sys.exit(f"exit code {os.waitstatus_to_exitcode(code)}")
    return usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, nginx() as server:
        root = Path(folder)
        small, big = root / "small.jsonl", root / "big.jsonl"
        write(small, 10_000)
        write(big, args.rows)
        more = ["--concurrency", "64", "--set", "name=memory"]
        little = peak_mb(command(server.url, small, root / "small", *more), root / "small")
        print(f"    10,000 rows: {little:.0f} MB", flush=True)
        parts = args.rows // 10_000
        much = peak_mb(command(server.url, big, root / "big", *more), root / "big", stop_at_parts=parts * 99 // 100)
        print(f"{args.rows:>10,} rows: {much:.0f} MB ({much - little:+.0f})", flush=True)
        with provider("") as standin:
            began = time.monotonic()
            subprocess.run(command(standin, big, root / "big", *more), stdout=subprocess.DEVNULL, check=True)
            ledger = fetch(standin, "ledger")
        first = min(record["begun"] for record in ledger) - began
        print(f"resumed at 99 %: first request after {first:.2f} s, {len(ledger):,} requests in all")
        shutil.rmtree(root / "big")


if __name__ == "__main__":
    main()
