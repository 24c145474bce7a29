"""The charts of the report: each function turns numbers into an SVG drawing."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import msgspec

from batchmix.reports.drawing import COLOURS, LEFT, RIGHT, Drawing, Scale, shortened, spread, ticks, width_of

_ROW = 42
_GAP = 4
"""The least distance of lines from each other, where they have a mark."""
_NAMES, _NAME_HEIGHT, _MOST_NAMES = 190, 19, 8
"""The most room beside a line chart for the lines' names, the height of a name, and the most names."""

Form = Callable[[float], str]
"""Formats a number."""


class IntervalRow(msgspec.Struct, frozen=True):
    """One row of an interval chart: a value with its interval, and optionally the value in an earlier run."""

    label: str
    value: float
    low: float | None
    high: float | None
    text: str
    before: float | None = None
    tone: str = "c0"


def interval_chart(title: str, rows: Sequence[IntervalRow], form: Form, *, zero: bool = False) -> Drawing:
    """Draw the rows below each other, each as a dot with its interval. `zero` adds a vertical line at zero."""
    ends = [end for row in rows for end in (row.value, row.low, row.high, row.before) if end is not None]
    marked = ticks(min([*ends, 0.0] if zero else ends), max([*ends, 0.0] if zero else ends))
    x = Scale(marked[0], marked[-1], LEFT + 12, RIGHT - 12)
    drawing = Drawing(title, height=len(rows) * _ROW + 26)
    bottom = len(rows) * _ROW + 4
    _x_axis(drawing, x, marked, bottom, form)
    if zero:
        drawing.line("zero", (x.at(0), x.at(0)), (0, bottom))
    for number, row in enumerate(rows):
        y = number * _ROW + 30
        drawing.labelled(y - 16, row.label, row.text)
        if row.low is not None and row.high is not None:
            drawing.line(f"span {row.tone}", (x.at(row.low), x.at(row.high)), (y, y))
            for end in (row.low, row.high):
                drawing.line(f"span {row.tone}", (x.at(end), x.at(end)), (y - 4, y + 4))
        if row.before is not None:
            drawing.dot("before", (x.at(row.before), y), f"before: {form(row.before)}", 8)
        drawing.dot(f"fill {row.tone}", (x.at(row.value), y), row.text, 5)
    return drawing


class BoxRow(msgspec.Struct, frozen=True):
    """One row of a box chart: the percentiles of a distribution."""

    label: str
    points: dict[str, float]
    """The percentiles by name: `p10`, `p25`, `p50`, `p75`, `p90` and `p99`."""
    text: str
    tone: str


def box_chart(title: str, rows: Sequence[BoxRow], form: Form) -> Drawing:
    """Draw the rows below each other, each as a box from 25 % to 75 % on a line from 10 % to 90 %."""
    marked = ticks(0.0, max(row.points["p99"] for row in rows))
    x = Scale(marked[0], marked[-1], LEFT + 12, RIGHT - 12)
    drawing = Drawing(title, height=len(rows) * _ROW + 26)
    bottom = len(rows) * _ROW + 4
    _x_axis(drawing, x, marked, bottom, form)
    for number, row in enumerate(rows):
        y = number * _ROW + 30
        at = {name: x.at(value) for name, value in row.points.items()}
        drawing.labelled(y - 16, row.label, row.text)
        drawing.line(f"span {row.tone}", (at["p10"], at["p90"]), (y, y))
        drawing.box(f"half {row.tone}", (at["p25"], at["p75"]), (y - 6, y + 6))
        drawing.line("median", (at["p50"], at["p50"]), (y - 7, y + 7))
        drawing.dot(f"ring {row.tone}", (at["p99"], y), f"99 %: {form(row.points['p99'])}", 3.5)
    return drawing


class BarRow(msgspec.Struct, frozen=True):
    """One bar of a bar chart."""

    label: str
    value: float
    text: str
    tone: str = "c0"


