"""pyarrow as it is used here: without what it would bring along, and giving memory back."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import pyarrow as pa


def compute() -> Any:
    """Return `pyarrow.compute`. It takes 30 ms to import, and a run whose input is no Parquet does without."""
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
    """Let pyarrow take memory from the system, and keep it from importing pandas.

    Its own pool keeps what it once took, so that memory would grow with the input. And with the first array that it
    makes of a list it imports pandas: where that is installed it takes half a second, in which no answer is read, and
    60 MB; nothing here uses it. pyarrow remembers that it was not there; everybody else can still import it.
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
