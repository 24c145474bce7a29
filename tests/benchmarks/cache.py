"""What a job costs with a prompt cache, beside the least possible: python -m tests.benchmarks.cache [--rounds 3].

The real command asks the rehearsal provider, in a process of its own, which plays the prompt caches of OpenAI and of Claude:
a prompt is in the cache once its answer has ended, and a request that arrives earlier pays in full. Each job runs as it is,
and with `cache.wait_s = 0`, so that nothing waits for the first answer. The cost is what the provider says that it billed.
The least possible cost has each prefix written once and read by all other rows. It may be passed by 3 %, and the job may
take 10 s longer than without waiting.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import NamedTuple

from batchmix.engine.reader import results
from tests.killing import command, provider

REQUESTS, PREFIX_TOKENS = 1000, 4000
PRICE = (1.0, 1.0)
WORDS = ["river", "stone", "quiet", "amber", "window", "north", "garden", "signal"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    print(f"{'job':44} {'cost':>7} {'not waiting':>12} {'later by':>9}   (cost as a multiple of the least possible)")
    for job in JOBS:
        results = [measured(job) for _ in range(args.rounds)]
        cost, without, later_s = (statistics.median(column) for column in zip(*results, strict=True))
        kept = "" if cost <= job.most and later_s <= 10 else "  <- NOT KEPT"
        print(f"{job.name:44} {cost:7.3f} {without:12.3f} {later_s:7.1f} s{kept}", flush=True)


class Job(NamedTuple):
    """A job of 1,000 requests, and the provider that answers it."""

    name: str
    behaviour: str
    documents: int = 1
    """The number of different prefixes."""
    in_order: bool = False
    """Whether the rows of a document follow each other."""
    samples: int = 1
    model: str = "m"
    most: float = 1.03
    """What it may cost, as a multiple of the least."""


JOBS = [
    Job("1,000 rows with one prefix", "cache=automatic&latency=1-2"),
    Job("the same, answers in 3 to 5 s", "cache=automatic&latency=3-5"),
    Job("the same, first answer after cache.wait_s", "cache=automatic&latency=10-12", most=math.inf),
    Job("the same, the cache lags by 0.5 s", "cache=automatic&latency=1-2&cache_lag_s=0.5"),
    Job("the same, a tenth of the requests fail", "cache=automatic&latency=1-2&500=0.1"),
    Job("the same, Claude, marked", "cache=marked&latency=1-2", model="claude-x"),
    Job("10 documents, 100 questions each", "cache=automatic&latency=1-2", 10),
    Job("10 documents one after the other", "cache=automatic&latency=1-2", 10, in_order=True),
    Job("10 documents one after the other, Claude", "cache=marked&latency=1-2", 10, in_order=True, model="claude-x"),
    Job("125 documents, 8 samples each", "cache=automatic&latency=1-2", 125, samples=8),
    Job("no cache at all", "latency=1-2"),
]


def measured(job: Job) -> tuple[float, float, float]:
    """Return the cost with waiting and without, as multiples of the least, and how much longer waiting takes."""
    with tempfile.TemporaryDirectory() as root:
        rows = write_rows(Path(root) / "rows.jsonl", job)
        runs = []
        for wait_s in ("8", "0"):
            with provider(f"{job.behaviour}&price={PRICE[0]}-{PRICE[1]}") as url:
                more = ["--concurrency", "128", "--set", "name=cache", "--set", f"cache.wait_s={wait_s}"]
                more += ["--model", job.model, "--set", "cache.mark=5m", "--set", f"samples={job.samples}"]
                out = Path(root) / f"run{wait_s}"
                began = time.monotonic()
                subprocess.run(command(url, rows, out, *more), check=True, capture_output=True)
                took_s = time.monotonic() - began
                with urllib.request.urlopen(f"{url}/dashboard/billing/usage") as response:
                    billed = json.load(response)["total_usage"] / 100
                runs.append((billed, took_s))
        least = least_usd(Path(root) / "run8", job)
    (billed, took_s), (billed_at_once, took_at_once_s) = runs
    return billed / least, billed_at_once / least, took_s - took_at_once_s


def write_rows(path: Path, job: Job) -> Path:
    """Write the rows: a question to each document in turn, or all questions to one document after another."""
    texts = [document(number) for number in range(job.documents)]
    count = REQUESTS // job.samples
    with path.open("w") as file:
        for number in range(count):
            which = number * job.documents // count if job.in_order else number % job.documents
            file.write(json.dumps({"text": f"{texts[which]}\n\nQuestion {number}?"}) + "\n")
    return path


def document(number: int) -> str:
    """Return a text of 4,000 tokens of four bytes each."""
    words = (WORDS[(at * at + number * (at % 7)) % len(WORDS)] for at in range(PREFIX_TOKENS))
    return f"Document {number}: {' '.join(words)}"[: PREFIX_TOKENS * 4]


def least_usd(out: Path, job: Job) -> float:
    """Return the cost if each document is written once, and all other requests read as much of it as any has read."""
    summary = json.loads((out / "summary.json").read_text())
    read = max(max(batch["cached_tokens"].to_pylist()) for batch in results(out, ["cached_tokens"]))
    readers = REQUESTS - job.documents
    if "cache=marked" in job.behaviour:
        saved = readers * read * 0.9 - job.documents * read * 0.25
    else:
        saved = readers * read * 0.5
    return (summary["prompt_tokens"] - saved + summary["completion_tokens"]) * PRICE[0] / 1e6


if __name__ == "__main__":
    main()