def bar_chart(title: str, rows: Sequence[BarRow]) -> Drawing:
    """Draw horizontal bars below each other, each with its label and its number."""
    x = Scale(0.0, max(row.value for row in rows) or 1.0, LEFT, RIGHT)
    drawing = Drawing(title, height=len(rows) * 34 + 4)
    for number, row in enumerate(rows):
        y = number * 34 + 14
        drawing.labelled(y, row.label, row.text)
        drawing.box("track", (LEFT, RIGHT), (y + 5, y + 13))
        drawing.box(f"fill {row.tone}", (LEFT, x.at(row.value)), (y + 5, y + 13))
    return drawing


class LineSeries(msgspec.Struct, frozen=True):
    """One line of a line chart: a value for each step, or None for a step without a value."""

    label: str
    values: Sequence[float | None]
    tone: str


def line_chart(
    title: str, series: Sequence[LineSeries], steps: Sequence[str], form: Form, marks: Mapping[int, str] | None = None
) -> Drawing:
    """Draw one line for each series. `steps` are the labels below the chart, `marks` those of some steps above it.

    Lines that would hide one another are drawn beside each other.
    """
    present = [value for line in series for value in line.values if value is not None]
    marked = ticks(min(present), max(present))
    left, bottom = 52, 170
    names_width = max(width_of(shortened(line.label, RIGHT)) for line in series) + 10
    named = 1 < len(series) <= _MOST_NAMES and names_width <= _NAMES
    right = RIGHT - names_width if named else RIGHT
    y = Scale(marked[0], marked[-1], bottom, 20)
    x = Scale(0, max(1, len(steps) - 1), left + 8, right - 12)
    drawing = Drawing(title, height=bottom + 24)
    for tick in marked:
        drawing.line("grid", (left, right), (y.at(tick), y.at(tick)))
        drawing.text("scale", (left - 6, y.at(tick) + 4), form(tick), "end")
    _step_labels(drawing, x, steps, bottom)
    for at, text in (marks or {}).items():
        drawing.line("restart", (x.at(at), x.at(at)), (12, bottom))
        drawing.text("scale", (x.at(at), 10), text, "middle")
    lines = _apart(series, y)
    for number, line in enumerate(series):
        points = [(x.at(at), place) for at, place in lines[number].items()]
        if len(points) > 1:
            drawing.path(f"course {line.tone}", points)
        for at, place in lines[number].items():
            text = f"{line.label}, {steps[at]}: {form(line.values[at] or 0.0)}"
            drawing.marker(f"fill {line.tone}", (x.at(at), place), shortened(text, 800), number)
    if named:
        _names(drawing, series, [line[max(line)] for line in lines], right + 4)
    else:
        drawing.legend = [(line.tone, shortened(line.label, RIGHT - LEFT)) for line in series]
    return drawing


def _apart(series: Sequence[LineSeries], y: Scale) -> list[dict[int, float]]:
    """Return the places of each line by step. At a step, no two lines have the same place."""
    lines: list[dict[int, float]] = [{} for _ in series]
    for at in range(max(len(line.values) for line in series)):
        here = [(number, value) for number, line in enumerate(series) if (value := line.values[at]) is not None]
        for (number, _), place in zip(here, spread([y.at(value) for _, value in here], _GAP), strict=True):
            lines[number][at] = place
    return lines


def _names(drawing: Drawing, series: Sequence[LineSeries], ends: Sequence[float], left: float) -> None:
    """Write the name of each line beside its end."""
    places = spread(ends, _NAME_HEIGHT)
    up = max(0.0, max(places) + 8 - drawing.height)
    for line, place in zip(series, places, strict=True):
        drawing.text(f"name {line.tone}", (left, place + 4 - up), shortened(line.label, RIGHT))


def _step_labels(drawing: Drawing, x: Scale, steps: Sequence[str], bottom: float) -> None:
    """Label the last step and every n-th step before it. The wider the labels, the larger is n."""
    width = max(width_of(step) for step in steps) + 8
    every = max(1, math.ceil(len(steps) * width / (x.stop - x.start + width)))
    free = x.stop + 8
    for at in range(len(steps) - 1, -1, -every):
        anchor = "end" if at == len(steps) - 1 and len(steps) > 1 else "start" if at == 0 else "middle"
        place = x.at(at) + (8 if anchor == "end" else -8 if anchor == "start" else 0)
        left = place - width * {"end": 1.0, "middle": 0.5, "start": 0.0}[anchor]
        if left + width <= free + 8:  # not over the label to its right
            drawing.text("scale", (place, bottom + 18), steps[at], anchor)
            free = left


