"""Shows the progress of a run while it runs: where it is asked for, as it is asked for."""

from __future__ import annotations

import contextlib
import contextvars
import os
import sys
import threading
from collections.abc import Callable, Iterator

from batchmix.engine.run_status import RunStatus
from batchmix.errors import UsageError
from batchmix.formats.display import clean
from batchmix.progress.notebook import notebook_display
from batchmix.progress.terminal import show_bar, show_log_lines

_Show = Callable[[RunStatus, threading.Event], None]
"""Shows the progress of a run, again and again until the event is set, and then once more."""


def terminal_mode(mode: str) -> str:
    """Return the mode for a command: `auto` means `bar` in a terminal and `log` elsewhere."""
    if mode != "auto":
        return mode
    return "bar" if sys.stderr.isatty() and os.environ.get("TERM") != "dumb" else "log"


@contextlib.contextmanager
def progress_shown(run_status: RunStatus, mode: str | None = None) -> Iterator[None]:
    """Show the progress of a run while the `with` block runs.

    `bar` is a bar on stderr, `log` a line there every 30 s, `none` nothing. None and `auto` mean an output in the cell
    that runs, if this is a notebook, and nothing elsewhere. Enter the block in the thread and the task that called.
    Raises `UsageError` for any other mode.

    A thread reads the status without a lock, while the run's thread changes it. An outdated number does no harm,
    because the status is only displayed.
    """
    show = _show_for(mode)
    if show is None:
        yield
        return
    over = threading.Event()

    def watch() -> None:
        with contextlib.suppress(OSError, ValueError):  # the terminal was closed
            show(run_status, over)

    # The kernel finds the cell of an output in the context of the code that makes it.
    thread = threading.Thread(target=contextvars.copy_context().run, args=(watch,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _show_for(mode: str | None) -> _Show | None:
    if mode in {"bar", "log"}:
        return show_bar if mode == "bar" else show_log_lines
    if mode not in {None, "auto", "none"}:
        raise UsageError(f"progress is '{clean(str(mode))}'; it must be 'auto', 'bar', 'log' or 'none'")
    return None if mode == "none" else notebook_display()
