"""Recognises the objects of libraries that batchmix does not import itself."""

from __future__ import annotations

import sys
from typing import Any


def is_from(value: Any, library: str, *classes: str) -> bool:
    """Return whether a value is an instance of one of a library's classes.

    The library is not imported: as long as nobody has imported it, no object of it exists.
    """
    module = sys.modules.get(library)
    found = [getattr(module, name, None) for name in classes]
    return isinstance(value, tuple(each for each in found if isinstance(each, type)))


def type_shown(value: Any) -> str:
    """Return the full name of a value's type, for a message."""
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
