"""Formats the comparison of two evaluated runs as text."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from batchmix.cli.tables import cell, in_columns
from batchmix.formats.amounts import counted

if TYPE_CHECKING:
    from batchmix.evaluation.alarms import Alarm
    from batchmix.evaluation.comparison import Diff
    from batchmix.evaluation.examples import Example
    from batchmix.evaluation.verdicts import Comparison

_WIDTH = 56
"""The width of each of the two columns of answers, in characters."""
_MAX_LINES = 6
"""The most lines of an answer that are shown."""
_HEAD = ("", "model", "metric", "before", "after", "difference", "95 %", "p", "up", "down", "same")


def diff_lines(diff: Diff, examples: list[Example]) -> list[str]:
    """Return a comparison as a table, followed by the old and new answers of the examples side by side."""
    lines = [f"{cell(diff.before, 80)} → {cell(diff.after, 80)}: {counted(diff.paired, 'result')} in pairs"]
    if diff.changed:
        lines.append(f"  {diff.changed:,} left out: their target has changed")
    if diff.unpaired:
        lines.append(f"  {diff.unpaired:,} left out: only in one of the runs")
    lines += [f"  left out: {cell(text, 200)}" for text in diff.left_out]
    lines += ["", *in_columns([_HEAD, *map(_cells, diff.comparisons)])]
    for example in examples:
        lines += ["", *_example_lines(example)]
    return [*lines, "", *_verdict_lines(diff)]


def _cells(comparison: Comparison) -> tuple[str, ...]:
    from batchmix.evaluation.metric_text import figures, metric_name

    found = figures(comparison)
    tested = f"{found.p} ({'better' if comparison.verdict == 'better' else 'worse'})"
    return (
        comparison.verdict,
        cell(comparison.model),
        metric_name(comparison),
        *found[:4],
        found.p if comparison.adjusted_p is None else tested,
        *found[5:],
    )


def _verdict_lines(diff: Diff) -> Iterator[str]:
    yield from alarm_lines(diff.alarms)
    if diff.passed:
        yield "no guarded metric is significantly worse"


def alarm_lines(alarms: Sequence[Alarm]) -> list[str]:
    """Return a line for each reason why a run does not pass."""
    return [f"{alarm.kind.upper()}: {cell(alarm.text, 300)}" for alarm in alarms]


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
