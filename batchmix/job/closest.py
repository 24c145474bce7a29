"""What a person may have meant by a name that does not exist."""

from __future__ import annotations

import difflib
import itertools
import os
from collections.abc import Iterable
from pathlib import Path

_MAX_FILES = 2_000
"""Files of a folder that are compared; in a larger one the right one may be missed."""


def closest(name: str, names: Iterable[str], cutoff: float = 0.6) -> str:
    """Return the name that is most like another, or an empty text; `cutoff` is the least likeness, from 0 to 1."""
    near = difflib.get_close_matches(name, list(names), n=1, cutoff=cutoff)
    return near[0] if near else ""


def closest_file(path: Path, *suffixes: str) -> str:
    """Return `; did you mean …?` with the file of the same folder whose name is most like, or an empty text.

    With suffixes, only files with one of these count.
    """
    try:
        with os.scandir(path.parent) as entries:
            names = [entry.name for entry in itertools.islice(entries, _MAX_FILES) if entry.is_file()]
    except OSError:
        return ""
    stems = {Path(name).stem: name for name in names if not suffixes or name.endswith(suffixes)}
    near = closest(path.stem, stems)
    return f"; did you mean {path.with_name(stems[near])}?" if near else ""
