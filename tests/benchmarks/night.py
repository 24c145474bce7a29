"""A bad night: python -m tests.benchmarks.night [--rows 20000] [--outage 120] [--stream].

Twenty thousand rows against a stand-in that answers 3 % with 500 and 2 % with 503, cuts 1 % of the bodies and 0.2 % of
the streams, hangs on 0.5 %, and sends web pages for 0.5 %; in the middle it is down for two minutes, and the run is
killed once. Every row has to end with its answer, none may be asked for again that was answered whole, retries are at
most 1.2 times the faults, and the run ends within 10 s of its last answer. It takes some four minutes.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from tests.killing import command, fetch, provider, write_rows

FAULTS = "500=0.03&503=0.02&cut=0.01&hang=0.005&html=0.005"
KILLED_AFTER_S, DOWN_AFTER_S = 8.0, 14
HANGS_S = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--outage", type=int, default=120, metavar="S", help="how long it is down")
    parser.add_argument("--stream", action="store_true", help="ask for streams")
    asked = parser.parse_args()
    behaviour = f"latency=0.1-0.4&seed=3&{FAULTS}&outage={DOWN_AFTER_S}:{asked.outage}"
    if asked.stream:
        behaviour += "&stream_ends=0.002"
    with tempfile.TemporaryDirectory() as folder, provider(behaviour) as url:
        rows, out = Path(folder) / "rows.jsonl", Path(folder) / "out"
        write_rows(rows, asked.rows)
        more = ["--concurrency", "200", "--set", f"timeouts.total_s={HANGS_S}", "--set", "output.shard_rows=2000"]
        more += ["--set", "params.stream=true"] if asked.stream else []
        call = command(url, rows, out, *more)
        began = time.monotonic()
        process = subprocess.Popen(call, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(KILLED_AFTER_S)
            sys.exit("the run was over before it could be killed")
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        done = subprocess.run(call, capture_output=True, text=True, check=False)
        ended_ms = time.time() * 1000
        report(url, out, asked.rows, ended_ms)
        print(f"exit {done.returncode} after {time.monotonic() - began:.0f} s")
        if done.returncode:
            print(done.stderr)


def report(url: str, out: Path, rows: int, ended_ms: float) -> None:
    """Print what the night came to."""
    account = fetch(url, "account")
    table = pq.read_table(out / "data", columns=["status", "attempts", "maybe_billed", "finished_at"])
    answered = pc.sum(pc.equal(table["status"], "ok")).as_py()
    last_ms = pc.max(table["finished_at"]).as_py().timestamp() * 1000
    faults = sum(account["faults"].values())
    print(f"{answered:,} of {rows:,} rows answered, {table.num_rows:,} rows in the result")
    print(f"{account['requests']:,} requests, {faults:,} faults: {account['faults']}")
    retries = account["requests"] - rows
    print(f"retries {retries:,}: {retries / faults:.2f} times the faults (and what the kill cut off)")
    print(f"asked for again although answered whole: {account['again']}")
    print(f"maybe billed for nothing: {pc.sum(table['maybe_billed']).as_py()}")
    print(f"from the last answer to the end: {(ended_ms - last_ms) / 1000:.1f} s")


if __name__ == "__main__":
    main()
