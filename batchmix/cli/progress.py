"""The bar, and the line every 30 s where there is no terminal."""

from __future__ import annotations

import collections
import contextlib
import sys
import threading
import time
from collections.abc import Iterator

from batchmix.cli.output import shield
from batchmix.pace import LAST_ROWS, limit
from batchmix.records import Board, Progress

_BAR_S = 0.2
_LINE_S = 30.0
_SPAN_S = 10.0
"""Rates are those of the last ten seconds."""


@contextlib.contextmanager
def shown(board: Board, mode: str) -> Iterator[None]:
    """Show how a run gets on while the block runs: `auto`, `bar`, `log` or `none`."""
    if mode == "auto":
        mode = "bar" if sys.stderr.isatty() else "log"
    if mode == "none":
        yield
        return
    over = threading.Event()
    show = _bar if mode == "bar" else _lines

    def watch() -> None:
        with contextlib.suppress(OSError, ValueError):  # the terminal is gone
            show(board, over)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class _Rates:
    """Answers and tokens per second over the last seconds."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._seen: collections.deque[tuple[float, int, int]] = collections.deque()

    def now(self) -> tuple[float, float]:
        lanes = self._board.lanes
        self._seen.append((time.monotonic(), sum(lane.answers for lane in lanes), sum(lane.tokens for lane in lanes)))
        while len(self._seen) > 2 and self._seen[-1][0] - self._seen[0][0] > _SPAN_S:
            self._seen.popleft()
        (then, answers, tokens), (at, answers_now, tokens_now) = self._seen[0], self._seen[-1]
        span = max(at - then, 1e-9)
        return (answers_now - answers) / span, (tokens_now - tokens) / span


def summary_line(board: Board, rates: tuple[float, float]) -> str:
    """Return what a person wants to know while it runs, but for the rows."""
    if board.phase == "scanning":
        return f"scanning the input: {board.scanned:,} rows"
    lanes = board.lanes
    failed = f"{board.failed + board.rejected:,} failed"
    if lanes and all(lane.tail is not None for lane in lanes):
        parts = [_tail(lanes, time.monotonic()), failed]  # rates say nothing any more, and a narrow line ends soon
    else:
        parts = [
            f"{rates[0]:,.1f} answers/s",
            f"{rates[1]:,.0f} tokens/s",
            f"{sum(lane.in_flight for lane in lanes):,} in flight",
            failed,
        ]
        if retrying := sum(lane.retrying for lane in lanes):
            parts.append(f"{retrying:,} waiting to retry")
    limits = sorted({limit(board, lane) for lane in lanes} - {"", LAST_ROWS})
    if board.phase == "draining":
        parts.append("draining: nothing more is sent (interrupt again to cut)")
    elif limits:
        parts.append(f"limited by {', '.join(limits)}")
    return ", ".join(parts)


def _tail(lanes: list[Progress], now: float) -> str:
    """Return what the last rows wait for."""
    retrying, in_flight = sum(lane.tail or 0 for lane in lanes), sum(lane.in_flight for lane in lanes)
    parts = []
    if retrying:
        after = ", ".join(sorted({lane.retrying_after for lane in lanes if lane.retrying_after}))
        parts.append(f"{retrying:,} retrying" + (f" after {after}" if after else ""))
    if in_flight:
        oldest = min((lane.oldest_sent_at for lane in lanes if lane.oldest_sent_at is not None), default=now)
        parts.append(f"{in_flight:,} in flight for {max(0.0, now - oldest):.0f} s")
    rows = retrying + in_flight
    return f"waiting for {rows:,} row{'s' * (rows != 1)}: {', '.join(parts)}" if parts else "waiting for nothing more"


def _ended(board: Board) -> int:
    return board.ok + board.failed + board.rejected


def _bar(board: Board, over: threading.Event) -> None:
    from tqdm import tqdm

    rates = _Rates(board)
    with tqdm(
        total=None, unit="row", file=sys.stderr, dynamic_ncols=True, mininterval=0, smoothing=0,
        bar_format="{percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt} {desc}",
    ) as bar:  # fmt: skip
        last = False
        while not last:
            last = over.wait(_BAR_S)
            bar.total = board.results or None
            bar.n = _ended(board)
            bar.bar_format = "{percentage:3.0f}% |{bar}| {n:,}/{total:,} {desc}" if board.results else "{desc}"
            bar.set_description_str(shield(summary_line(board, rates.now())), refresh=True)


def _lines(board: Board, over: threading.Event) -> None:
    rates = _Rates(board)
    rates.now()
    while not over.wait(_LINE_S):
        line = f"{_ended(board):,}/{board.results:,} rows, {summary_line(board, rates.now())}"
        sys.stderr.write(shield(line) + "\n")
        sys.stderr.flush()
