"""Kill a run of 5,000 rows a hundred times, over several seeds: python -m tests.benchmarks.kills [--kills 100]."""

from __future__ import annotations

import argparse
import signal
import tempfile
from pathlib import Path

from tests.killing import command, fetch, kill_until_done, provider, results, write_rows

BEHAVIOUR = "latency=0.05-0.2&seed=7"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--rows", type=int, default=5000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, provider(BEHAVIOUR) as url:
        root = Path(folder)
        write_rows(root / "rows.jsonl", args.rows)
        more = ["--concurrency", "200", "--set", "output.shard_rows=1000", "--set", "name=kills"]
        reference = kill_until_done(
            [command(url, root / "rows.jsonl", root / "whole", *more)], url, root / "whole", 0, wait=(600, 600)
        )
        assert not reference.kills
        expected = results(root / "whole")
        total, seed = 0, 0
        late = again = unnamed = 0
        for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
            total = 0
            while total < (args.kills if number == signal.SIGKILL else args.kills // 5):
                seed += 1
                fetch(url, "reset", "")
                out = root / f"run-{seed}"
                outcome = kill_until_done(
                    [command(url, root / "rows.jsonl", out, *more)], url, out, seed, number=number
                )
                assert results(out).equals(expected), f"seed {seed}: the results differ"
                total += outcome.kills
                late, again, unnamed = (
                    late + outcome.late,
                    again + len(outcome.repeated),
                    unnamed + len(outcome.unnamed),
                )
                print(f"{signal.Signals(number).name} seed {seed}: {outcome}", flush=True)
                if number != signal.SIGKILL:
                    assert outcome.late == 0, "a drained run asked again"
        print(f"asked again: {again} that left 25 ms or more before a kill, {late} later ones; not named: {unnamed}")


if __name__ == "__main__":
    main()
