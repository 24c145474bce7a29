"""Settings on the command line, `--set KEY=VALUE`, and how later settings replace earlier ones."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from typing import Any

from batchmix.errors import JobError
from batchmix.job.table import KeyPath, dotted, type_at

_TEXTS = (str, str | None)
_LOOSE = re.compile(r"[+-]?(?:\.\d+|\d+\.|nan|infinity)|true|false", re.IGNORECASE)
"""Numbers and booleans in forms that TOML does not have."""
_NOTHING = ("null", "None")
_LIKE_JSON = re.compile(r"\{.*:|\[.*,|.*\"", re.DOTALL)
"""Text that looks like an object or a list, whose quotes the shell may have removed."""
_FORM = "--set takes KEY=VALUE with a dotted key, such as --set limits.concurrency=64"


def parse_setting(text: str) -> dict[str, Any]:
    """Return `limits.concurrency=64` as `{"limits": {"concurrency": 64}}`. Raises `JobError`.

    A text setting takes the value as it is. All others take a TOML value, or an object or a list in JSON; `.5`, `True`
    and `null` are also read as JSON and Python mean them. Any other value is a text.
    """
    key, equals, value = text.partition("=")
    path = _key(key) if equals else ()
    if not path:
        raise JobError(_FORM)
    nested = _value(path, value)
    for name in reversed(path):
        nested = {name: nested}
    given: dict[str, Any] = nested
    return given


def merge_settings(settings: list[dict[str, Any]]) -> dict[str, Any]:
    """Return nested settings as one; later ones replace earlier ones."""
    together: dict[str, Any] = {}
    for setting in settings:
        together = merged(together, setting)
    return together


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested settings in which others replace those of the same key."""
    together = dict(below)
    for key, value in above.items():
        old = together.get(key)
        together[key] = merged(old, value) if isinstance(old, dict) and isinstance(value, Mapping) else value
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
    found = _toml(text)
    if type_at(path) in _TEXTS:
        return found if isinstance(found, str) else text
    if text in _NOTHING:
        return None
    if found is None and text.lstrip()[:1] in {"{", "["}:
        found = _json(path, text)
    if found is None and _LOOSE.fullmatch(text):
        found = text.lower() == "true" if text.lower() in ("true", "false") else float(text)
    return text if found is None else found


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
