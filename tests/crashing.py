"""`python -m tests.crashing N …` runs batchmix, and kills it right before it changes a file for the N-th time.

If batchmix exits by itself, it made fewer than N changes.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any

import pyarrow.parquet as pq

from batchmix.cli import main

CHANGES = [
    "mkdir",
    "rename",
    "replace",
    "unlink",
    "rmdir",
    "ftruncate",
    "posix_fallocate",
    "fsync",
    "fdatasync",
    "pwrite",
    "write",
]


class Countdown:
    """Kills the process right before the N-th counted call, in whichever thread that is made."""

    def __init__(self, left: int) -> None:
        self._left = left
        self._lock = threading.Lock()

    def before(self, owner: Any, name: str, *, counts: Any = lambda *args: True) -> None:
        """Count the calls of a function for whose arguments `counts` returns True."""
        real = getattr(owner, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            if counts(*args):
                with self._lock:
                    self._left -= 1
                    if self._left == 0:
                        os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        setattr(owner, name, counted)


if __name__ == "__main__":
    countdown = Countdown(int(sys.argv.pop(1)))
    for change in CHANGES:
        countdown.before(os, change)
    countdown.before(os, "open", counts=lambda path, flags, *_: bool(flags & os.O_CREAT))
    countdown.before(pq.ParquetWriter, "write_table")
    countdown.before(pq.ParquetWriter, "close")
    main()
