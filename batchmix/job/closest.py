"""Finds the existing name that is most similar to a mistyped one, for "did you mean" messages."""

from __future__ import annotations

import difflib
import itertools
import os
from collections.abc import Iterable
from pathlib import Path

_MAX_FILES = 2_000
"""The maximum number of files in a folder that are compared. In a larger folder the best match may be missed."""


def closest(name: str, names: Iterable[str]) -> str:
    """Return the most similar of `names`, or an empty text if none is similar."""
    near = difflib.get_close_matches(name, list(names), n=1)
    return near[0] if near else ""


def closest_file(path: Path, *suffixes: str) -> str:
    """Return the hint `; did you mean …?` with the most similarly named file in a folder. Empty if there is none.

    `path` is the file that does not exist. If suffixes are given, only files with one of them are considered.
    """
    try:
        with os.scandir(path.parent) as entries:
            names = [entry.name for entry in itertools.islice(entries, _MAX_FILES) if entry.is_file()]
    except OSError:
        return ""
    stems = {Path(name).stem: name for name in names if not suffixes or name.endswith(suffixes)}
    near = closest(path.stem, stems)
    return f"; did you mean {path.with_name(stems[near])}?" if near else ""
