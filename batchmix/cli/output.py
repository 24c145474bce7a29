"""What goes to a terminal: without secrets, and without control codes from rows or answers."""

from __future__ import annotations

import json
import logging
import re
import sys
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:  # what it imports would make `batchmix --help` take half as long again
    from batchmix.redact import Secrets

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
_secrets: Secrets | None = None


def keep_secret(secrets: Secrets) -> None:
    """Let nothing that is printed or logged from now on show these."""
    global _secrets  # noqa: PLW0603 - one process, one run, one set of secrets
    _secrets = secrets


def shield(text: str) -> str:
    """Return text as it may be shown."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", _redacted(text)).encode("utf-8", "replace").decode()


def _redacted(text: str) -> str:
    return text if _secrets is None else _secrets.redacted_text(text)


def say(text: str = "") -> None:
    """Print to stdout."""
    click.echo(shield(text))


def say_json(value: Any) -> None:
    """Print JSON for a script; in ASCII, so that no text in it can reach a terminal raw."""
    click.echo(_redacted(json.dumps(value, indent=1)))


def complain(text: str) -> None:
    """Print to stderr."""
    click.echo(f"batchmix: {shield(text)}", err=True)


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return shield(super().format(record))


def log_to_stderr(verbosity: int) -> None:
    """Log warnings, with 1 what happens, with 2 every detail."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    level = {0: logging.WARNING, 1: logging.INFO}.get(verbosity, logging.DEBUG)
    logging.basicConfig(level=level, handlers=[handler], force=True)
