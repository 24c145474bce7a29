"""Formats the progress of a run and of its models as lines of a given width, for the bar and for `status`."""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Callable, Iterable
from typing import TypeVar

from batchmix.engine.bottlenecks import bottleneck_of
from batchmix.engine.run_status import LaneStatus, Phase, RunStatus
from batchmix.formats.amounts import counted, usd
from batchmix.progress.speeds import ModelProgress, Rates, left_s, model_progress, pause_end, shown_text
from batchmix.records import Bottleneck
from batchmix.store.answer_totals import AnswerTotals, Fared

_MIN_BAR = 8
"""Columns of the shortest bar that is drawn."""
_MIN_NAME = 8
"""The fewest columns for the name of a model."""
_MAX_NAME = 40
"""The most columns for the name of a model."""
_T = TypeVar("_T")


def bar_lines(run_status: RunStatus, rates: Rates, width: int, height: int) -> list[str]:
    """Return the lines of the bar: one for the run and, if there are several models, one for each that fits."""
    several = len(run_status.lanes) > 1 and run_status.results > 0 and height > 2
    lines = [run_line(run_status, rates, width, limits=not several)]
    return lines + model_lines(model_progress(run_status, rates), width, height - 1) if several else lines


def model_lines(models: list[ModelProgress], width: int, max_lines: int) -> list[str]:
    """Return a line of at most `width` columns for each model. If they are too many, only the fastest have a line."""
    shown = busiest(models, max_lines)
    of_answers = any(model.checked for model in shown)
    lines = _first_fitting(lambda narrow: _aligned(shown, narrow), range(-2 if of_answers else 0, 6), width)
    if len(shown) < len(models):
        lines.append(and_more(models, shown))
    return [_cut(line, width) for line in lines[: max(0, max_lines)]]


def busiest(models: list[ModelProgress], max_lines: int) -> list[ModelProgress]:
    """Return the models to show: all, or only the fastest, with a line left to say how many more there are."""
    if len(models) <= max_lines:
        return models
    fastest = sorted(range(len(models)), key=lambda at: (-models[at].answers_per_s, at))[: max(0, max_lines - 1)]
    return [models[at] for at in sorted(fastest)]


def and_more(models: list[ModelProgress], shown: list[ModelProgress]) -> str:
    """Return the line that says how many models are not shown."""
    return f"… and {len(models) - len(shown)} more"


def _aligned(models: list[ModelProgress], narrow: int) -> list[str]:
    """Return a line for each model with aligned cells. The higher `narrow`, the fewer and shorter the cells.

    If it is below 0, there are cells for how the answers fared.
    """
    name_room = (_MAX_NAME, _MAX_NAME, 20, 14, 14, _MIN_NAME)[max(0, narrow)]
    names, *columns = zip(*(_cells(model, narrow, name_room) for model in models), strict=True)
    room = max(map(_width, names))
    padded = [[name + " " * (room - _width(name)) for name in names]]
    for column in columns:
        room = max(map(len, column))
        padded += [[cell.rjust(room) for cell in column]] if room else []
    limits = [_short(model.limited_by) if narrow > 1 else model.limited_by for model in models]
    if narrow > 4:
        limits = [limited_by.partition(" until")[0] for limited_by in limits]
    gap = "  " if narrow < 3 else " "
    return [gap.join((*cells, what)).rstrip() for *cells, what in zip(*padded, limits, strict=True)]


def _cells(model: ModelProgress, narrow: int, name_room: int) -> tuple[str, ...]:
    has_total, left = model.results > 0, model.left_s
    return (
        _middle_out(model.model, name_room),
        percent(model.finished, model.results) if has_total else "",
        f"{model.finished:,}/{model.results:,}" if has_total and narrow < 4 else f"{model.finished:,}",
        "" if left is None else span_text(left) + (" left" if narrow < 2 else ""),
        "" if model.cost_usd is None else usd(model.cost_usd),
        f"{model.answers_per_s:,.1f} answers/s" if narrow < 1 and narrow != -1 else "",
        f"{model.failed:,} failed" if narrow < 1 else "",
        *(f"{count:,} {fared}" if narrow < 0 else "" for fared, count in fared_counts(model.checked).items()),
    )


def fared_counts(checked: AnswerTotals | None) -> dict[Fared, int]:
    """Return how many answers were healed, repaired and lost."""
    return {fared: getattr(checked, fared, 0) for fared in (Fared.HEALED, Fared.REPAIRED, Fared.LOST)}


