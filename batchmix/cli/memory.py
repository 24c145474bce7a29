"""How the process takes memory; settled before any library is imported that takes some."""

from __future__ import annotations

import contextlib
import ctypes
import os

_M_ARENA_MAX = -8
"""In glibc's malloc.h."""


def spare_memory() -> None:
    """Let all threads share one heap, and pyarrow's C++ parts take from it too.

    With 2,000 requests in flight a run then takes 140 MB; glibc's heaps for each thread and jemalloc, which pyarrow
    brings along, keep 20 to 70 MB more.
    """
    with contextlib.suppress(AttributeError, OSError):  # other C libraries have no such setting
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
