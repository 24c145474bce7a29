"""Sets up pyarrow, so that it returns memory to the system and does not import pandas."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import pyarrow as pa


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


def set_up_arrow() -> None:
    """Make pyarrow use the system's memory allocator, and keep it from importing pandas.

    pyarrow's own memory pool does not return memory, so memory use would grow with the input. And pyarrow would import
    pandas, which is not used here, when it first converts a list to an array. That takes 60 MB and half a second, in
    which no response is read. After this call pyarrow assumes that pandas is missing. Other code can still import it.
    """
    pa.set_memory_pool(pa.system_memory_pool())
    if "pandas" in sys.modules:
        return
    finder = _NoPandas()
    sys.meta_path.insert(0, finder)
    try:
        pa.array([0])
    finally:
        sys.meta_path.remove(finder)
