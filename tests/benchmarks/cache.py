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
import statistics
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

from tests.killing import command, provider

PREFIX_TOKENS = 4000
PRICE = (1.0, 1.0)
WORDS = ["river", "stone", "quiet", "amber", "window", "north", "garden", "signal"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    print(f"{'job':44} {'cost':>7} {'not waiting':>12} {'later by':>9}   (cost as a multiple of the least possible)")
    for name, documents, behaviour in JOBS:
        results = [measured(documents, behaviour) for _ in range(args.rounds)]
        cost, without, later_s = (statistics.median(column) for column in zip(*results, strict=True))
        kept = "" if cost <= 1.03 and later_s <= 10 else "  <- NOT KEPT"
        print(f"{name:44} {cost:7.3f} {without:12.3f} {later_s:7.1f} s{kept}", flush=True)


JOBS = [
    ("1,000 rows with one prefix", 1, "cache=automatic&latency=1-2"),
    ("the same, answers in 3 to 5 s", 1, "cache=automatic&latency=3-5"),
    ("the same, the cache lags by 0.5 s", 1, "cache=automatic&latency=1-2&cache_lag_s=0.5"),
    ("the same, a tenth of the requests fail", 1, "cache=automatic&latency=1-2&500=0.1"),
    ("10 documents, 100 questions each", 10, "cache=automatic&latency=1-2"),
    ("no cache at all", 1, "latency=1-2"),
]
"""Each job with its number of documents, and the options of the provider."""


def measured(documents: int, behaviour: str) -> tuple[float, float, float]:
    """Return the cost with waiting and without, as multiples of the least, and how much longer waiting takes."""
    with tempfile.TemporaryDirectory() as root:
        rows = write_rows(Path(root) / "rows.jsonl", documents)
        runs = []
        for wait_s in ("8", "0"):
            with provider(f"{behaviour}&price={PRICE[0]}-{PRICE[1]}") as url:
                more = ["--concurrency", "128", "--set", "name=cache", "--set", f"cache.wait_s={wait_s}"]
                out = Path(root) / f"run{wait_s}"
                began = time.monotonic()
                subprocess.run(command(url, rows, out, *more), check=True, capture_output=True)
                took_s = time.monotonic() - began
                with urllib.request.urlopen(f"{url}/dashboard/billing/usage") as response:
                    billed = json.load(response)["total_usage"] / 100
                runs.append((billed, took_s, least_usd(out, documents, behaviour)))
    (billed, took_s, least), (billed_at_once, took_at_once_s, _) = runs
    return billed / least, billed_at_once / least, took_s - took_at_once_s


def write_rows(path: Path, documents: int) -> Path:
    """Write 1,000 rows: each question to each document in turn."""
    texts = [document(number) for number in range(documents)]
    with path.open("w") as file:
        for number in range(1000):
            file.write(json.dumps({"text": f"{texts[number % documents]}\n\nQuestion {number}?"}) + "\n")
    return path


def document(number: int) -> str:
    """Return a text of 4,000 tokens of four bytes each."""
    words = (WORDS[(at * at + number * (at % 7)) % len(WORDS)] for at in range(PREFIX_TOKENS))
    return f"Document {number}: {' '.join(words)}"[: PREFIX_TOKENS * 4]


def least_usd(out: Path, documents: int, behaviour: str) -> float:
    """Return the cost if each document is written once, and read by all other rows in whole blocks of 128 tokens."""
    summary = json.loads((out / "summary.json").read_text())
    read = (1000 - documents) * (PREFIX_TOKENS // 128 * 128) * ("cache=" in behaviour)
    return (summary["prompt_tokens"] - read * 0.5 + summary["completion_tokens"]) * PRICE[0] / 1e6


if __name__ == "__main__":
    main()
