"""The bar, and the line every 30 s where there is no terminal."""

from __future__ import annotations

import collections
import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from batchmix.amounts import usd
from batchmix.cli.output import shield
from batchmix.pace import LAST_ROWS, limit
from batchmix.records import Board, Progress
from batchmix.send.governor import Limit

_BAR_S = 0.2
_LINE_S = 30.0
_LEAST_BAR = 8
"""Characters; a shorter bar shows nothing."""
_SPAN_S = 10.0
"""Rates are those of the last ten seconds."""


@contextlib.contextmanager
def shown(board: Board, mode: str) -> Iterator[None]:
    """Show how a run gets on while the block runs: `auto`, `bar`, `log` or `none`."""
    if mode == "auto":
        mode = "bar" if sys.stderr.isatty() and os.environ.get("TERM") != "dumb" else "log"
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


def summary_line(board: Board, rates: tuple[float, float], width: int = 1_000) -> str:
    """Return what a person wants to know while it runs, but for the rows.

    What does not fit into so many characters is left out, the least wanted first: time left, cost and what limits
    stay longest.
    """
    if board.phase == "scanning":
        return f"scanning the input: {board.scanned:,} rows"
    lanes = board.lanes
    failed = f"{board.failed + board.rejected:,} failed"
    limited = (_limited(board) + _until(lanes)).strip()
    if board.phase == "draining":
        limited = "draining: nothing more is sent (interrupt again to cut)"
    if lanes and all(lane.tail is not None for lane in lanes):
        parts = [_tail(lanes, time.monotonic()), failed, limited]  # rates say nothing any more
        return _fitting(parts, (2, 1), width)
    retrying = sum(lane.retrying for lane in lanes)
    parts = [
        _time_left(board, rates[0]),
        "" if board.cost_usd is None else usd(board.cost_usd),
        f"{rates[0]:,.1f} answers/s",
        f"{rates[1]:,.0f} tokens/s",
        f"{sum(lane.in_flight for lane in lanes):,} in flight",
        failed,
        f"{retrying:,} waiting to retry" if retrying else "",
        limited,
    ]
    return _fitting(parts, (3, 4, 6, 5, 2, 7), width)


def _limited(board: Board) -> str:
    """Return what limits the lanes, by the model's name where these differ."""
    limits = {lane.model: limit(board, lane) for lane in board.lanes}
    limits = {model: what for model, what in limits.items() if what not in {"", LAST_ROWS}}
    if not limits:
        return ""
    if len(set(limits.values())) == 1:
        return f"limited by {next(iter(limits.values()))}"
    return f"limited by {', '.join(f'{what} ({model})' for model, what in limits.items())}"


def _fitting(parts: list[str], least_wanted: tuple[int, ...], width: int) -> str:
    """Return parts as a line of a width, without some of those that are least wanted, if need be."""
    for number in (None, *least_wanted):
        if number is not None:
            parts[number] = ""
        line = ", ".join(filter(None, parts))
        if len(line) <= width:
            break
    return line


def _time_left(board: Board, answers_per_s: float) -> str:
    """Return how long the rest takes at this rate; nothing where there is none yet."""
    left = board.results - _ended(board)
    if answers_per_s <= 0 or left <= 0:
        return ""
    return f"{span_text(left / answers_per_s)} left"


def span_text(seconds: float) -> str:
    """Return a time as a person says it: 40 s, 12 min, 3 h 05 min, 2 d 4 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def _until(lanes: list[Progress]) -> str:
    """Return until when the provider has asked to wait."""
    until = max((lane.paused_until for lane in lanes if lane.limited_by == Limit.PAUSE.value), default=0.0)
    if until <= time.time():
        return ""
    return f" (the provider asks to wait until {time.strftime('%H:%M:%S', time.localtime(until))})"


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

    class Bar(tqdm):  # type: ignore[type-arg]
        @staticmethod
        def status_printer(file: Any) -> Callable[[str], None]:
            """Erase what is left of the line before; blanks, which tqdm writes, would wrap in a narrower terminal."""

            def show(text: str) -> None:
                file.write(f"\r{text}\x1b[K")
                file.flush()

            return show

    rates = _Rates(board)
    with Bar(total=None, file=sys.stderr, mininterval=0, smoothing=0, bar_format="{desc}") as bar:
        last, width, shown_width = False, _width(), 0
        while not last:
            last = over.wait(_BAR_S)
            before, width = width, _width()
            if width < before:
                _take_back(shown_width, width)
            text = last_line(board, width) if last else bar_line(board, rates.now(), width)
            shown_width = len(text)
            bar.set_description_str(text, refresh=True)


def last_line(board: Board, width: int) -> str:
    """Return what stays of the bar: how far it came, and nothing of how fast it just was."""
    if not board.results:
        return ""
    done = _ended(board)
    parts = [
        f"{100 * done / board.results:3.0f}% {done:,}/{board.results:,}",
        "" if board.cost_usd is None else usd(board.cost_usd),
        f"{board.failed + board.rejected:,} failed",
    ]
    return ", ".join(filter(None, parts))[:width]


def bar_line(board: Board, rates: tuple[float, float], width: int) -> str:
    """Return the line of the bar, of at most `width` characters: rows and percent, and what fits of the rest."""
    if not board.results or board.phase in {"starting", "scanning"}:
        return shield(summary_line(board, rates, width))[:width]
    done = _ended(board)
    rows = f"{done:,}/{board.results:,}"
    head = f"{100 * done / board.results:3.0f}%"
    rest = shield(summary_line(board, rates, width - len(head) - len(rows) - 2))
    room = width - len(head) - len(rows) - len(rest) - 5
    drawn = f" |{'█' * round(room * min(1.0, done / board.results)):<{room}}|" if room >= _LEAST_BAR else ""
    return f"{head}{drawn} {rows} {rest}"[:width]


def _width() -> int:
    """Return how many characters a line may have: the last column of a terminal wraps."""
    try:
        return max(20, os.get_terminal_size(2).columns - 1)
    except OSError:
        return 79


def _take_back(shown_width: int, width: int) -> None:
    """Erase a line that has been broken into several, since the terminal is narrower than it was."""
    above = -(-shown_width // (width + 1)) - 1
    if above > 0 and os.environ.get("TERM") != "dumb":
        sys.stderr.write(f"\r\x1b[{above}A\x1b[J")
        sys.stderr.flush()


def _lines(board: Board, over: threading.Event) -> None:
    rates = _Rates(board)
    rates.now()
    while not over.wait(_LINE_S):
        line = f"{_ended(board):,}/{board.results:,} rows, {summary_line(board, rates.now())}"
        sys.stderr.write(shield(line) + "\n")
        sys.stderr.flush()
