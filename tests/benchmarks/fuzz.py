"""Random bytes, random JSON and answers that went wrong, as bodies and as streams: python -m tests.benchmarks.fuzz.

Each must end as an answer or as a failure. What breaks that is printed with its case, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter

from tests.fuzzing import cases, outcome_of

_AT_ONCE = 1000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    counts: Counter[str] = Counter()
    for first in range(0, asked.cases, _AT_ONCE):
        for number, case in enumerate(cases(min(_AT_ONCE, asked.cases - first), asked.seed + first)):
            try:
                counts[f"{case.kind}: {outcome_of(case)}"] += 1
            except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
                counts["BROKEN"] += 1
                print(f"seed {asked.seed + first}, case {number}: {type(error).__name__}: {error}\n  {case!r:.2000}")
    for outcome, count in sorted(counts.items()):
        print(f"{count:8}  {outcome}")
    return 1 if counts["BROKEN"] else 0


if __name__ == "__main__":
    sys.exit(main())
