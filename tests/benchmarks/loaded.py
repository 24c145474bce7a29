"""Run the tests while other work takes the machine: python -m tests.benchmarks.loaded [--loops 4] [pytest's arguments].

Busy loops run beside the tests, at most for half an hour. A test that fails here and not alone holds something to the
clock that it should not.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

_LOOP = "import time\nuntil = time.monotonic() + 1800\nwhile time.monotonic() < until: pass"


def main() -> int:
    """Return the exit code of pytest."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loops", type=int, default=4, metavar="N", help="how many busy loops (default: 4)")
    arguments, rest = parser.parse_known_args()
    loops = [subprocess.Popen([sys.executable, "-c", _LOOP]) for _ in range(arguments.loops)]
    try:
        call = [sys.executable, "-m", "pytest", "-q", "-n", str(1 + (os.cpu_count() or 1)), *rest]
        return subprocess.run(call, check=False).returncode
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


if __name__ == "__main__":
    sys.exit(main())