def run_line(run_status: RunStatus, rates: Rates, width: int, *, limits: bool) -> str:
    """Return the line of a run: percentage, bar, rows, and as many other parts as fit.

    `limits` says whether the line may name what limits the run, such as a rate limit.
    """
    if not run_status.results or run_status.phase in {Phase.STARTING, Phase.SCANNING}:
        return summary_line(run_status, rates)[:width]
    done, results = run_status.finished, run_status.results

    def lines_for(narrow: int) -> list[str]:
        rows = f"{done:,}/{results:,}" if narrow < 9 else f"{done:,}"
        return [f"{rows} {_joined(run_status, rates, narrow, limits=limits)}".rstrip()]

    head = percent(done, results)
    (rest,) = _first_fitting(lines_for, range(10), width - len(head) - 1)
    room = width - len(head) - _width(rest) - 4
    drawn = f" |{'█' * round(room * min(1.0, done / results)):<{room}}|" if room >= _MIN_BAR else ""
    return _cut(f"{head}{drawn} {rest}", width)


def summary_line(run_status: RunStatus, rates: Rates) -> str:
    """Return the state of a run in progress, without its number of rows."""
    if run_status.phase is Phase.SCANNING:
        return f"scanning the input: {counted(run_status.scanned, 'row')}"
    if not run_status.results:
        return run_status.phase.value
    return _joined(run_status, rates, 0, limits=True)


def last_line(run_status: RunStatus, width: int) -> str:
    """Return the line that replaces the bar at the end. It shows the results, but no rates."""
    if not run_status.results:
        return ""
    rows = f"{percent(run_status.finished, run_status.results)} {run_status.finished:,}/{run_status.results:,}"
    return ", ".join([rows, *last_parts(run_status)])[:width]


def last_parts(run_status: RunStatus) -> list[str]:
    """Return what a run's last line says beside its rows."""
    cost, fared = run_status.cost_usd, _fared(run_status)
    failed = f"{run_status.failed + run_status.rejected:,} failed"
    return [*([] if cost is None else [usd(cost)]), failed, *([fared] if fared else [])]


def _fared(run_status: RunStatus, *, short: bool = False) -> str:
    """Return how many answers were healed, repaired and lost. Empty if none was. `short` leaves out the healed ones."""
    counts = fared_counts(run_status.checked).items()
    return ", ".join(f"{count:,} {fared}" for fared, count in counts if count and not (short and fared is Fared.HEALED))


def _joined(run_status: RunStatus, rates: Rates, narrow: int, *, limits: bool) -> str:
    return ", ".join(run_parts(run_status, rates, narrow, limits=limits))


def run_parts(run_status: RunStatus, rates: Rates, narrow: int = 0, *, limits: bool) -> list[str]:
    """Return what a run's line says beside its rows, such as `12 min left`. The higher `narrow`, the less."""
    return [shown_text(run_status, part) for part in _parts(run_status, rates, narrow, limits=limits)]


def _parts(run_status: RunStatus, rates: Rates, narrow: int, *, limits: bool) -> list[str]:
    """Return the parts of a run's line: the higher `narrow`, the fewer. Time left, cost and limits are dropped last."""
    lanes, cost = run_status.lanes, run_status.cost_usd
    failed = f"{run_status.failed + run_status.rejected:,} failed"
    limited = _limited(run_status, short=narrow > 5) if limits else ""
    spent, fared = "" if cost is None else usd(cost), _fared(run_status, short=narrow > 6)
    if run_status.phase is Phase.SEALING:
        parts = [
            (10, "writing the last parts" if narrow < 6 else "writing parts"),
            (10, spent),
            (6, failed),
            (8, fared),
        ]
    elif run_status.phase is not Phase.DRAINING and lanes and all(lane.tail is not None or lane.idle for lane in lanes):
        waiting = _tail([lane for lane in lanes if not lane.idle], time.monotonic())
        parts = [(10, spent), (10, waiting), (3, failed), (8, fared), (2, limited)]
    else:
        retrying = sum(lane.retrying for lane in lanes)
        in_flight = sum(lane.in_flight for lane in lanes)
        if run_status.phase is Phase.DRAINING:
            limited = "draining: no new requests (interrupt again to cut)" if narrow < 6 else "draining; ^C cuts"
        parts = [
            (10, _time_left(run_status, rates)),
            (10, spent),
            (5, f"{sum(answers for answers, _ in rates):,.1f} answers/s"),
            (1, f"{sum(tokens for _, tokens in rates):,.0f} tokens/s"),
            (10 if run_status.phase is Phase.DRAINING else 2, f"{in_flight:,} in flight"),
            (4, failed),
            (8, fared),
            (3, f"{retrying:,} waiting to retry" if retrying else ""),
            (10, limited),
        ]
    return [text for until, text in parts if text and narrow < until]


