"""How an evaluation looks at the end of a notebook's cell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchmix.comparison.notebook_tables import PAGE, diff_html, notebook_table
from batchmix.formats.amounts import counted
from batchmix.formats.display import clean, group_names
from batchmix.formats.html import Html, tag

if TYPE_CHECKING:
    from batchmix.evaluation.measure import ScoreMetrics
    from batchmix.verdict.outcome import Evaluation


def evaluation_html(evaluation: Evaluation) -> str:
    """Return an evaluation as HTML: a table of scores, its baseline, the comparison if there is one, and its alarms."""
    title = tag("div", tag("b", clean(evaluation.metrics.name)), f": {counted(evaluation.metrics.results, 'result')}")
    scores = notebook_table(("model", "scorer", "rows of", "score", "95 %", "n"), map(_score_cells, evaluation.scores))
    baseline = [tag("div", clean(evaluation.baseline.shown))] if evaluation.baseline else []
    compared = [] if evaluation.diff is None else [Html(diff_html(evaluation.diff))]
    shown = evaluation.diff.alarms if evaluation.diff else ()
    alarms = [tag("div", f"{one.kind}: {clean(one.text)}") for one in evaluation.alarms if one not in shown]
    return tag("div", title, scores, *baseline, *compared, *alarms, style=PAGE)


def _score_cells(scored: ScoreMetrics) -> tuple[str, ...]:
    score = scored.score
    return (
        scored.model,
        scored.scorer,
        ", ".join(group_names(scored.group)) or "all",
        "" if score.mean is None else f"{score.mean:.3f}",
        "" if score.low is None or score.high is None else f"{score.low:.3f} to {score.high:.3f}",
        f"{score.n:,}",
    )
