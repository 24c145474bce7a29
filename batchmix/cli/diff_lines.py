"""Formats the comparison of two evaluated runs as text."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from batchmix.cli.tables import cell, in_columns
from batchmix.formats.amounts import counted
from batchmix.formats.display import group_names

if TYPE_CHECKING:
    from batchmix.comparison.alarms import Alarm
    from batchmix.comparison.examples import Example, RewrittenAnswer
    from batchmix.comparison.request_changes import RequestChange
    from batchmix.comparison.run_diff import Diff
    from batchmix.comparison.verdicts import Comparison

_WIDTH = 56
"""The width of each of the two columns of answers, in characters."""
_MAX_LINES = 6
"""The most lines of an answer that are shown."""
_MAX_DIFF_LINES = 30
"""The most lines of a prompt's difference that are shown."""
_HEAD = ("", "model", "metric", "before", "after", "difference", "95 %", "p", "up", "down", "same", "detectable")


def diff_lines(diff: Diff, examples: Sequence[Example | RewrittenAnswer]) -> list[str]:
    """Return a comparison as a table, followed by the old and new answers of the examples side by side."""
    pairs = f"{counted(diff.paired, 'result')} in pairs by {diff.paired_by}"
    lines = [f"{cell(diff.before, 80)} → {cell(diff.after, 80)}: {pairs}"]
    lines += [f"  {cell(text, 200)}" for text in diff.renamed]
    if diff.other_requests:
        lines.append(f"  {diff.other_requests:,} with another request")
    for change in diff.request_changes:
        lines += _change_lines(change)
    if diff.changed:
        lines.append(f"  {diff.changed:,} left out: {diff.why_changed}")
    if diff.unpaired:
        lines.append(f"  {diff.unpaired:,} left out: only in one of the runs")
    lines += [f"  left out: {cell(text, 200)}" for text in diff.left_out]
    if diff.rewritten_count:
        lines.append(f"  {counted(diff.rewritten_count, 'answer')} with another text")
    groups = [group for group in diff.groups if group.verdict in {"worse", "better"}]
    lines += ["", *in_columns([_HEAD, *map(_cells, [*diff.comparisons, *groups])])]
    for example in examples:
        lines += ["", *_example_lines(example)]
    return [*lines, "", *_verdict_lines(diff)]


def _cells(comparison: Comparison) -> tuple[str, ...]:
    from batchmix.comparison.metric_text import figures, least_found, metric_name

    found = figures(comparison)
    tested = f"{found.p} ({'better' if comparison.verdict == 'better' else 'worse'})"
    return (
        comparison.verdict,
        cell(comparison.model),
        metric_name(comparison) + "".join(f" of {cell(name)}" for name in group_names(comparison.group)),
        *found[:4],
        found.p if comparison.adjusted_p is None else tested,
        *found[5:],
        least_found(comparison),
    )


def _verdict_lines(diff: Diff) -> Iterator[str]:
    yield from alarm_lines(diff.alarms)
    if diff.passed:
        yield "no guarded metric is significantly worse"


def alarm_lines(alarms: Sequence[Alarm]) -> list[str]:
    """Return a line for each reason why a run does not pass."""
    return [f"{alarm.kind.upper()}: {cell(alarm.text, 300)}" for alarm in alarms]


def _change_lines(change: RequestChange) -> Iterator[str]:
    """Yield what differs between the requests of two runs, with the lines of a text that are gone and new."""
    yield f"  {cell(change.heading, 200)}"
    yield from (f"    {line[:1]} {cell(line[1:], 120)}".rstrip() for line in change.lines[:_MAX_DIFF_LINES])
    if len(change.lines) > _MAX_DIFF_LINES:
        yield f"    … and {counted(len(change.lines) - _MAX_DIFF_LINES, 'more line')}"


def _example_lines(example: Example | RewrittenAnswer) -> Iterator[str]:
    yield _title(example)
    for left, right in itertools.zip_longest(_wrapped(example.before), _wrapped(example.after), fillvalue=""):
        yield f"  {left.ljust(_WIDTH)} │ {right}"


def _title(example: Example | RewrittenAnswer) -> str:
    from batchmix.comparison.examples import Example

    name = f" ({cell(example.custom_id)})" if example.custom_id else ""
    if not isinstance(example, Example):
        result = example.result
        return f"{cell(result.model)}: row {result.row}{name}, sample {result.sample}"
    moved = example.moved
    where = f"{cell(moved.model)}: {moved.scorer}: row {moved.row}{name}, sample {moved.sample}"
    return f"{where}: {moved.before:.3g} → {moved.after:.3g}"


def _wrapped(text: str) -> list[str]:
    short = cell(text, _WIDTH * _MAX_LINES)
    return textwrap.wrap(short, _WIDTH, max_lines=_MAX_LINES, placeholder="…") or [""]
