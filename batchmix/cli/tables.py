"""Formats tables of text, and an evaluation as such tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from batchmix.formats.amounts import counted, usd
from batchmix.formats.display import group_names

if TYPE_CHECKING:
    from batchmix.evaluation.measure import Metrics, ModelMetrics, ScoreMetrics


def in_columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as lines with aligned cells. The first row is the head."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def cell(text: str | None, max_chars: int = 40) -> str:
    """Return text on one line, shortened to `max_chars`, for the cell of a table."""
    line = " ".join((text or "").split())
    return line if len(line) <= max_chars else line[: max_chars - 1] + "…"


def metrics_lines(metrics: Metrics) -> list[str]:
    """Return the metrics of an evaluation: a table of scores, a table of models, and notes."""
    lines = [
        f"{cell(metrics.name)}: {counted(metrics.results, 'result')}{'' if metrics.complete else ', not finished'}"
    ]
    scores = [_SCORE_HEAD, *map(_score_cells, metrics.scores)]
    if not any(any(row[-_SAMPLE_COLUMNS:]) for row in scores[1:]):
        scores = [row[:-_SAMPLE_COLUMNS] for row in scores]
    lines += ["", *in_columns(scores)]
    lines += ["", *in_columns([_MODEL_HEAD, *map(_model_cells, metrics.models)])]
    return lines + list(_notes(metrics))


_SCORE_HEAD = (
    *("model", "scorer", "rows of", "score", "± s.e.", "95 %", "n", "no answer"),
    *("pass@k", "pass^k", "majority@k"),
)
_SAMPLE_COLUMNS = 3
"""The last columns, which are left out if each row has one sample."""
_MODEL_HEAD = ("model", "answered", "failed", "refused", "empty", "tokens in", "out", "cost", "p50", "p90", "p99")


def _score_cells(scored: ScoreMetrics) -> tuple[str, ...]:
    score = scored.score
    group = ", ".join(cell(name, 60) for name in group_names(scored.group)) or "all"
    interval = "" if score.low is None or score.high is None else f"{score.low:.3f}–{score.high:.3f}"
    return (
        cell(scored.model),
        scored.scorer,
        group,
        number(score.mean),
        number(score.stderr, 4),
        interval,
        f"{score.n:,}",
        f"{scored.no_answer:,}",
        *(" ".join(f"{k}: {value:.3f}" for k, value in at.items()) for at in scored.at_samples.values()),
    )


def _model_cells(model: ModelMetrics) -> tuple[str, ...]:
    latency = model.latency_s or {}
    return (
        cell(model.model),
        *(f"{share:.1%}" for share in (model.answered, model.failed, model.refused, model.empty)),
        f"{model.prompt_tokens:,}",
        f"{model.completion_tokens:,}",
        "" if model.cost_usd is None else usd(model.cost_usd),
        *(f"{latency[point]:.2f} s" if point in latency else "" for point in ("p50", "p90", "p99")),
    )


def _notes(metrics: Metrics) -> Iterator[str]:
    for judged in metrics.judges:
        cost = "" if judged.cost_usd is None else f", {usd(judged.cost_usd)}"
        tokens = f"{judged.prompt_tokens:,} tokens in, {judged.completion_tokens:,} out{cost}"
        reused = f", {counted(judged.reused, 'verdict')} reused at no cost" if judged.reused else ""
        given = counted(judged.ok if judged.verdicts is None else judged.verdicts, "verdict")
        refused = f", refused {judged.refused:,} times" if judged.refused else ""
        yield f"{judged.scorer}: {cell(judged.model)} gave {given}{refused}, {tokens}{reused}"
        if judged.rejected:
            what = f"{counted(judged.rejected, 'request')} to the judge {'was' if judged.rejected == 1 else 'were'}"
            yield f"{judged.scorer}: {what} rejected; --retry-rejected sends them again"
        if judged.same:
            yield f"{judged.scorer}: {counted(judged.same, 'pair')} of the same answers, which no judge was asked about"
        if judged.disagreement is not None:
            yield f"{judged.scorer}: the judges differ on {judged.disagreement:.1%} of the answers"
        if judged.contradicted is not None:
            bias = f"bias to the first place {judged.position_bias or 0:+.1%}"
            yield f"{judged.scorer}: in {judged.contradicted:.1%} of the pairs the orders contradict each other, {bias}"
    judging = [judged.cost_usd for judged in metrics.judges if judged.cost_usd is not None]
    if judging:
        answers = [found.cost_usd for found in metrics.models if found.cost_usd is not None]
        yield f"cost in all: {usd(sum(answers) + sum(judging))}, of it {usd(sum(judging))} for judging"
    for found in metrics.scores:
        if found.unscored and not found.group:
            what = f"{found.scorer} gives no score to {counted(found.unscored, 'result')}"
            yield f"{cell(found.model)}: {what} (see evaluation/scores.parquet)"
        if found.no_target and not found.group:
            lack = metrics.settings.target_in_words(found.scorer)
            yield f"{cell(found.model)}: {counted(found.no_target, 'result')} without {lack}: {found.scorer} skips them"


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with a fixed number of digits, for the cell of a table. Empty for None."""
    return "" if value is None else f"{value:.{digits}f}"
