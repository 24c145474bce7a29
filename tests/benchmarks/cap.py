"""How near a run comes to its cap with 500 in flight, killed on the way: python -m tests.benchmarks.cap [--seeds 20].

For each seed the real command asks a stand-in, in a process of its own, with a cap that is worth about 60 % of the rows.
Answers differ in length by seed. It is killed (SIGKILL) after a random while, twice, and started again, until it ends at
its cap with exit code 3. What the stand-in says that it billed, answers that nobody heard among it, may pass the cap by what
the requests in flight at the end, and those lost in kills, turned out more expensive than the mean. At least 90 % of the cap
must have been used, by the run's own account: it counts what was lost in a kill, which the stand-in does not bill where it
had not answered yet. With --kills 0 both accounts are the same.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

from batchmix.engine.reader import results
from tests.killing import command, provider

IN_FLIGHT, ROWS = 500, 6000
PRICE = (100.0, 400.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--kills", type=int, default=2)
    args = parser.parse_args()
    bad = 0
    for seed in range(args.seeds):
        with tempfile.TemporaryDirectory() as root:
            bad += not measure(seed, args.kills, Path(root))
    print(f"{args.seeds - bad} of {args.seeds} kept their caps and used 90 % of them or more")


def measure(seed: int, kills: int, root: Path) -> bool:
    """Run one seed to its budget, print the result, and return whether it keeps the promise."""
    rng = random.Random(seed)
    words = rng.choice([5, 20, 60, 150])
    rows = ROWS * 20 // (20 + words) + 5 * IN_FLIGHT
    with (root / "rows.jsonl").open("w") as file:
        for number in range(rows):
            file.write(json.dumps({"text": f"{number} " + "word " * rng.randint(1, 30)}) + "\n")
    cap = round(0.6 * rows * (20 * PRICE[0] + words * PRICE[1]) / 1e6, 2)
    more = ["--concurrency", str(IN_FLIGHT), "--set", f"budget.max_usd={cap}", "--set", "name=cap"]
    more += ["--set", f"prices.m={{input={PRICE[0]}, output={PRICE[1]}}}"]
    more += [["--set", f"params.max_tokens={4 * words}"], []][seed % 2]
    with provider(f"seed={seed}&words={words}&latency=0.3-1.5&price={PRICE[0]}-{PRICE[1]}") as url:
        call = command(url, root / "rows.jsonl", root / "run", *more)
        code, killed = until_spent(call, rng, kills)
        time.sleep(1.5)  # what was lost in the last kill is billed when its latency has passed
        with urllib.request.urlopen(f"{url}/dashboard/billing/usage") as response:
            billed = json.load(response)["total_usage"] / 100
    summary = json.loads((root / "run" / "summary.json").read_text())
    used = sum(summary[name] for name in ("cost_usd", "billed_retries_usd", "maybe_billed_usd"))
    costs = [cost for batch in results(root / "run", ["sent_at", "cost_usd"]) for cost in costs_of(batch)]
    mean = sum(cost for _, cost in costs) / max(1, len(costs))
    last = [cost for _, cost in sorted(costs)[-IN_FLIGHT:]]
    error = sum(max(0.0, cost - mean) for cost in last) * (1 + killed)
    kept = code == 3 and billed <= cap + error and used >= 0.9 * cap
    print(
        f"seed {seed:2}: {len(costs)} of {rows} rows, cap ${cap:.2f}, used {used / cap:.1%}, billed"
        f" {billed / cap:.1%}, may be passed by {error / cap:.1%}, {killed} kills, exit {code}{'' if kept else '  <- NOT KEPT'}",
        flush=True,
    )
    return kept


def until_spent(call: list[str], rng: random.Random, kills: int) -> tuple[int, int]:
    """Run the command until it exits by itself, with some kills; return the exit code and the number of kills."""
    killed = 0
    while True:
        process = subprocess.Popen(call, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            return process.wait(rng.uniform(1.2, 3.0) if killed < kills else 300), killed
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            killed += 1


def costs_of(batch: object) -> list[tuple[object, float]]:
    """Return when each answer was requested, and its cost."""
    rows = batch.to_pylist()  # type: ignore[attr-defined]
    return [(row["sent_at"], row["cost_usd"]) for row in rows if row["cost_usd"] is not None]


if __name__ == "__main__":
    main()
