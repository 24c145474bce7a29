"""Charts as lists of SVG elements, with scales, ticks, and labels shortened to fit."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable

import msgspec

from batchmix.formats.display import clean

WIDTH = 460
"""The width of every drawing, in SVG units. Text is 13 units high (15.5 on a phone).

With this width, two drawings fit side by side on a desktop's page, and one fits on a phone.
"""
LEFT, RIGHT = 8, WIDTH - 8
COLOURS = 6
"""The number of colours for series: the CSS classes `c0` to `c5`."""
_WIDE, _BROAD = ("W", "F"), frozenset("mwMW@%—…→")
"""The characters that are wider than the usual 10 units: East Asian width classes, and single characters."""


class Mark(msgspec.Struct, frozen=True):
    """One SVG element."""

    tag: str
    attributes: dict[str, str]
    text: str = ""
    title: str = ""
    """The tooltip."""


class Drawing(msgspec.Struct):
    """One chart."""

    title: str
    caption: str = ""
    height: float = 0
    marks: list[Mark] = []
    legend: list[tuple[str, str]] = []
    """The entries of the legend: for each, the CSS class of its colour, and its text."""

    def line(self, css: str, x: tuple[float, float], y: tuple[float, float]) -> None:
        """Draw a straight line."""
        ends = {"x1": x[0], "x2": x[1], "y1": y[0], "y2": y[1]}
        self.marks.append(Mark("line", {"class": css, **_units(ends)}))

    def box(self, css: str, x: tuple[float, float], y: tuple[float, float], title: str = "") -> None:
        """Draw a filled box between two corners."""
        sides = {"x": x[0], "y": y[0], "width": max(0.0, x[1] - x[0]), "height": y[1] - y[0]}
        self.marks.append(Mark("rect", {"class": css, **_units(sides)}, title=title))

    def dot(self, css: str, at: tuple[float, float], title: str, radius: float) -> None:
        """Draw a dot."""
        self.marks.append(Mark("circle", {"class": css, **_units({"cx": at[0], "cy": at[1], "r": radius})}, "", title))

    def path(self, css: str, points: Iterable[tuple[float, float]], *, closed: bool = False) -> None:
        """Draw a line through the points. `closed` joins the last point to the first, which makes an area."""
        text = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points) + "Z" * closed
        self.marks.append(Mark("path", {"class": css, "d": text}))

    def text(self, css: str, at: tuple[float, float], text: str, anchor: str = "start") -> None:
        """Write text at a point. `anchor` is the part of the text that is placed there: `start`, `middle` or `end`."""
        place = {"class": css, **_units({"x": at[0], "y": at[1]}), "text-anchor": anchor}
        self.marks.append(Mark("text", place, text))

    def labelled(self, y: float, label: str, value: str, left: float = LEFT) -> None:
        """Write a label on the left and a value on the right. A label that would overlap the value is shortened."""
        self.text("value", (RIGHT, y), value, "end")
        self.text("label", (left, y), shortened(label, RIGHT - left - width_of(value) - 10))


class Scale(msgspec.Struct, frozen=True):
    """A linear scale from values to coordinates."""

    low: float
    high: float
    start: float
    stop: float

    def at(self, value: float) -> float:
        """Return the coordinate of a value."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.stop - self.start)


def ticks(low: float, high: float, max_steps: int = 5) -> list[float]:
    """Return round values that cover a range, in steps of 1, 2 or 5 times a power of ten.

    `max_steps` is the most steps that the range may have.
    """
    size = max(abs(low), abs(high))
    span = high - low if high - low > 1e-9 * size else size or 1.0
    span = span if span > 1e-300 else 1.0
    power = math.floor(math.log10(span / max_steps))
    step = next(factor * 10.0**power for factor in (1, 2, 5, 10) if span / (factor * 10.0**power) <= max_steps * 1.0001)
    first, last = math.floor(low / step + 1e-6), math.ceil(high / step - 1e-6)
    return [round(number * step, 1 - power) for number in range(first, max(last, first + 1) + 1)]


def width_of(text: str) -> int:
    """Return an upper estimate of the width of a text, in SVG units."""
    broad = (letter in _BROAD or unicodedata.east_asian_width(letter) in _WIDE for letter in text)
    return sum(16 if wide else 10 for wide in broad)


def shortened(text: str, room: float) -> str:
    """Return text without control characters, shortened to a width of at most `room`."""
    shown = clean(text, 200)
    if width_of(shown) <= room:
        return shown
    while shown and width_of(shown) + 16 > room:
        shown = shown[:-1]
    return shown + "…"


def _units(values: dict[str, float]) -> dict[str, str]:
    return {name: f"{value:.1f}".removesuffix(".0") for name, value in values.items()}
