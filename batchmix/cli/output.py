"""Prints and logs text, with secrets masked and control codes escaped."""

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

if TYPE_CHECKING:  # its imports would make `batchmix --help` half as slow again
    from batchmix.redact import Secrets

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
_secrets: Secrets | None = None
_shown_as: dict[str, str] = {}
_output_exit_code = 0


def hide_secrets(secrets: Secrets) -> None:
    """Mask these secrets in everything that is printed or logged from now on."""
    global _secrets  # noqa: PLW0603 - one process, one run, one set of secrets
    _secrets = secrets


def show_as(folder: object, name: str) -> None:
    """Print this name wherever a folder's path is printed from now on."""
    _shown_as[str(folder)] = name


def shown_name(path: object) -> str:
    """Return a path under the name that its folder is shown as."""
    text = str(path)
    for folder, name in _shown_as.items():
        text = text.replace(folder, name)
    return text


def printable(text: str) -> str:
    """Return text that is safe to print: secrets masked, control codes escaped."""
    return (
        _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", redacted_text(text)).encode("utf-8", "replace").decode()
    )


def redacted_text(text: str) -> str:
    """Return text with the secrets masked, and folders under the names that they are shown as."""
    text = shown_name(text)
    return text if _secrets is None else _secrets.redacted_text(text)


def escape_unencodable() -> None:
    """Make output print `\\x…` for characters that its encoding can't represent, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def output_exit_code() -> int:
    """Return the exit code for output that could not be written. 0 if all output was written."""
    return _output_exit_code


def echo(text: str = "") -> None:
    """Print to stdout."""
    _print(printable(text) + "\n")


def echo_json(value: Any) -> None:
    """Print JSON for scripts, with secrets masked.

    It is pure ASCII, so no text can send control codes to a terminal.
    """
    from batchmix.formats.lenient_json import finite  # only here, for the same reason

    _print(redacted_text(json.dumps(finite(value), indent=1, allow_nan=False)) + "\n")


def echo_raw(text: str) -> None:
    """Print text to stdout unchanged, for another program."""
    _print(text)


def echo_error(text: str) -> None:
    """Print to stderr."""
    _print(f"batchmix: {printable(text)}\n", err=True)


def _print(text: str, *, err: bool = False) -> None:
    """Print without raising errors. A write that fails only changes the exit code, because the run must go on."""
    global _output_exit_code  # noqa: PLW0603 - one process, one exit code
    try:
        click.echo(text, nl=False, err=err)
    except (OSError, ValueError) as error:
        stream = sys.stderr if err else sys.stdout
        if not err:
            _output_exit_code = 128 + signal.SIGPIPE if isinstance(error, BrokenPipeError) else Stopped.exit_code
        with contextlib.suppress(OSError, ValueError):  # the rest of the stream's buffer would fail again at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        if not err and not isinstance(error, BrokenPipeError):
            echo_error(f"the output could not be written: {getattr(error, 'strerror', None) or error}")


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def log_to_stderr(verbosity: int) -> None:
    """Log to stderr: warnings only at verbosity 0, events too at 1, and every detail at 2."""
    logging.raiseExceptions = False  # stderr may be closed
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    level = {0: logging.WARNING, 1: logging.INFO}.get(verbosity, logging.DEBUG)
    logging.basicConfig(level=level, handlers=[handler], force=True)
