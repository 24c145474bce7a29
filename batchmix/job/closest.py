"""What a person may have meant by a name that is not there."""

from __future__ import annotations

import difflib
import itertools
import os
from collections.abc import Iterable
from pathlib import Path

_MOST = 2_000
"""Files of a folder that are looked at."""


def closest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Return the nearest of the names that there are, or empty text."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return near[0] if near else ""


def closest_file(path: Path, *suffixes: str) -> str:
    """Return `; did you mean …?` with the file in the same folder whose name is nearest, or empty text.

    With suffixes only files that end so are meant.
    """
    try:
        with os.scandir(path.parent) as entries:
            there = [entry.name for entry in itertools.islice(entries, _MOST) if entry.is_file()]
    except OSError:
        return ""
    stems = {Path(name).stem: name for name in there if not suffixes or name.endswith(suffixes)}
    near = closest(path.stem, stems)
    return f"; did you mean {path.with_name(stems[near])}?" if near else ""
