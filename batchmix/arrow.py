"""pyarrow without what it would bring along."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

import pyarrow as pa


class _NoPandas(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == "pandas":
            raise ImportError("left out while pyarrow looks for it")
        return None


def leave_pandas_out() -> None:
    """Keep pyarrow from importing pandas, which it does with the first array it makes of a list.

    Where pandas is installed that import takes half a second, in which no answer is read, and 60 MB; nothing here uses
    it. pyarrow remembers that it was not there; everybody else can still import it.
    """
    if "pandas" in sys.modules:
        return
    finder = _NoPandas()
    sys.meta_path.insert(0, finder)
    try:
        pa.array([0])
    finally:
        sys.meta_path.remove(finder)
