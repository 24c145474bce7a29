"""Reads a provider's secrets from environment variables: the API key, and headers given as `env:NAME`."""

from __future__ import annotations

from collections.abc import Mapping

from batchmix.errors import JobError
from batchmix.job.values import Provider
from batchmix.redact import Secrets


def read_secrets(provider: Provider, environ: Mapping[str, str]) -> Secrets:
    """Return the API key and the headers of a provider.

    Raises `JobError` if a variable is missing or empty, or if its value can't be sent in an HTTP header. The message
    does not show the value.
    """
    key = ""
    if provider.api_key_env and not provider.rehearsal:
        key = _variable(provider.api_key_env, "provider.api_key_env", environ)
        if set(key) & set(" \t\"'"):
            raise JobError(
                "provider.api_key_env: the variable's value holds a blank or a quote, which no key does; set it without"
                " quotes and without Bearer (the value is not shown in case it is one)"
            )
    headers = {
        name: _variable(value.removeprefix("env:"), f"provider.headers.{name}", environ)
        if value.startswith("env:")
        else _sendable(value, f"provider.headers.{name}")
        for name, value in provider.headers.items()
    }
    return Secrets(key, headers)


def secrets_if_set(provider: Provider, environ: Mapping[str, str]) -> Secrets:
    """Return a provider's secrets, or empty secrets if they can't be read. For commands that send no requests."""
    try:
        return read_secrets(provider, environ)
    except JobError:
        return Secrets()


def _variable(name: str, setting: str, environ: Mapping[str, str]) -> str:
    value = environ.get(name, "").strip()
    if not value:
        # A name in lower case may be a key in the wrong place.
        shown = name if name.isupper() and len(name) < 40 else f"that {setting} names"
        raise JobError(
            f'the environment variable {shown} is not set; set it to your key, or set provider.api_key_env = "" where'
            " the server wants none"
        )
    return _sendable(value, setting)


def _sendable(value: str, setting: str) -> str:
    if not value.isascii() or not value.isprintable():
        raise JobError(f"{setting}: the value holds characters that an HTTP header can't hold")
    return value
