"""Reads a job's TOML file, explains syntax errors, and finds the line of each setting, which tomllib does not keep."""

from __future__ import annotations

import codecs
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from batchmix.errors import JobError
from batchmix.job.closest import closest_file
from batchmix.job.settings import setting_in
from batchmix.job.table import KeyPath

_BEFORE, _SHOWN = 50, 72
"""How many characters of a line with a syntax error are shown: at most 72, of which at most 50 before the error."""
_MAY_BE_A_KEY = re.compile(r"(?=[^\s\"']*\d)[\w-]{12,}")
_TOML_HINTS = {
    "Invalid value": "; put a text in quotes",
    "Illegal character '\\n'": "; is a closing quote missing?",
}
_CLOSES = re.compile(r"\"\"\"|'''|[\]}]")
"""The marks that end a value over several lines. A line without such a mark can't be the last line of the value."""


def read_toml(path: Path) -> tuple[str, dict[str, Any]]:
    """Return a TOML file's text and its parsed values.

    Raises `JobError`, whose message starts with a colon, so that the caller can put the file's name in front.
    """
    text = _read_text(path)
    return text, parse_toml(text)


def _read_text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise JobError(f": no such job file{closest_file(path, '.toml')}") from None
    except IsADirectoryError:
        raise JobError(": is a folder; a job is a file that ends in .toml") from None
    except (OSError, ValueError) as error:
        raise JobError(f": can't read the job file: {getattr(error, 'strerror', None) or error}") from error
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise JobError(": is UTF-16 text; save it as UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise JobError(f":{line}: is not UTF-8 text") from error
    return text.replace("\r\n", "\n")


def parse_toml(text: str) -> dict[str, Any]:
    """Return the values of a TOML document. Raises `JobError`, whose message starts with a colon."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise JobError(_shown(str(error), text)) from error
    except RecursionError as error:
        raise JobError(": is nested too deeply") from error


def _shown(reason: str, text: str) -> str:
    """Return the message for a syntax error, which shows the line of the error. Possible API keys are masked."""
    what, at, place = reason.partition(" (at ")
    match = re.fullmatch(r"line (\d+), column (\d+)\)", place)
    lines = text.split("\n")
    number, column = (int(match[1]), int(match[2])) if match else (len(lines), len(lines[-1]) + 1)
    if not at:
        return f": is not valid TOML: {reason}"
    line = lines[number - 1] if number <= len(lines) else ""
    begin = max(0, min(column - 1, len(line)) - _BEFORE)
    piece = _MAY_BE_A_KEY.sub(lambda run: "*" * len(run[0]), line.replace("\t", " "))[begin : begin + _SHOWN]
    hint = _TOML_HINTS.get(what, "")
    return f":{number}: is not valid TOML: {what}{hint}\n  {piece}\n  {' ' * (column - 1 - begin)}^"


class Places:
    """Finds where a setting was given: in the job file (`job.toml:12`), or in `settings`, which override the file.

    `option` stands before a setting of `settings`, such as `--set `.
    """

    def __init__(self, file: Path | None, text: str, settings: Mapping[str, Any], option: str) -> None:
        self._file = file
        self._lines = lines_of(text)
        self._settings = settings
        self._option = option

    def prefix_for(self, path: KeyPath) -> str:
        """Return the location prefix for a message about a setting, such as `job.toml:12: `.

        Empty if `settings` gave the setting.
        """
        within = [line for other, line in self._lines.items() if other[: len(path)] == path]
        above = [self._lines[path[:end]] for end in range(len(path) - 1, 0, -1) if path[:end] in self._lines]
        line = next(iter(within + above), None)
        if setting_in(self._settings, path) is not None or self._file is None:
            return ""
        return f"{self._file}: " if line is None else f"{self._file}:{line}: "

    def of_job(self) -> dict[str, str]:
        """Return where each parameter under `[params]` was given."""
        return self._in_file("params") | {
            key: f"{self._option}params.{key}" for key in self._settings.get("params", {})
        }

    def of_entry(self, number: int) -> dict[str, str]:
        """Return where each parameter of one table of `[[models]]` was given."""
        given = self._settings.get("models")
        if given is None:
            return self._in_file("models", number, "params")
        return dict.fromkeys(
            given[number].get("params", {}), f"{self._option}models"
        )  # `settings` replaces a list as a whole

    def _in_file(self, *table: str | int) -> dict[str, str]:
        return {str(path[-1]): f"{self._file}:{line}" for path, line in self._lines.items() if path[:-1] == table}


def lines_of(text: str) -> dict[KeyPath, int]:
    """Return the line number, counted from 1, of each key in a valid TOML document.

    A key inside a value, such as an inline table, has the line on which that value begins.
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
    """Yield each statement's first line, source and parsed value. Every single statement is valid TOML by itself."""
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
    """Return the path of the table that a header opens.

    `lists` holds the index of the last item of each array of tables so far, and is updated.
    """
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
    """Yield the paths of all keys and list items within a value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in inner:
        yield (key,)
        for path in _paths(below):
            yield (key, *path)
