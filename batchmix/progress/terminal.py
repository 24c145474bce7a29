"""Shows the progress of a run, either as a bar or as a line every 30 s.

If the run has several models, each has a line below the bar.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import Any

from batchmix.engine.run_status import RunStatus
from batchmix.progress.lines import bar_lines, last_line, summary_line
from batchmix.progress.speeds import RateMeter

_BAR_S = 0.2
"""Seconds between two updates of the bar."""
_LINE_S = 30.0
"""Seconds between two lines of the mode `log`."""


def show_bar(run_status: RunStatus, over: threading.Event) -> None:
    """Show a bar on stderr until the run is over; then leave one line of it."""
    from tqdm import tqdm
    from tqdm.contrib.logging import logging_redirect_tqdm

    class ProgressBar(tqdm):  # type: ignore[type-arg]
        @staticmethod
        def status_printer(file: Any) -> Callable[[str], None]:
            """Return a function that paints a block of lines over the previous one. The cursor stays at its first line.

            A resized terminal may wrap the old lines, but only below the cursor, so erasing from there removes them.
            Each line is erased by itself, because the terminal would join lines again that it had wrapped.
            What is below the block is erased last and never from the top left corner, where tmux would keep it in its
            history. Wrapping is off while painting, since the terminal may be narrower than it reported. tqdm's own
            stacked bars don't survive a resize, because they move the cursor up by the old number of lines.
            """

            def paint(text: str) -> None:
                up = text.count("\n")
                text = _encodable(text or " ", file.encoding).replace("\n", "\r\n\x1b[2K")
                file.write(f"\r\x1b[?7l\x1b[2K{text}\x1b[J\r" + (f"\x1b[{up}A" if up else "") + "\x1b[?7h")
                file.flush()

            return paint

    meter = RateMeter(run_status)
    with (
        ProgressBar(total=None, file=sys.stderr, mininterval=0, smoothing=0, ncols=0, bar_format="{desc}") as bar,
        logging_redirect_tqdm(tqdm_class=ProgressBar),
    ):
        while not over.wait(_BAR_S):
            bar.set_description_str("\n".join(bar_lines(run_status, meter.now(), *_room())), refresh=True)
        last = last_line(run_status, _room()[0])
        bar.set_description_str(last, refresh=True)
        bar.leave = bool(last)


def _encodable(text: str, encoding: str | None) -> str:
    """Return the text with characters replaced that the encoding can't represent. The width stays the same."""
    encoding = encoding or "ascii"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = text.replace("█", "#").replace("…", "~").encode(encoding, "replace").decode(encoding)
    return text


def _room() -> tuple[int, int]:
    """Return how many columns and lines to use: one less than the terminal has, because its last column may wrap."""
    try:
        size = os.get_terminal_size(2)
    except OSError:
        return 79, 24
    return max(20, size.columns - 1), max(1, size.lines - 1)


def show_log_lines(run_status: RunStatus, over: threading.Event) -> None:
    """Write a line to stderr every 30 s until the run is over."""
    meter = RateMeter(run_status)
    meter.now()
    while not over.wait(_LINE_S):
        line = f"{run_status.finished:,}/{run_status.results:,} rows, {summary_line(run_status, meter.now())}"
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
