"""How an evaluation and a comparison look at the end of a notebook's cell."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from batchmix.evaluation.metric_text import figures, metric_name
from batchmix.formats.amounts import counted
from batchmix.formats.display import clean
from batchmix.formats.html import Html, joined, tag

if TYPE_CHECKING:
    from batchmix.evaluation.comparison import Diff
    from batchmix.evaluation.measure import ScoreMetrics
    from batchmix.evaluation.outcome import Evaluation
    from batchmix.evaluation.verdicts import Comparison

_PAGE = "max-width: 60em; margin: 0.2em 0; line-height: 1.5"
_CELL = "padding: 0.1em 1.2em 0.1em 0; text-align: left; vertical-align: top"
_MAX_ROWS = 30
"""The most scores or metrics that are shown."""


def evaluation_html(evaluation: Evaluation) -> str:
    """Return an evaluation as HTML: a table of scores, its baseline, the comparison if there is one, and its alarms."""
    title = tag("div", tag("b", clean(evaluation.metrics.name)), f": {counted(evaluation.metrics.results, 'result')}")
    scores = _table(("model", "scorer", "rows of", "score", "95 %", "n"), map(_score_cells, evaluation.scores))
    baseline = [tag("div", clean(evaluation.baseline.shown))] if evaluation.baseline else []
    compared = [] if evaluation.diff is None else [Html(diff_html(evaluation.diff))]
    shown = evaluation.diff.alarms if evaluation.diff else ()
    alarms = [tag("div", f"{one.kind}: {clean(one.text)}") for one in evaluation.alarms if one not in shown]
    return tag("div", title, scores, *baseline, *compared, *alarms, style=_PAGE)


def diff_html(diff: Diff) -> str:
    """Return a comparison of two runs as HTML: a table of the metrics, and what is left out."""
    title = tag("div", f"{clean(diff.before)} → {clean(diff.after)}: {counted(diff.paired, 'result')} in pairs")
    changes = [tag("div", clean(change.heading)) for change in diff.request_changes]
    left_out = [tag("div", f"left out: {clean(message)}") for message in diff.left_out]
    alarms = [tag("div", f"{alarm.kind}: {clean(alarm.text)}") for alarm in diff.alarms]
    head = ("", "model", "metric", "before", "after", "difference", "95 %", "p")
    return tag(
        "div", title, *changes, *left_out, _table(head, map(_metric_cells, diff.comparisons)), *alarms, style=_PAGE
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Html:
    lines = list(rows)
    more = [tag("div", f"and {len(lines) - _MAX_ROWS:,} more")] if len(lines) > _MAX_ROWS else []
    body = [_row("td", cells) for cells in lines[:_MAX_ROWS]]
    return joined(tag("table", _row("th", head), *body, style="border-collapse: collapse"), *more)


def _row(name: str, cells: Sequence[str]) -> Html:
    return tag("tr", *(tag(name, clean(cell), style=_CELL) for cell in cells))


def _score_cells(scored: ScoreMetrics) -> tuple[str, ...]:
    score = scored.score
    return (
        scored.model,
        scored.scorer,
        ", ".join(f"{name} = {value}" for name, value in scored.group.items()) or "all",
        "" if score.mean is None else f"{score.mean:.3f}",
        "" if score.low is None or score.high is None else f"{score.low:.3f} to {score.high:.3f}",
        f"{score.n:,}",
    )


def _metric_cells(comparison: Comparison) -> tuple[str, ...]:
    return (comparison.verdict, comparison.model, metric_name(comparison), *figures(comparison)[:5])
