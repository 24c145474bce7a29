"""How near to a provider's limits a run comes, told them and not: python -m tests.benchmarks.limits.

First the cases of `tests.benchmarks.gateways` with llmock, told its limits and not. Then two runs share the stand-in's
limit, which nobody told them; the second starts five seconds after the first. What each is given is counted over the
second minute. All in all it takes four and a half minutes.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from pathlib import Path

from tests.benchmarks.gateways import CASES, RPM, show
from tests.killing import command, provider, status, write_rows


def main() -> None:
    for case in CASES:
        if case.is_llmock:
            show(case, 1)
    with tempfile.TemporaryDirectory() as root:
        share(Path(root))


def share(root: Path) -> None:
    """Print the share of a limit that each of two runs got."""
    write_rows(root / "rows.jsonl", 20_000)
    outs = [root / "first", root / "second"]
    with provider(f"latency=0.5-1.5&rpm={RPM}&burst_s=5") as url:
        running = []
        try:
            for out in outs:
                running.append(subprocess.Popen(command(url, root / "rows.jsonl", out), stderr=subprocess.DEVNULL))
                time.sleep(5)
            time.sleep(55)
            before, began = [status(out)["ok"] for out in outs], time.monotonic()
            time.sleep(60)
            after, passed = [status(out)["ok"] for out in outs], time.monotonic() - began
        finally:
            for process in running:
                process.terminate()
            for process in running:
                process.wait()
    given = [late - early for early, late in zip(before, after, strict=True)]
    used = sum(given) / (RPM / 60 * passed)
    shares = " and ".join(f"{each / sum(given):.0%}" for each in given)
    print(f"shared    {shares} of what was answered, {used:.0%} of the limit used", flush=True)


if __name__ == "__main__":
    main()
