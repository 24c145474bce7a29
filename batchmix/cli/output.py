"""What goes to a terminal: without secrets, and without control codes from rows or answers."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import re
import signal
import sys
from typing import TYPE_CHECKING, Any

import click

from batchmix.errors import Stopped

if TYPE_CHECKING:  # what it imports would make `batchmix --help` take half as long again
    from batchmix.redact import Secrets

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
_secrets: Secrets | None = None
_lost = 0


def keep_secret(secrets: Secrets) -> None:
    """Let nothing that is printed or logged from now on show these."""
    global _secrets  # noqa: PLW0603 - one process, one run, one set of secrets
    _secrets = secrets


def shield(text: str) -> str:
    """Return text as it may be shown."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", _redacted(text)).encode("utf-8", "replace").decode()


def _redacted(text: str) -> str:
    return text if _secrets is None else _secrets.redacted_text(text)


def make_total() -> None:
    """Let nothing that is printed from now on fail for what it says: a terminal is shown a `\\x` for what it can't."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def lost_output() -> int:
    """Return the exit code for output that could not be printed; 0 where all of it was."""
    return _lost


def say(text: str = "") -> None:
    """Print to stdout."""
    _print(shield(text) + "\n")


def say_json(value: Any) -> None:
    """Print JSON for a script; in ASCII, so that no text in it can reach a terminal raw."""
    _print(_redacted(json.dumps(value, indent=1)) + "\n")


def say_exactly(text: str) -> None:
    """Print to stdout what another program is to read, character by character."""
    _print(text)


def complain(text: str) -> None:
    """Print to stderr."""
    _print(f"batchmix: {shield(text)}\n", err=True)


def _print(text: str, *, err: bool = False) -> None:
    """Print, or take note that nobody reads it: how a run ended goes before that."""
    global _lost  # noqa: PLW0603 - one process, one exit code
    try:
        click.echo(text, nl=False, err=err)
    except (OSError, ValueError) as error:
        stream = sys.stderr if err else sys.stdout
        if not err:
            _lost = 128 + signal.SIGPIPE if isinstance(error, BrokenPipeError) else Stopped.exit_code
        with contextlib.suppress(OSError, ValueError):  # what is left in its buffer would fail again at the very end
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        if not err and not isinstance(error, BrokenPipeError):
            complain(f"the output can't be written: {getattr(error, 'strerror', None) or error}")


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return shield(super().format(record))


def log_to_stderr(verbosity: int) -> None:
    """Log warnings, with 1 what happens, with 2 every detail."""
    logging.raiseExceptions = False  # nobody reads it any more
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    level = {0: logging.WARNING, 1: logging.INFO}.get(verbosity, logging.DEBUG)
    logging.basicConfig(level=level, handlers=[handler], force=True)
