"""Parses settings from the command line (`--set KEY=VALUE`), and merges nested settings."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any

from batchmix.errors import JobError
from batchmix.job.table import KeyPath, dotted, type_at

_TEXTS = (str, str | None)
_LOOSE = re.compile(r"[+-]?(?:\.\d+|\d+\.|nan|infinity)|true|false", re.IGNORECASE)
"""Matches numbers and booleans that are not valid TOML, such as `.5` and `True`."""
_NOTHING = ("null", "None")
_LIKE_JSON = re.compile(r"\{.*:|\[.*,|.*\"", re.DOTALL)
"""Matches text that looks like a JSON object or list from which the shell may have removed the quotes."""
_WHOLE = ("answer", "schema")
"""The setting whose table replaces another one: two schemas together are a third one that nobody wrote."""
_FORM = "--set takes KEY=VALUE with a dotted key, such as --set limits.concurrency=64"


def parse_setting(text: str) -> dict[str, Any]:
    """Parse a setting: `limits.concurrency=64` becomes `{"limits": {"concurrency": 64}}`.

    The value of a text setting is taken literally. For other settings, a TOML value, or a JSON object or list, is
    parsed; `.5`, `True` and `null` are accepted too. Any other value is taken as text. Raises `JobError` if the key is
    not valid, or if the value is malformed JSON.
    """
    key, equals, value = text.partition("=")
    path = _key(key) if equals else ()
    if not path:
        raise JobError(_FORM)
    setting = _value(path, value)
    for name in reversed(path):
        setting = {name: setting}
    given: dict[str, Any] = setting
    return given


def nested(key: str, value: Any) -> dict[str, Any]:
    """Return nested settings with one setting, whose key has dots, as in `limits.concurrency`."""
    for name in reversed(key.split(".")):
        value = {name: value}
    settings: dict[str, Any] = value
    return settings


def setting_in(settings: Mapping[str, Any], path: KeyPath) -> Any:
    """Return a setting in nested settings, None if it is not there. An item of a list is found if the list is there."""
    given: Any = settings
    for key in path:
        if not isinstance(given, Mapping):
            break  # settings replace a list as a whole
        given = given.get(key)
    return given


def merge_settings(settings: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Merge several nested settings. Later settings override earlier ones."""
    together: dict[str, Any] = {}
    for setting in settings:
        together = merged(together, setting)
    return together


def merged(below: Mapping[str, Any], above: Mapping[str, Any], path: KeyPath = ()) -> dict[str, Any]:
    """Return the nested settings `below`, extended and overridden by the settings in `above`. `path` leads to both."""
    together = dict(below)
    for key, value in above.items():
        old, at = together.get(key), (*path, key)
        joined = isinstance(old, dict) and isinstance(value, Mapping) and at != _WHOLE
        together[key] = merged(old or {}, value, at) if joined else value
    return together


def _key(text: str) -> tuple[str, ...]:
    try:
        table = tomllib.loads(f"{text.strip()} = 0")
    except tomllib.TOMLDecodeError:
        return ()
    path: list[str] = []
    inside: Any = table
    while isinstance(inside, dict) and len(inside) == 1:
        path += inside
        inside = inside[path[-1]]
    return tuple(path) if inside == 0 else ()


def _value(path: KeyPath, text: str) -> Any:
    value = _toml(text)
    if type_at(path) in _TEXTS:
        return value if isinstance(value, str) else text
    if text in _NOTHING:
        return None
    if value is None and text.lstrip()[:1] in {"{", "["}:
        value = _json(path, text)
    if value is None and _LOOSE.fullmatch(text):
        value = text.lower() == "true" if text.lower() in ("true", "false") else float(text)
    return text if value is None else value


def _toml(text: str) -> Any:
    try:
        table = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return None
    return table["value"] if len(table) == 1 else None


def _json(path: KeyPath, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        if not _LIKE_JSON.match(text.lstrip()):
            return None
        setting, mark = f"--set {dotted(path)}", text.lstrip()[:1]
        raise JobError(
            f"{setting}: is neither JSON nor TOML: {error}; in a shell, put JSON in single quotes,"
            f""" {setting}='{{"key": …}}', and a text that begins like that needs both, {setting}='"{mark}…"'"""
        ) from None
