"""Prints the coverage of branches in a report of coverage.py, and fails below a bound in percent.

`python -m tests.branches REPORT.json BOUND`
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

_SHOWN = 10


def main(report: str, bound: str) -> int:
    """Print the figure and the modules with the most branches that no test takes; return the exit code."""
    coverage = json.loads(Path(report).read_text())
    missing = {name: file["summary"]["missing_branches"] for name, file in coverage["files"].items()}
    for name in sorted(missing, key=lambda name: -missing[name])[:_SHOWN]:
        print(f"{missing[name]:5} not taken in {name}")
    count, covered = coverage["totals"]["num_branches"], coverage["totals"]["covered_branches"]
    percent = 100 * covered / count
    print(f"{covered:,} of {count:,} branches are covered: {percent:.2f} %; at least {bound} % must be")
    return 0 if percent >= float(bound) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
