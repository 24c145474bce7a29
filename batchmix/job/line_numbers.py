"""Where a job's parameters stand, for a person who is to change one: tomllib keeps no lines."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

KeyPath = tuple[str | int, ...]
"""The keys that lead to a setting; items of lists go by their number."""
_CLOSES = re.compile(r"\"\"\"|'''|[\]}]")
"""One of these stands in the last line of a value over several lines."""


class Places:
    """Where each parameter was given: in the job's file (`job.toml:12`), or by `--set`, which goes before it."""

    def __init__(self, file: Path | None, text: str, settings: Mapping[str, Any]) -> None:
        self._file = file
        self._lines = lines_of(text)
        self._settings = settings

    def of(self, at: KeyPath) -> str:
        """Return where a setting was given, as a message begins with it: `job.toml:12: `; empty for one of a call."""
        given: Any = self._settings
        for key in at:
            given = given.get(key) if isinstance(given, Mapping) else None
        within = [line for path, line in self._lines.items() if path[: len(at)] == at]
        above = [self._lines[at[:end]] for end in range(len(at) - 1, 0, -1) if at[:end] in self._lines]
        line = next(iter(within + above), None)
        if given is not None or self._file is None:
            return ""
        return f"{self._file}: " if line is None else f"{self._file}:{line}: "

    def of_job(self) -> dict[str, str]:
        """Return the places of what stands in `[params]`."""
        return self._in_file("params") | {key: f"--set params.{key}" for key in self._settings.get("params", {})}

    def of_entry(self, number: int) -> dict[str, str]:
        """Return the places of the `params` of one of `[[models]]`."""
        given = self._settings.get("models")
        if given is None:
            return self._in_file("models", number, "params")
        return dict.fromkeys(given[number].get("params", {}), "--set models")  # a list is given as a whole

    def _in_file(self, *table: str | int) -> dict[str, str]:
        return {str(at[-1]): f"{self._file}:{line}" for at, line in self._lines.items() if at[:-1] == table}


def lines_of(text: str) -> dict[KeyPath, int]:
    """Return the line, from 1, on which each key of a valid TOML document is set.

    What stands inside a value has the line on which that begins.
    """
    lines: dict[KeyPath, int] = {}
    lists: dict[KeyPath, int] = {}
    table: KeyPath = ()
    for line, source, statement in _statements(text):
        if source.lstrip().startswith("["):
            table = _table(statement, lists)
            lines.setdefault(table, line)
        else:
            for path in _paths(statement):
                lines.setdefault(table + path, line)
    return lines


def _statements(text: str) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Yield each statement with its first line: a header or a setting is a whole document when it stands alone."""
    first, source = 1, ""
    for line, piece in enumerate(text.split("\n"), 1):
        if source and not _CLOSES.search(piece):
            source += piece + "\n"
            continue
        source += piece + "\n"
        try:
            yield first, source, tomllib.loads(source)
        except tomllib.TOMLDecodeError:
            continue
        first, source = line + 1, ""


def _table(header: dict[str, Any], lists: dict[KeyPath, int]) -> KeyPath:
    """Return where a header leads; `lists` holds the number of the last item of each list so far."""
    path: KeyPath = ()
    value: Any = header
    while value:
        key, value = next(iter(value.items()))
        path += (key,)
        if isinstance(value, list):
            value = value[0]
            lists[path] = lists.get(path, -1) + 1
        if path in lists:
            path += (lists[path],)
    return path


def _paths(value: Any) -> Iterator[KeyPath]:
    """Yield the paths of all keys and items in a value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in inner:
        yield (key,)
        for path in _paths(below):
            yield (key, *path)
