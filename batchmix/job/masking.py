"""What may hold a secret, by its name, is not repeated where a job is shown or written down."""

from __future__ import annotations

import re
from typing import Any

MASK = "***"
SECRET_NAME = re.compile(
    r"(?:.*[_.-])?(?:api[_-]?key|access[_-]?key|private[_-]?key|secret(?:[_-]?key)?|passw(?:or)?d|authorization"
    r"|credentials?|cookie|(?:access|auth|api|bearer|refresh|session)[_-]?token)|token",
    re.IGNORECASE,
)
_USER = re.compile(r"(?<=://)[^/@\s]*@")
_QUERY = re.compile(r"(?<=[?&])([\w.-]*)=([^&#\s]*)")


def masked(value: Any) -> Any:
    """Return JSON-able values with stars for each text whose key is a secret's."""
    if isinstance(value, dict):
        return {
            key: MASK if isinstance(inner, str) and inner and SECRET_NAME.fullmatch(key) else masked(inner)
            for key, inner in value.items()
        }
    return [masked(inner) for inner in value] if isinstance(value, list | tuple) else value


def masked_url(url: str) -> str:
    """Return an address without the user in it, and without the keys in its query."""

    def parameter(found: re.Match[str]) -> str:
        name, value = found[1], found[2]
        secret = value and (name.lower() == "key" or SECRET_NAME.fullmatch(name))
        return f"{name}={MASK if secret else value}"

    return _QUERY.sub(parameter, _USER.sub(f"{MASK}@", url))
