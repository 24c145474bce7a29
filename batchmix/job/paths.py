"""Paths as people give them: in their full form, and those that are no paths of this machine refused."""

from __future__ import annotations

import os
import re
from pathlib import Path

from batchmix.errors import JobError

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
"""Two characters or more: `C:` is a drive."""
_COLLAPSED = re.compile(
    r"(s3[an]?|gs|gcs|az|adl|abfss?|wasbs?|hf|hdfs|dbfs|oss|r2|https?|s?ftp|ssh|file):/", re.IGNORECASE
)
"""What becomes of an address when it is taken for a path on its way here."""


def checked_local(path: str, what: str, do: str = "write to a folder here, then copy that there") -> str:
    """Return a path of this machine as it is. Raises `JobError`, which names `what`, for an address elsewhere
    and for nothing, which would be the folder where one is.
    """
    if not path.strip():
        raise JobError(f"{what}: is empty; in a shell, is the variable set that should be it?")
    found = _SCHEME.match(path) or _COLLAPSED.match(path)
    if found and ("://" in path or not os.path.lexists(found[0])):
        if found[1].lower() == "file":
            raise JobError(f"{what}: give the path itself, without {found[0]}")
        raise JobError(f"{what}: {found[0]} is not supported yet; {do}")
    if "\0" in path:
        raise JobError(f"{what}: holds a null character, which no path can")
    return path


def absolute(path: str, folder: Path, what: str) -> str:
    """Return a path in full; one that is not, from a folder on. Globs and links stay as they are."""
    try:
        return os.path.abspath(folder / Path(path).expanduser())  # noqa: PTH100 - keeps globs and links as they are
    except RuntimeError:
        raise JobError(f"{what}: {Path(path).parts[0]}: there is no such user") from None


def check_mode(mode: str | None) -> None:
    """Raise `JobError` for what are no permissions of files that their owner can read and write."""
    if mode is not None and not re.fullmatch(r"0?6[0246][0246]", mode):
        raise JobError(
            'output.mode: must be permissions of files such as "0640", with 6 for the owner; folders can be entered'
            " where their files can be read"
        )
