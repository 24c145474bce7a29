"""Tunes Python's interpreter while requests are sent. The settings are the process's, so they are restored, and so is
the limit of open files, which `http/connection_pool.py` raises where it must."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import sys
import threading
from collections.abc import Callable, Iterator

_SWITCH_S = 0.00005
"""The event loop shares the interpreter's lock with the threads that read and seal, and releases it at each system
call. With the default switch interval of 5 ms, it would then wait that long for the lock, and read no answers."""
_THRESHOLD = (20_000, 20, 20)
"""Garbage collections are this rare. With Python's own threshold they take a few percent of the loop's time."""
_lock = threading.Lock()
_runs = 0
_restore: list[Callable[[], None]] = []


@contextlib.contextmanager
def tuned_interpreter() -> Iterator[None]:
    """Tune the interpreter during the block. Of several blocks at once, the first tunes and the last restores."""
    global _runs  # noqa: PLW0603 - the settings are the process's too
    with _lock:
        _runs += 1
        if _runs == 1:
            _tune()
    try:
        yield
    finally:
        with _lock:
            _runs -= 1
            if not _runs:
                while _restore:
                    _restore.pop()()


def _untune_in_child() -> None:
    """Restore the settings in a forked process, in which no run goes on."""
    global _runs, _lock
    _lock, _runs = threading.Lock(), 0  # another thread may have held the lock
    while _restore:
        _restore.pop()()


os.register_at_fork(after_in_child=_untune_in_child)


def _tune() -> None:
    interval, threshold = sys.getswitchinterval(), gc.get_threshold()
    files = resource.getrlimit(resource.RLIMIT_NOFILE)
    _restore.extend([
        lambda: sys.setswitchinterval(interval),
        lambda: gc.set_threshold(*threshold),
        lambda: resource.setrlimit(resource.RLIMIT_NOFILE, files),
    ])  # fmt: skip
    sys.setswitchinterval(_SWITCH_S)
    gc.set_threshold(*_THRESHOLD)
    if not gc.get_freeze_count():  # otherwise the program has frozen objects itself, and they must stay frozen
        # What was there before the run is no garbage of the run. Scanning it would stop the loop for tens of
        # milliseconds, or for longer in a program with large objects of its own.
        gc.freeze()
        _restore.append(gc.unfreeze)
