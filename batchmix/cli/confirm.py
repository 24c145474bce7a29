"""A question to whoever sits there, asked only where somebody can answer."""

from __future__ import annotations

import os
import select
import signal
import sys
import time

from batchmix.cli.output import complain
from batchmix.engine.signals import SignalExit

_WITHIN_S = 60.0


def says_yes(question: str, within_s: float = _WITHIN_S) -> bool:
    """Ask, and return whether the answer is a yes; no answer in time is a no.

    Nobody is asked, and the answer is no, where standard input or error is no terminal, or where it belongs to another
    job of the shell: who reads from it in the background is stopped. A notebook's terminal looks like one at which
    somebody sits; there the time is what ends it.
    """
    if not _somebody_there():
        return False
    ignored = (signal.SIGTTIN, signal.SIGTTOU)  # a read then fails, instead of stopping us for ever
    before = [signal.signal(number, signal.SIG_IGN) for number in ignored]
    try:
        return _answer(question, time.monotonic() + within_s)
    except SignalExit:
        sys.stderr.write("\n")  # what is said next stands on a line of its own
        raise
    finally:
        for number, handler in zip(ignored, before, strict=True):
            signal.signal(number, handler)


def _somebody_there() -> bool:
    try:
        return os.isatty(0) and os.isatty(2) and os.tcgetpgrp(0) == os.getpgrp()
    except OSError:  # it is no terminal of ours
        return False


def _answer(question: str, until: float) -> bool:
    while True:
        sys.stderr.write(f"{question} [y/N]: ")
        sys.stderr.flush()
        if not select.select([0], [], [], max(0.0, until - time.monotonic()))[0]:
            sys.stderr.write("\n")
            complain("no answer: that is a no")
            return False
        try:
            words = os.read(0, 4096).decode(errors="replace").strip().casefold()
        except OSError:  # it was put into the background meanwhile, or its terminal is gone
            return False
        if words in {"y", "yes", "", "n", "no"}:
            return words in {"y", "yes"}
