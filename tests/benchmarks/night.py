"""A bad night: python -m tests.benchmarks.night [--rows 20000] [--outage 120] [--stream].

Twenty thousand rows against a stand-in that answers 3 % with 500 and 2 % with 503, cuts 1 % of the bodies and 0.2 % of
the streams, hangs on 0.5 %, and sends web pages for 0.5 %; in the middle it is down for two minutes, and the run is
killed once. Every row has to end with its answer, none may be asked for again that was answered whole, retries are at
most 1.2 times the faults, and the run ends within 10 s of its last answer. It takes some four minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from tests.killing import Outcome, command, compare_ledger, fetch, provider, write_rows

FAULTS = "500=0.03&503=0.02&cut=0.01&hang=0.005&html=0.005"
KILLED_AFTER_S, DOWN_AFTER_S = 8.0, 14
HANGS_S = 5
CONCURRENCY = 200
MAYBE_BILLED = ("hang", "cut", "stream_ends")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--outage", type=int, default=120, metavar="S", help="how long it is down")
    parser.add_argument("--stream", action="store_true", help="ask for streams")
    args = parser.parse_args()
    behaviour = f"latency=0.1-0.4&seed=3&{FAULTS}&outage={DOWN_AFTER_S}:{args.outage}"
    if args.stream:
        behaviour += "&stream_ends=0.002"
    with tempfile.TemporaryDirectory() as folder, provider(behaviour) as url:
        rows, out = Path(folder) / "rows.jsonl", Path(folder) / "out"
        write_rows(rows, args.rows)
        more = [
            "--concurrency",
            str(CONCURRENCY),
            "--set",
            f"timeouts.total_s={HANGS_S}",
            "--set",
            "output.shard_rows=2000",
        ]
        more += ["--set", "params.stream=true"] if args.stream else []
        call = command(url, rows, out, *more)
        began = time.monotonic()
        process = subprocess.Popen(call, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(KILLED_AFTER_S)
            sys.exit("the run was over before it could be killed")
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            killed_at = time.monotonic()
            process.wait()
        done = subprocess.run(call, capture_output=True, text=True, check=False)
        took_s, ended_ms = time.monotonic() - began, time.time() * 1000
        print(f"exit {done.returncode} after {took_s:.0f} s {done.stderr}".rstrip())
        checks = report(url, out, args.rows, killed_at, ended_ms)
    checks["it ends with 0"] = done.returncode == 0
    for promise, kept in checks.items():
        print(f"{'kept' if kept else 'BROKEN'}: {promise}")
    sys.exit(not all(checks.values()))


def report(url: str, out: Path, rows: int, killed_at: float, ended_ms: float) -> dict[str, bool]:
    """Print the results of the run, by the provider's ledger, and return which promises were kept."""
    account = fetch(url, "account")
    table = pq.read_table(out / "data", columns=["row", "status", "attempts", "maybe_billed", "finished_at"])
    answered = pc.sum(pc.equal(table["status"], "ok")).as_py()
    end_s = (ended_ms - pc.max(table["finished_at"]).as_py().timestamp() * 1000) / 1000
    faults = sum(account["faults"].values())
    retries = account["retries"]
    kills = Outcome()
    compare_ledger(kills, url, [killed_at])
    billed = sum(account["faults"].get(kind, 0) for kind in MAYBE_BILLED)
    counted = pc.sum(table["maybe_billed"]).as_py()
    summary = json.loads((out / "summary.json").read_text())["maybe_billed"]
    print(f"{answered:,} of {rows:,} rows answered, {table.num_rows:,} rows in the result")
    print(f"{account['requests']:,} requests, {faults:,} faults: {account['faults']}")
    print(f"{retries:,} requests for what had come before without an answer: {retries / faults:.2f} times the faults")
    print(
        f"answers asked for again: {len(kills.repeated)} {kills.repeated[:5]}; {kills.late} that left as the kill came"
    )
    print(
        f"maybe billed: {counted:,} in the rows, {summary:,} in the summary; {billed:,} hung or were cut, the rest was killed"
    )
    print(f"from the last answer to the end: {end_s:.1f} s")
    return {
        "every row has its answer, in order": answered == rows and table["row"].to_pylist() == list(range(rows)),
        "no answer is asked for twice": not kills.repeated,
        "retries are at most 1.2 times the faults": retries <= 1.2 * faults,
        "what may have been billed is counted": billed <= counted == summary <= billed + CONCURRENCY,
        "it ends within 10 s of its last answer": end_s <= 10,
    }


if __name__ == "__main__":
    main()
