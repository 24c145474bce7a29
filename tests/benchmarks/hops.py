"""Count the functions and files that a row passes, from the input file to its part: `python -m tests.benchmarks.hops`.

A function counts when it is called at least once per row in a rehearsal run in which every request is answered at the
first attempt. Comprehensions and nested functions belong to the function around them. The rehearsal provider itself is
left out. The limits are what keeps the code readable: 80 functions in 22 files. They hold for a job with a template and
nothing else. The second count, of a job that also has prices, a budget and rate limits, is shown beside it.
"""

from __future__ import annotations

import collections
import json
import sys
import tempfile
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import batchmix
from batchmix.engine.run import Options, run_job
from batchmix.engine.run_status import RunStatus
from batchmix.job import read_job
from batchmix.redact import Secrets

ROWS = 3000
MOST_FUNCTIONS, MOST_FILES = 80, 22
FULL = {
    "prices": {"m": {"input": 1.0, "output": 1.0}},
    "budget": {"max_usd": 5.0},
    "limits": {"requests_per_minute": 100_000_000, "tokens_per_minute": 1_000_000_000},
}
"""Settings that every row passes too, and that never slow the run down."""
_PACKAGE = Path(batchmix.__file__).parent


def passed(rows: int = ROWS, **more: Any) -> dict[str, list[str]]:
    """Return the functions that each row passes, by file."""
    calls: collections.Counter[tuple[str, str]] = collections.Counter()

    def count(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            code = frame.f_code
            calls[code.co_filename, code.co_qualname.partition(".<locals>")[0]] += 1

    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "rows.jsonl")
        source.write_text("".join(json.dumps({"id": row, "n": row}) + "\n" for row in range(rows)))
        settings = {
            "model": "m",
            "input": {"path": str(source), "prompt": "{{ n }}"},
            "provider": {"base_url": "rehearsal:"},
            "output": {"path": str(Path(folder, "run"))},
            **more,
        }
        job = read_job(None, settings, {})
        threading.setprofile(count)
        sys.setprofile(count)
        try:
            run_job(job, Secrets(), Options(), RunStatus())
        finally:
            sys.setprofile(None)
            threading.setprofile(None)  # type: ignore[arg-type]
    found: dict[str, list[str]] = {}
    for (file, function), count_ in sorted(calls.items()):
        path = Path(file)
        if count_ >= rows and path.is_relative_to(_PACKAGE) and "rehearsal" not in path.parts:
            found.setdefault(str(path.relative_to(_PACKAGE)), []).append(f"{function} ({count_ / rows:.1f})")
    return found


def main() -> int:
    """Print the counts; return 1 if they exceed the limits."""
    files = passed()
    for file, functions in files.items():
        print(f"{file}: {', '.join(functions)}")
    count = sum(map(len, files.values()))
    print(f"{count} functions (at most {MOST_FUNCTIONS}) in {len(files)} files (at most {MOST_FILES})")
    full = passed(**FULL)
    print(f"{sum(map(len, full.values()))} in {len(full)} with prices, a budget and rate limits")
    return int(count > MOST_FUNCTIONS or len(files) > MOST_FILES)


if __name__ == "__main__":
    sys.exit(main())
