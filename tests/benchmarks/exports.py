"""Peak memory and time of each format of an export, for a long run beside a short one; and of an Arrow input.

python -m tests.benchmarks.exports [--rows 1000000]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
from pyarrow import ipc

FORMATS = {
    "parquet": ["out.parquet"],
    "jsonl": ["out.jsonl"],
    "csv": ["out.csv"],
    "columns, where": ["some.parquet", "--columns", "row,response=draft", "--where", "{{ status == 'ok' }}"],
    "where nothing matches": ["none.parquet", "--where", "{{ status == 'failed' }}"],
    "openai-finetune": ["tune.jsonl", "--format", "openai-finetune"],
    "sharegpt": ["share.jsonl", "--format", "sharegpt"],
    "hf": ["dataset", "--format", "hf"],
}
BATCH_ROWS = 1000


def finished_run(root: Path, rows: int) -> tuple[Path, float]:
    """Run an Arrow file against the rehearsal provider; return the run folder, and the seconds that it took."""
    schema = pa.schema([("text", pa.string()), ("n", pa.int64())])
    with ipc.new_stream(root / "rows.arrow", schema) as writer:
        for first in range(0, rows, BATCH_ROWS):
            numbers = range(first, min(first + BATCH_ROWS, rows))
            writer.write_batch(pa.record_batch([[f"words of row {n}" for n in numbers], list(numbers)], schema=schema))
    start = time.perf_counter()
    command = [
        "run",
        str(root / "rows.arrow"),
        "--model",
        "m",
        "--prompt",
        "Say {{ text }}",
        "--out",
        str(root / "run"),
    ]
    # In a process of its own: what this process has taken counts as the peak of those that it starts.
    subprocess.run(
        [sys.executable, "-m", "batchmix", *command, "--base-url", "rehearsal:", "--progress", "none"],
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return root / "run", time.perf_counter() - start


def measured(run: Path, arguments: list[str]) -> tuple[float, float]:
    """Export a run in a process of its own; return its peak memory in MB and its seconds."""
    file, *options = arguments
    start = time.perf_counter()
    command = [sys.executable, "-m", "batchmix", "export", str(run), str(run.parent / file), *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    return usage.ru_maxrss / 1024, time.perf_counter() - start


def main() -> None:
    """Print a line for each format."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as short, tempfile.TemporaryDirectory() as long:
        runs = [finished_run(Path(short), 10_000), finished_run(Path(long), rows)]
        print(f"runs of 10,000 and {rows:,} rows: {runs[0][1]:.0f} s and {runs[1][1]:.0f} s")
        for name, arguments in FORMATS.items():
            (small, _), (large, seconds) = (measured(run, arguments) for run, _ in runs)
            print(f"{name:24} {small:5.0f} MB  {large:5.0f} MB  {seconds:6.1f} s")


if __name__ == "__main__":
    main()
