"""Shows the progress of a run in the notebook cell that runs it, as one output that is updated in place.

tqdm's own bar for notebooks needs ipywidgets in the kernel and a matching extension in the front end, and shows one
line of text. An output with a display ID needs neither, and its last state is kept in the notebook's file.
"""

from __future__ import annotations

import sys
import threading
import time
import uuid
from collections.abc import Callable

from batchmix.engine.run_status import RunStatus
from batchmix.progress.lines import bar_lines, last_line
from batchmix.progress.page import NOTHING_SENT, final_page, progress_page
from batchmix.progress.speeds import RateMeter

_UPDATE_S = 0.3
"""Seconds between two updates of the output."""
_TEXT_COLUMNS, _TEXT_LINES = 119, 24
"""The size of the text for front ends that show no HTML."""


def notebook_display() -> Callable[[RunStatus, threading.Event], None] | None:
    """Return a function that shows the progress of a run in the current cell. None if this is not a notebook's kernel.

    IPython is never imported here: where there is a kernel, it has been imported.
    """
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if shell is None or getattr(shell, "kernel", None) is None:  # a terminal has no kernel
        return None
    publisher, cell = shell.display_pub, shell.get_parent()

    def show(run_status: RunStatus, over: threading.Event) -> None:
        if hasattr(publisher, "set_thread_parent"):  # ipykernel 7.1 to 7.3 goes by the thread's context instead, and
            publisher.set_thread_parent(cell)  # with earlier ones the front end finds the output by its ID alone
        _show(run_status, over, publisher.publish)

    return show


def _show(run_status: RunStatus, over: threading.Event, publish: Callable[..., None]) -> None:
    began, meter, shown = time.monotonic(), RateMeter(run_status), ""
    display_id = {"display_id": f"batchmix-{uuid.uuid4().hex}"}

    def put(page: str, text: str) -> None:
        nonlocal shown
        if page != shown:
            publish({"text/html": page, "text/plain": text}, transient=display_id, update=bool(shown))
            shown = page

    while True:
        rates = meter.now()
        put(progress_page(run_status, rates), "\n".join(bar_lines(run_status, rates, _TEXT_COLUMNS, _TEXT_LINES)))
        if over.wait(_UPDATE_S):
            break
    put(final_page(run_status, time.monotonic() - began), last_line(run_status, _TEXT_COLUMNS) or NOTHING_SENT)
