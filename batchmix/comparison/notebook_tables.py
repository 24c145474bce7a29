"""How a comparison looks at the end of a notebook's cell."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from batchmix.comparison.metric_text import figures, metric_name
from batchmix.formats.amounts import counted
from batchmix.formats.display import clean
from batchmix.formats.html import Html, joined, tag

if TYPE_CHECKING:
    from batchmix.comparison.run_diff import Diff
    from batchmix.comparison.verdicts import Comparison

PAGE = "max-width: 60em; margin: 0.2em 0; line-height: 1.5"
_CELL = "padding: 0.1em 1.2em 0.1em 0; text-align: left; vertical-align: top"
_MAX_ROWS = 30
"""The most scores or metrics that are shown."""


def diff_html(diff: Diff) -> str:
    """Return a comparison of two runs as HTML: a table of the metrics, and what is left out."""
    title = tag("div", f"{clean(diff.before)} → {clean(diff.after)}: {counted(diff.paired, 'result')} in pairs")
    changes = [tag("div", clean(change.heading)) for change in diff.request_changes]
    left_out = [tag("div", f"left out: {clean(message)}") for message in diff.left_out]
    alarms = [tag("div", f"{alarm.kind}: {clean(alarm.text)}") for alarm in diff.alarms]
    head = ("", "model", "metric", "before", "after", "difference", "95 %", "p")
    return tag(
        "div",
        title,
        *changes,
        *left_out,
        notebook_table(head, map(_metric_cells, diff.comparisons)),
        *alarms,
        style=PAGE,
    )


def notebook_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Html:
    """Return a table with a heading; of many rows, the first are shown."""
    lines = list(rows)
    more = [tag("div", f"and {len(lines) - _MAX_ROWS:,} more")] if len(lines) > _MAX_ROWS else []
    body = [_row("td", cells) for cells in lines[:_MAX_ROWS]]
    return joined(tag("table", _row("th", head), *body, style="border-collapse: collapse"), *more)


def _row(name: str, cells: Sequence[str]) -> Html:
    return tag("tr", *(tag(name, clean(cell), style=_CELL) for cell in cells))


def _metric_cells(comparison: Comparison) -> tuple[str, ...]:
    return (comparison.verdict, comparison.model, metric_name(comparison), *figures(comparison)[:5])
