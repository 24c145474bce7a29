"""Keeps the runs that a user has pinned as baselines in `baselines.json`, beside the run folders.

A pinned run is the baseline of its job until a later run is better, or the pin is taken off. That it was pinned stays
on record: from then on its level was the accepted one.
"""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from batchmix.errors import RunError
from batchmix.formats.run_times import precise_now_text
from batchmix.formats.text import json_file
from batchmix.store.filesystem import PRIVATE, is_ours, replace_file

FILE = "baselines.json"
_VERSION = 1


class Pins(msgspec.Struct):
    """The pinned runs of one job."""

    pinned: str | None = None
    """The run that is pinned now, as a path relative to the folder of the run folders. None if none is."""
    since: str = ""
    """When it was pinned. Only a run that is evaluated after that can take its place."""
    accepted: list[str] = []
    """All runs that ever were pinned, the latest last."""


class _PinFile(msgspec.Struct):
    jobs: dict[str, Pins] = {}
    version: int = _VERSION
    written_by: str = "batchmix"


def read_pins(root: Path, name: str) -> Pins:
    """Return the pinned runs of a job in an output root. Raises `RunError` if the file can't be read."""
    return _read(root / FILE).jobs.get(name, Pins())


def is_pinned(folder: Path, name: str) -> bool:
    """Return whether a run is the pinned baseline of its job, as far as that can be read."""
    try:
        pinned = read_pins(folder.resolve().parent, name).pinned
    except RunError:
        return False
    return pinned is not None and folder.resolve().parent / pinned == folder.resolve()


def pinned_jobs(root: Path) -> dict[str, str]:
    """Return the pinned run of each job that has one, by the job's name. Raises `RunError`."""
    return {name: pins.pinned for name, pins in _read(root / FILE).jobs.items() if pins.pinned is not None}


def pin(root: Path, name: str, run: str | None, mode: int = PRIVATE) -> str | None:
    """Pin a run of a job, or with None take the pin off. Return the run that was pinned before.

    Raises `RunError` if the file is not batchmix's own, and `NoSpace` or `DiskError`.
    """
    path = root / FILE
    if not is_ours(path, _is_pin_file):
        raise RunError(f"{path}: was not written by batchmix; move it away")
    content = _read(path)
    pins = content.jobs.setdefault(name, Pins())
    before, pins.pinned, pins.since = pins.pinned, run, precise_now_text()
    if run is not None:
        pins.accepted = [*(one for one in pins.accepted if one != run), run]
    replace_file(path, json_file(msgspec.to_builtins(content)), mode)
    return before


def _read(path: Path) -> _PinFile:
    try:
        content = msgspec.json.decode(path.read_bytes(), type=_PinFile)
    except FileNotFoundError:
        return _PinFile()
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RunError(
            f"{path}: can't be read: {error}; put a good copy back, or remove it and pin the run again with batchmix"
            " baseline"
        ) from error
    if content.version != _VERSION:
        raise RunError(f"{path}: was written by another version of batchmix")
    return content


def _is_pin_file(path: Path) -> bool:
    content = json.loads(path.read_bytes())
    return isinstance(content, dict) and content.get("written_by") == "batchmix"
