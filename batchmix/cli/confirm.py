"""Asks the user a yes/no question, if there is a terminal."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Iterator

from batchmix.cli.output import echo_error
from batchmix.engine.signals import SignalExit

_WITHIN_S = 60.0
"""Seconds to wait for the answer."""


def confirmed(question: str, within_s: float = _WITHIN_S) -> bool:
    """Show a question and return whether the user confirms. No answer within `within_s` seconds counts as no.

    The result is False at once if standard input or error is not a terminal. The same goes for a process in the
    background of its shell, because the system stops such a process when it reads from the terminal. A notebook looks
    like a terminal, so there the question times out.
    """
    if not _is_interactive():
        return False
    ignored = (signal.SIGTTIN, signal.SIGTTOU)  # a read in the background then fails instead of stopping the process
    before = [signal.signal(number, signal.SIG_IGN) for number in ignored]
    try:
        with _signal_descriptor() as signalled:
            return _read_answer(question, time.monotonic() + within_s, signalled)
    except SignalExit:
        sys.stderr.write("\n")  # start the next message on a new line
        raise
    finally:
        for number, handler in zip(ignored, before, strict=True):
            signal.signal(number, handler)


def _is_interactive() -> bool:
    try:
        return os.isatty(0) and os.isatty(2) and os.tcgetpgrp(0) == os.getpgrp()
    except OSError:  # this terminal does not control our session
        return False


@contextlib.contextmanager
def _signal_descriptor() -> Iterator[int]:
    """Yield a file descriptor that is readable once a signal has arrived.

    Python runs a signal handler between two instructions. One that is due just before `select` would otherwise wait
    until `select` returns.
    """
    reader, writer = os.pipe()
    try:
        os.set_blocking(writer, False)
        before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        try:
            yield reader
        finally:
            signal.set_wakeup_fd(before)
    finally:
        os.close(writer)
        os.close(reader)


def _read_answer(question: str, until: float, signalled: int) -> bool:
    while True:
        sys.stderr.write(f"{question} [y/N]: ")
        sys.stderr.flush()
        if not _wait_for_input(until, signalled):
            sys.stderr.write("\n")
            echo_error("no answer in time counts as no")
            return False
        try:
            answer = os.read(0, 4096).decode(errors="replace").strip().casefold()
        except OSError:  # the process is in the background now, or the terminal was closed
            return False
        if answer in {"y", "yes", "", "n", "no"}:
            return answer in {"y", "yes"}


def _wait_for_input(until: float, signalled: int) -> bool:
    """Wait until standard input is readable. Return False if it is not in time. Signal handlers run meanwhile."""
    while ready := select.select([0, signalled], [], [], max(0.0, until - time.monotonic()))[0]:
        if 0 in ready:
            return True
        os.read(signalled, 4096)  # the handler has run by now
    return False
