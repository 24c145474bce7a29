"""Formats the comparison of two evaluated runs as text."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from batchmix.cli.tables import cell, in_columns
from batchmix.formats.amounts import counted

if TYPE_CHECKING:
    from batchmix.evaluation.comparison import Comparison, Diff
    from batchmix.evaluation.examples import Example

_WIDTH = 56
"""The width of each of the two columns of answers, in characters."""
_MAX_LINES = 6
"""The most lines of an answer that are shown."""
_HEAD = ("", "model", "metric", "before", "after", "difference", "95 %", "p", "up", "down", "same")


def diff_lines(diff: Diff, examples: list[Example]) -> list[str]:
    """Return a comparison as a table, followed by the old and new answers of the examples side by side."""
    lines = [f"{cell(diff.before, 80)} → {cell(diff.after, 80)}: {counted(diff.paired, 'result')} in pairs"]
    if diff.changed:
        lines.append(f"  {diff.changed:,} left out: their request or target has changed")
    if diff.unpaired:
        lines.append(f"  {diff.unpaired:,} left out: only in one of the runs")
    lines += [f"  left out: {cell(text, 200)}" for text in diff.left_out]
    lines += ["", *in_columns([_HEAD, *map(_cells, diff.comparisons)])]
    for example in examples:
        lines += ["", *_example_lines(example)]
    return [*lines, "", *_verdict_lines(diff)]


def _cells(comparison: Comparison) -> tuple[str, ...]:
    from batchmix.evaluation.metric_text import interval, metric_name, metric_value, p_value

    paired = comparison.paired
    return (
        comparison.verdict,
        cell(comparison.model),
        metric_name(comparison),
        metric_value(comparison.metric, paired.before),
        metric_value(comparison.metric, paired.after),
        metric_value(comparison.metric, paired.difference, signed=True),
        interval(comparison.metric, paired.low, paired.high),
        p_value(paired.p) if comparison.adjusted_p is None else f"{p_value(comparison.adjusted_p)} (worse)",
        f"{paired.wins:,}",
        f"{paired.losses:,}",
        f"{paired.ties:,}",
    )


def _verdict_lines(diff: Diff) -> Iterator[str]:
    from batchmix.evaluation.metric_text import metric_name, metric_value

    for comparison in diff.worse:
        difference = metric_value(comparison.metric, comparison.paired.difference, signed=True)
        yield f"WORSE: {cell(comparison.model)}: {metric_name(comparison)} {difference}"
    yield from missed_lines(diff.missed)
    if not diff.worse and not diff.missed:
        yield "no guarded metric is significantly worse"


def missed_lines(missed: Sequence[str]) -> list[str]:
    """Return a line for each threshold that a run misses."""
    return [f"MISSED: {cell(text, 200)}" for text in missed]


def _example_lines(example: Example) -> Iterator[str]:
    moved = example.moved
    name = f" ({cell(example.custom_id)})" if example.custom_id else ""
    yield (
        f"{cell(moved.model)}: {moved.scorer}: row {moved.row}{name}, sample {moved.sample}:"
        f" {moved.before:.3g} → {moved.after:.3g}"
    )
    for left, right in itertools.zip_longest(_wrapped(example.before), _wrapped(example.after), fillvalue=""):
        yield f"  {left.ljust(_WIDTH)} │ {right}"


def _wrapped(text: str) -> list[str]:
    short = cell(text, _WIDTH * _MAX_LINES)
    return textwrap.wrap(short, _WIDTH, max_lines=_MAX_LINES, placeholder="…") or [""]
