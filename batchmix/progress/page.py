"""The progress of a run as HTML, for the output of a notebook's cell.

Its colours fit light and dark themes: text has the theme's own, all else lets the background through.
"""

from __future__ import annotations

from collections.abc import Sequence

from batchmix.engine.run_status import Idle, Phase, RunStatus
from batchmix.formats.amounts import usd
from batchmix.formats.html import Html, joined, tag
from batchmix.progress.lines import (
    and_more,
    busiest,
    fared_counts,
    last_parts,
    percent,
    run_parts,
    span_text,
    summary_line,
)
from batchmix.progress.speeds import ModelProgress, Rates, model_progress, shown_text
from batchmix.store.answer_totals import Fared

NOTHING_SENT = "nothing was sent"
"""The last state of a run that was complete before, or that was refused."""
_MAX_MODELS = 12
"""The most models with a line of their own."""
_MAX_WARNINGS = 5
"""The most warnings that are shown at the end."""
_BUSY, _DONE, _FAILED, _EMPTY = "#2196f3", "#43a047", "#e5533d", "rgba(128, 128, 128, 0.25)"
"""The colours of a bar: of finished rows while the run goes on, and at its end; of failed rows; of all others."""
_PAGE = "max-width: 60em; overflow-x: auto; margin: 0.2em 0; line-height: 1.5"
_FRAME = f"display: flex; height: 0.6em; background-color: {_EMPTY}; border-radius: 0.3em; overflow: hidden"
_CELL = "padding: 0.1em 1em 0.1em 0; vertical-align: middle; text-align"
_TABLE = "margin: 0.3em 0; border-collapse: collapse; table-layout: auto; font-variant-numeric: tabular-nums"
_FARED = tuple(fared.value for fared in fared_counts(None))
_COLUMNS = ("model", "bar", "rows", "time left", "cost", "answers/s", "failed", *_FARED, "limited by")
_LAST_COLUMNS = ("model", "bar", "rows", "cost", "failed", *_FARED, "state")
_ENDS = frozenset({"done", *Idle})
"""What may be the state of a model at the end."""
_UNNAMED, _LEFT_ALIGNED = frozenset({"bar", "state"}), frozenset({"model", "limited by", "state"})


def progress_page(run_status: RunStatus, rates: Rates) -> Html:
    """Return the state of a run in progress: bar, rows, time left, cost and limit, and a line for each model."""
    if not run_status.results or run_status.phase in {Phase.STARTING, Phase.SCANNING}:
        return tag("div", summary_line(run_status, rates), style=_PAGE)
    several = len(run_status.lanes) > 1
    parts = run_parts(run_status, rates, limits=not several)
    models = model_progress(run_status, rates) if several else []
    columns = _columns(_COLUMNS, run_status)
    return tag("div", *_head(run_status, parts, _BUSY), _model_table(models, columns), style=_PAGE)


def final_page(run_status: RunStatus, elapsed_s: float) -> Html:
    """Return the state in which a run ended, whether it is complete or not."""
    parts = [*last_parts(run_status), f"took {span_text(elapsed_s)}"]
    models = model_progress(run_status, []) if len(run_status.lanes) > 1 else []
    colour = _DONE if run_status.finished >= run_status.results else _BUSY
    head = _head(run_status, parts, colour) if run_status.results else [tag("div", NOTHING_SENT)]
    warnings = [tag("div", f"Warning: {shown_text(run_status, text)}") for text in run_status.warnings]
    return tag(
        "div", *head, _model_table(models, _columns(_LAST_COLUMNS, run_status)), *warnings[:_MAX_WARNINGS], style=_PAGE
    )


def _columns(names: Sequence[str], run_status: RunStatus) -> list[str]:
    """Return the columns of a table of models. How answers fared is told only if the job has a schema for them."""
    return [name for name in names if run_status.checked is not None or name not in set(Fared)]


def _head(run_status: RunStatus, parts: Sequence[str], colour: str) -> list[Html]:
    finished, results = run_status.finished, run_status.results
    failed = run_status.failed + run_status.rejected
    noun = "rows" if len(run_status.lanes) == 1 else "results"
    rows = tag("div", tag("b", percent(finished, results).strip()), f" {finished:,}/{results:,} {noun}")
    return [rows, _bar(finished - failed, failed, results, colour), tag("div", " · ".join(parts))]


def _bar(answered: int, failed: int, results: int, colour: str, width: str = "100%") -> Html:
    """Return a bar, in which a part for the failed rows follows that of the answered ones."""
    pieces = [
        tag("div", style=f"width: {100 * min(1.0, count / max(1, results)):.2f}%; background-color: {of}")
        for count, of in ((answered, colour), (failed, _FAILED))
        if count
    ]
    return tag("div", *pieces, style=f"{_FRAME}; width: {width}")


def _model_table(models: list[ModelProgress], columns: Sequence[str]) -> Html:
    """Return a table with a line for each model, or for the fastest if they are many. Empty without models."""
    if not models:
        return Html()
    shown = busiest(models, _MAX_MODELS)
    head = tag("tr", *(tag("th", "" if column in _UNNAMED else column, style=_cell(column)) for column in columns))
    rows = [tag("tr", *(tag("td", _text(model, column), style=_cell(column)) for column in columns)) for model in shown]
    more = tag("div", and_more(models, shown)) if len(shown) < len(models) else ""
    return joined(tag("table", head, *rows, style=_TABLE), more)


def _cell(column: str) -> str:
    return f"{_CELL}: left" if column in _LEFT_ALIGNED else f"{_CELL}: right; white-space: nowrap"


def _text(model: ModelProgress, column: str) -> str:
    """Return what the table says about a model in a column."""
    failed, colour = model.failed, _DONE if model.limited_by == "done" else _BUSY
    fared = {name.value: f"{count:,}" for name, count in fared_counts(model.checked).items()}
    texts = fared | {
        "model": model.model,
        "bar": _bar(model.finished - failed, failed, model.results, colour, "6em"),
        "rows": f"{model.finished:,}/{model.results:,}" if model.results else f"{model.finished:,}",
        "time left": "" if model.left_s is None else span_text(model.left_s),
        "cost": "" if model.cost_usd is None else usd(model.cost_usd),
        "answers/s": f"{model.answers_per_s:,.1f}",
        "failed": f"{failed:,}",
        "limited by": model.limited_by,
        "state": model.limited_by if model.limited_by in _ENDS else "",
    }
    return texts[column]
