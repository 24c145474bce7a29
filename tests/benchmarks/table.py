"""What was measured, as a table on the terminal and in Markdown."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import platform
from collections.abc import Sequence
from pathlib import Path

COLUMNS = ("what", "batchmix", "beside it", "ratio", "bound", "")
WIDTHS = (35, 9, 33, 5, 8, 4)


@dataclasses.dataclass(frozen=True)
class Bound:
    """The promised bound: at least, or at most, this value."""

    sign: str
    """"≥" or "≤"."""
    limit: float
    unit: str = ""

    def holds(self, value: float) -> bool:
        return value >= self.limit if self.sign == "≥" else value <= self.limit

    def __str__(self) -> str:
        return f"{self.sign} {self.limit:g}{self.unit}"


@dataclasses.dataclass(frozen=True)
class Line:
    """One thing that was measured: the medians, and the median of the rounds' ratios."""

    what: str
    figure: float
    unit: str
    """Also of `other`."""
    beside: str = ""
    other: float | None = None
    ratio: float | None = None
    bound: Bound | None = None
    """Of the ratio, or of the figure where there is no ratio."""

    @property
    def verdict(self) -> str:
        if self.bound is None:
            return ""
        return "ok" if self.bound.holds(self.figure if self.ratio is None else self.ratio) else "miss"

    def cells(self) -> tuple[str, ...]:
        other = "" if self.other is None else f"{self.beside}: {_number(self.other, self.unit)}"
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}" if self.ratio < 10 else f"{self.ratio:.0f}"
        bound = "" if self.bound is None else str(self.bound)
        return (self.what, _number(self.figure, self.unit), other, ratio, bound, self.verdict)


def _number(value: float, unit: str) -> str:
    return f"{value:.2f}{unit}" if unit == " s" else f"{value:,.0f}{unit}"


def in_columns(cells: Sequence[str]) -> str:
    """Return a line of the table for the terminal, which is printed as it comes."""
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, WIDTHS, strict=True)).rstrip()


def markdown(lines: Sequence[Line], conditions: str) -> str:
    """Return the table in Markdown, and under it how and on what it was measured."""
    rows = [COLUMNS, ("---",) * len(COLUMNS), *(line.cells() for line in lines)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + f"\n\n{conditions}\n"


def conditions(how: str) -> str:
    """Return one line that says how and on what it was measured."""
    versions = ", ".join(f"{name} {found}" for name in ("aiohttp", "uvloop", "openai") if (found := _version(name)))
    return (
        f"Measured by `python -m tests.benchmarks`: {how}. {_processor()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}, {versions}."
    )


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
