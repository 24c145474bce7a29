"""The run's secrets, and the one way to take them out of whatever is kept, logged or shown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from urllib.parse import quote

from batchmix.errors import JobError
from batchmix.job import Provider

STARS = "***"
_SHORTEST = 8
"""Shorter values (`x`, `EMPTY`, `none` for a local server) are no secrets, and replacing them would spoil answers."""


class Secrets:
    """The API key and the header values of a run; prints as stars.

    `headers` is what to send; `redacted` and `redacted_text` return their argument with every secret replaced by
    `***`, also where it stands escaped for JSON or for a URL.
    """

    def __init__(self, key: str = "", headers: Mapping[str, str] | None = None) -> None:
        self.headers = dict(headers or {})
        if key:
            self.headers["Authorization"] = f"Bearer {key}"
        values = {key, *(headers or {}).values()}
        values |= {value.removeprefix("Bearer ").strip() for value in values}
        forms = {form for value in values for form in _forms(value) if len(value) >= _SHORTEST}
        self._texts = sorted(forms, key=len, reverse=True)
        self._bytes = [form.encode() for form in self._texts]

    def __repr__(self) -> str:
        return f"Secrets({STARS})"

    def redacted(self, data: bytes) -> bytes:
        """Return `data` without any secret; the same object where there is none in it."""
        for secret in self._bytes:
            if secret in data:
                data = data.replace(secret, STARS.encode())
        return data

    def redacted_text(self, text: str) -> str:
        """Return `text` without any secret."""
        for secret in self._texts:
            if secret in text:
                text = text.replace(secret, STARS)
        return text


def _forms(value: str) -> set[str]:
    return {
        value,
        json.dumps(value)[1:-1],
        json.dumps(value)[1:-1].replace("/", "\\/"),
        quote(value),
        quote(value, safe=""),
    }


def read_secrets(provider: Provider, environ: Mapping[str, str]) -> Secrets:
    """Return what the environment holds for a provider.

    Raises `JobError`, in words that hold no value, when a variable is missing, empty or can't be sent.
    """
    key = ""
    if provider.api_key_env and not provider.rehearsal:
        key = _variable(provider.api_key_env, "provider.api_key_env", environ)
    headers = {
        name: _variable(value.removeprefix("env:"), f"provider.headers.{name}", environ)
        if value.startswith("env:")
        else _sendable(value, f"provider.headers.{name}")
        for name, value in provider.headers.items()
    }
    return Secrets(key, headers)


def _variable(name: str, setting: str, environ: Mapping[str, str]) -> str:
    value = environ.get(name, "").strip()
    if not value:
        # A name in lower case may be a key that was pasted in the wrong place.
        shown = name if name.isupper() and len(name) < 40 else f"that {setting} names"
        raise JobError(
            f'the environment variable {shown} is not set; set it to your key, or set provider.api_key_env = "" where'
            " the server wants none"
        )
    return _sendable(value, setting)


def _sendable(value: str, setting: str) -> str:
    if not value.isascii() or not value.isprintable():
        raise JobError(f"{setting}: the value holds characters that can't stand in an HTTP header")
    return value