def _limited(run_status: RunStatus, *, short: bool) -> str:
    """Return what limits the lanes, with the names of the models if it is not the same for all."""
    limits = {lane.model: bottleneck_of(run_status, lane) for lane in run_status.lanes}
    limits = {model: limit for model, limit in limits.items() if limit not in {"", Bottleneck.LAST_ROWS}}
    if not limits:
        return ""
    different = list(dict.fromkeys(limits.values()))
    if short:
        return _short(", ".join(different))
    limited_by = ", ".join(f"{limit} ({model})" for model, limit in limits.items()) if different[1:] else different[0]
    return f"limited by {limited_by}{pause_end(run_status.lanes, ' (requested by the provider until {})')}"


def _short(limited_by: str) -> str:
    return limited_by.replace(" per minute", "/min")


def _time_left(run_status: RunStatus, rates: Rates) -> str:
    """Return the time left at these rates. Empty if it is unknown, or if no more requests are sent."""
    if run_status.phase is not Phase.SENDING:
        return ""
    answers_per_s = sum(answers for answers, _ in rates)
    if all(lane.results for lane in run_status.lanes):
        seconds = left_s(model_progress(run_status, rates))
    else:
        seconds = (run_status.results - run_status.finished) / answers_per_s if answers_per_s > 0 else None
    return f"{span_text(seconds)} left" if seconds else ""


def _tail(lanes: list[LaneStatus], now: float) -> str:
    """Return a text that says what the last rows are waiting for."""
    retrying, in_flight = sum(lane.tail or 0 for lane in lanes), sum(lane.in_flight for lane in lanes)
    parts = []
    if retrying:
        after = ", ".join(sorted({lane.retrying_after for lane in lanes if lane.retrying_after}))
        parts.append(f"{retrying:,} retrying" + (f" after {after}" if after else ""))
    if in_flight:
        oldest = min((lane.oldest_sent_at for lane in lanes if lane.oldest_sent_at is not None), default=now)
        parts.append(f"{in_flight:,} in flight for {max(0.0, now - oldest):.0f} s")
    rows = retrying + in_flight
    return f"waiting for {counted(rows, 'row')}: {', '.join(parts)}" if parts else "waiting for nothing more"


def span_text(seconds: float) -> str:
    """Return a duration as readable text: 40 s, 12 min, 3 h 05 min, 2 d 4 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def percent(done: int, results: int) -> str:
    """Return a percentage. It is rounded down, so only a finished run shows 100 %."""
    return f"{100 * done // results:3}%"


def _middle_out(text: str, room: int) -> str:
    """Return a name, without its middle if it is too long. Names of models often differ at their ends."""
    if _width(text) <= room:
        return text
    half = room // 2
    return f"{_clipped(text, room - half - 1)}…{_clipped(text[::-1], half)[::-1]}"


def _cut(line: str, width: int) -> str:
    """Return a line, shortened at a space if it is too long."""
    clipped = _clipped(line, width + 1)
    return line if _width(line) <= width else _clipped(clipped.rpartition(" ")[0].rstrip(",") or line, width)


def _width(text: str) -> int:
    """Return the number of terminal columns that a text takes. Wide characters, such as Chinese ones, take two."""
    return len(text) if text.isascii() else sum(1 + (unicodedata.east_asian_width(char) in "WF") for char in text)


def _clipped(text: str, width: int) -> str:
    """Return as much of the beginning of a text as fits into `width` columns."""
    while _width(text) > width:
        text = text[: width - _width(text)]
    return text


def _first_fitting(lines_for: Callable[[_T], list[str]], ways: Iterable[_T], width: int) -> list[str]:
    """Return the lines for the first of `ways` with which they fit, or else for the last."""
    lines: list[str] = []
    for way in ways:
        lines = lines_for(way)
        if max(map(_width, lines), default=0) <= width:
            break
    return lines
