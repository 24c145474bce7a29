"""Masks values whose names suggest a secret, before a job or a command is shown or written to a file."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from batchmix.redact import MASK, Secrets

SECRET_NAME = re.compile(
    r"(?:.*[_.-])?(?:api[_-]?key|access[_-]?key|private[_-]?key|secret(?:[_-]?key)?|passw(?:or)?d|authorization"
    r"|credentials?|cookie|(?:access|auth|api|bearer|refresh|session)[_-]?token)|token",
    re.IGNORECASE,
)
_USER = re.compile(r"(?<=://)[^/@\s]*@")
_QUERY = re.compile(r"(?<=[?&])([\w.-]*)=([^&#\s]*)")


def masked(value: Any) -> Any:
    """Return a JSON value in which the text under each key that suggests a secret, such as `api_key`, is masked."""
    if isinstance(value, dict):
        return {
            key: MASK if isinstance(inner, str) and inner and SECRET_NAME.fullmatch(key) else masked(inner)
            for key, inner in value.items()
        }
    return [masked(inner) for inner in value] if isinstance(value, list | tuple) else value


def masked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers with their values masked, except for the names of variables, which are no secrets."""
    return {name: value if value.startswith("env:") else MASK for name, value in headers.items()}


def masked_paths(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the path of each setting that `masked`, `masked_headers` or `masked_url` has masked."""
    if path == ("answer", "schema"):
        return
    if isinstance(value, Mapping | list):
        for key, inner in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from masked_paths(inner, (*path, key))
    elif path == ("provider", "base_url"):
        if MASK in str(value):
            yield path
    elif value == MASK and (path[:2] == ("provider", "headers") or SECRET_NAME.fullmatch(str(path[-1]))):
        yield path


def redacted_paths(value: Any, secrets: Secrets, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the path of each text in nested settings that contains one of the secrets."""
    if isinstance(value, Mapping | list):
        for key, inner in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from redacted_paths(inner, secrets, (*path, key))
    elif isinstance(value, str) and secrets.redacted_text(value) != value:
        yield path


def masked_url(url: str) -> str:
    """Return a URL with the user, the password, and the secrets in the query masked."""

    def parameter(match: re.Match[str]) -> str:
        name, value = match[1], match[2]
        secret = value and (name.lower() == "key" or SECRET_NAME.fullmatch(name))
        return f"{name}={MASK if secret else value}"

    return _QUERY.sub(parameter, _USER.sub(f"{MASK}@", url))


def shown_call(arguments: Iterable[str]) -> str:
    """Return a command line with header values and possible secrets masked, so that it can be shown and logged."""
    shown: list[str] = []
    setting = False
    for argument in arguments:
        option, equals, value = argument.partition("=")
        if setting:
            shown.append(_shown_setting(argument))
        elif option == "--set" and equals:
            shown.append(f"--set={_shown_setting(value)}")
        else:
            shown.append(masked_url(argument))
        setting = argument == "--set"
    return shlex.join(shown)


def _shown_setting(setting: str) -> str:
    key, equals, value = setting.partition("=")
    names = [name.strip().strip("\"'") for name in key.split(".")]
    of_headers = names[0] == "provider" and names[1:2] in ([], ["headers"])
    if (of_headers and not value.startswith("env:")) or any(map(SECRET_NAME.fullmatch, names)):
        return f"{key}{equals}{MASK}"
    return f"{key}{equals}{masked_url(_INLINE.sub(_shown_inline, value))}"


_INLINE = re.compile(r"""(["']?)([\w.-]+)\1(\s*[=:]\s*)("(?:[^"\\]|\\.)*"|'[^']*')""")
"""Matches a key with a quoted text value, in an inline TOML table or a JSON object."""


def _shown_inline(match: re.Match[str]) -> str:
    quote, name, between, _ = match.groups()
    return f'{quote}{name}{quote}{between}"{MASK}"' if SECRET_NAME.fullmatch(name) else match[0]
