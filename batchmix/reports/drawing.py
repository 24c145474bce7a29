"""Charts as lists of SVG elements, with scales, ticks, and labels shortened to fit."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Sequence

import msgspec

from batchmix.formats.display import clean

WIDTH = 460
"""The width of every drawing, in SVG units. Text is 13 units high (15.5 on a phone).

With this width, two drawings fit side by side on a desktop's page, and one fits on a phone.
"""
LEFT, RIGHT = 8, WIDTH - 8
COLOURS = 6
"""The number of colours for series: the CSS classes `c0` to `c5`."""
SHAPES = 4
"""The number of shapes of markers."""
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

    def path(self, css: str, points: Iterable[tuple[float, float]], *, closed: bool = False, title: str = "") -> None:
        """Draw a line through the points. `closed` joins the last point to the first, which makes an area."""
        text = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points) + "Z" * closed
        self.marks.append(Mark("path", {"class": css, "d": text}, title=title))

    def marker(self, css: str, at: tuple[float, float], title: str, shape: int) -> None:
        """Draw a small mark whose shape is the n-th of a few, which repeat."""
        x, y = at
        match shape % SHAPES:
            case 0:
                self.dot(css, at, title, 3)
            case 1:
                self.box(css, (x - 3, x + 3), (y - 3, y + 3), title)
            case 2:
                self.path(css, [(x, y - 4), (x + 4, y), (x, y + 4), (x - 4, y)], closed=True, title=title)
            case _:
                self.path(css, [(x, y - 4), (x + 4, y + 3), (x - 4, y + 3)], closed=True, title=title)

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


def spread(places: Sequence[float], gap: float) -> list[float]:
    """Return the places moved apart as little as it takes for each two to be `gap` or more from each other."""
    clusters: list[list[int]] = []
    for at in sorted(range(len(places)), key=lambda at: places[at]):
        clusters.append([at])
        while len(clusters) > 1 and _ends(clusters[-1], places, gap)[0] - _ends(clusters[-2], places, gap)[1] < gap:
            clusters[-2:] = [clusters[-2] + clusters[-1]]
    moved = list(places)
    for cluster in clusters:
        first = _ends(cluster, places, gap)[0]
        for number, at in enumerate(cluster):
            moved[at] = first + number * gap
    return moved


def _ends(cluster: Sequence[int], places: Sequence[float], gap: float) -> tuple[float, float]:
    """Return the first and the last place of a cluster of places that are `gap` from each other."""
    middle, half = sum(places[at] for at in cluster) / len(cluster), (len(cluster) - 1) * gap / 2
    return middle - half, middle + half


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
