"""Shows the progress of a run, either as a bar or as a line every 30 s.

If the run has several models, each has a line below the bar.
"""

from __future__ import annotations

import collections
import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from batchmix.engine.run_status import RunStatus
from batchmix.progress.lines import Rates, last_line, model_lines, model_progress, run_line, summary_line

_BAR_S = 0.2
"""Seconds between two updates of the bar."""
_LINE_S = 30.0
"""Seconds between two lines of the mode `log`."""
_SPAN_S = 10.0
"""Seconds over which rates are averaged."""


@contextlib.contextmanager
def progress_shown(run_status: RunStatus, mode: str) -> Iterator[None]:
    """Show the progress of a run while the `with` block runs. `mode` is `auto`, `bar`, `log` or `none`.

    A thread reads the status without a lock, while the run's thread changes it. An outdated number does no harm,
    because the status is only displayed.
    """
    if mode == "auto":
        mode = "bar" if sys.stderr.isatty() and os.environ.get("TERM") != "dumb" else "log"
    if mode == "none":
        yield
        return
    over = threading.Event()
    show = _bar if mode == "bar" else _lines

    def watch() -> None:
        with contextlib.suppress(OSError, ValueError):  # the terminal was closed
            show(run_status, over)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class _RateMeter:
    """Measures the answers and tokens per second of each lane (one per model)."""

    def __init__(self, run_status: RunStatus) -> None:
        self._run_status = run_status
        self._seen: collections.deque[tuple[float, list[tuple[int, int]]]] = collections.deque()

    def now(self) -> Rates:
        counts = [(lane.answers, lane.tokens) for lane in self._run_status.lanes]
        if self._seen and len(counts) != len(self._seen[-1][1]):
            self._seen.clear()  # the lanes have just been created
        self._seen.append((time.monotonic(), counts))
        while len(self._seen) > 2 and self._seen[-1][0] - self._seen[0][0] > _SPAN_S:
            self._seen.popleft()
        (then, before), (at, now) = self._seen[0], self._seen[-1]
        span = max(at - then, 1e-9)
        return [
            ((answers - answers_then) / span, (tokens - tokens_then) / span)
            for (answers_then, tokens_then), (answers, tokens) in zip(before, now, strict=True)
        ]


def _bar(run_status: RunStatus, over: threading.Event) -> None:
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

    meter = _RateMeter(run_status)
    with (
        ProgressBar(total=None, file=sys.stderr, mininterval=0, smoothing=0, ncols=0, bar_format="{desc}") as bar,
        logging_redirect_tqdm(tqdm_class=ProgressBar),
    ):
        while not over.wait(_BAR_S):
            bar.set_description_str("\n".join(bar_lines(run_status, meter.now(), *_room())), refresh=True)
        last = last_line(run_status, _room()[0])
        bar.set_description_str(last, refresh=True)
        bar.leave = bool(last)


def bar_lines(run_status: RunStatus, rates: Rates, width: int, height: int) -> list[str]:
    """Return the lines of the bar: one for the run and, if there are several models, one for each that fits."""
    several = len(run_status.lanes) > 1 and run_status.results > 0 and height > 2
    lines = [run_line(run_status, rates, width, limits=not several)]
    return lines + model_lines(model_progress(run_status, rates), width, height - 1) if several else lines


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


def _lines(run_status: RunStatus, over: threading.Event) -> None:
    meter = _RateMeter(run_status)
    meter.now()
    while not over.wait(_LINE_S):
        line = f"{run_status.finished:,}/{run_status.results:,} rows, {summary_line(run_status, meter.now())}"
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
