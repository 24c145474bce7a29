"""Sets up pyarrow, so that it returns memory to the system and does not import pandas."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_is_ours = False


def compute() -> Any:
    """Return `pyarrow.compute`. It takes 30 ms to import, so it is imported only when it is needed."""
    import pyarrow.compute

    return pyarrow.compute


class _NoPandas(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == "pandas":
            raise ImportError("left out while pyarrow looks for it")
        return None


def claim_process() -> None:
    """Declare that this process is batchmix's own, so that `set_up_arrow` may change pyarrow for all its code."""
    global _is_ours  # noqa: PLW0603 - it is a property of the process
    _is_ours = True


def set_up_arrow() -> None:
    """Make pyarrow use the system's memory allocator, and not import pandas, in a process of batchmix's own.

    pyarrow's own memory pool does not return memory, so memory use would grow with the input. And pyarrow would import
    pandas, which is not used here, when it first converts a list to an array. That takes 60 MB and half a second, in
    which no response is read. After this call pyarrow takes pandas for missing, for good. So in a program that only
    calls batchmix, pyarrow imports pandas, where it is installed, but here and not while responses come in.
    """
    import pyarrow as pa

    if not _is_ours:
        pa.array([0])
        return
    pa.set_memory_pool(pa.system_memory_pool())
    if "pandas" in sys.modules:
        return
    finder = _NoPandas()
    sys.meta_path.insert(0, finder)
    try:
        pa.array([0])
    finally:
        sys.meta_path.remove(finder)
