"""Sets up pyarrow, so that it returns memory to the system and does not import pandas."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_is_ours = _is_set_up = False


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


def keeps_pandas_out() -> bool:
    """Return whether pyarrow does not import pandas in this process, because `set_up_arrow` was called."""
    return _is_set_up


def set_up_arrow() -> None:
    """Make pyarrow use the system's memory allocator, and not import pandas, in a process of batchmix's own.

    pyarrow's own memory pool does not return memory, so memory use would grow with the input. And pyarrow would import
    pandas, which is not used here, when it first converts a list to an array. That takes 60 MB and half a second, in
    which no response is read. After this call pyarrow takes pandas for missing, for good. So a program that only calls
    batchmix is left as it is; see `arrow_build`.
    """
    global _is_set_up  # noqa: PLW0603 - as above
    if not _is_ours:
        return
    import pyarrow as pa

    _is_set_up = True
    pa.set_memory_pool(pa.system_memory_pool())
    if "pandas" in sys.modules:
        return
    finder = _NoPandas()
    sys.meta_path.insert(0, finder)
    try:
        pa.array([0])
    finally:
        sys.meta_path.remove(finder)