_UNITS = (("hours", 3600), ("minutes", 60), ("seconds", 1))


class RateRow(msgspec.Struct, frozen=True):
    """One row of a rate chart: the speed of one model over the time of a run."""

    label: str
    rates: Sequence[float]
    """The answers per second in each time slot. All slots have the same length."""
    limits: Sequence[tuple[float, float, str, str]]
    """The spans in which something limited the speed: begin and end as shares of the run's time, the CSS class of the
    colour, and what limited the speed."""
    tone: str


def rate_chart(title: str, rows: Sequence[RateRow], span_s: float, restarts: Sequence[float]) -> Drawing:
    """Draw the speed of each model, with a band below it that shows what limited the speed.

    `restarts` are the times of later starts, as shares of the run's whole time.
    """
    row_height, left = 112, 52
    drawing = Drawing(title, height=len(rows) * row_height + 22)
    unit, unit_s = next((name, size_s) for name, size_s in _UNITS if span_s >= 3 * size_s or size_s == 1)
    x = Scale(0.0, span_s / unit_s, left, RIGHT)
    for number, row in enumerate(rows):
        top, bottom = number * row_height + 22, number * row_height + 84
        marked = ticks(0.0, max(row.rates) or 1.0, 3)
        y = Scale(0.0, marked[-1], bottom, top)
        drawing.labelled(top - 8, row.label, "", left)
        for tick in marked:
            drawing.line("grid", (left, RIGHT), (y.at(tick), y.at(tick)))
            drawing.text("scale", (left - 6, y.at(tick) + 4), f"{tick:,.6g}", "end")
        slot = (RIGHT - left) / len(row.rates)
        tops = [
            place
            for at, rate in enumerate(row.rates)
            for place in ((left + at * slot, y.at(rate)), (left + (at + 1) * slot, y.at(rate)))
        ]
        drawing.path(f"area {row.tone}", [(left, bottom), *tops, (RIGHT, bottom)], closed=True)
        for begin, end, tone, limit in row.limits:
            place = (left + begin * (RIGHT - left), left + end * (RIGHT - left))
            drawing.box(f"limit {tone}", place, (bottom + 4, bottom + 14), limit)
        for restart in restarts:
            at = left + restart * (RIGHT - left)
            drawing.line("restart", (at, at), (top, bottom + 14))
    bottom = len(rows) * row_height
    for tick in ticks(0.0, x.high):
        if tick <= x.high * 1.001:
            _tick(drawing, (x.at(tick), bottom + 14), f"{tick:,.6g}")
    drawing.caption = f"Answers per second over the run's active time in {unit}."
    return drawing


def _x_axis(drawing: Drawing, x: Scale, marked: Sequence[float], bottom: float, form: Form) -> None:
    for tick in marked:
        drawing.line("grid", (x.at(tick), x.at(tick)), (0, bottom))
        _tick(drawing, (x.at(tick), bottom + 18), form(tick))


def _tick(drawing: Drawing, at: tuple[float, float], text: str) -> None:
    """Write the label of a tick. At an edge of the drawing, the label is shifted inwards."""
    place, half = at[0], width_of(text) / 2
    if place + half > RIGHT:
        drawing.text("scale", (RIGHT, at[1]), text, "end")
    elif place - half < LEFT:
        drawing.text("scale", (LEFT, at[1]), text, "start")
    else:
        drawing.text("scale", at, text, "middle")


def tone(number: int) -> str:
    """Return the CSS classes of the n-th series. The colours repeat, with dashed lines and hollow marks."""
    return f"c{number % COLOURS}" + (" again" if number // COLOURS % 2 else "")
