"""Writes `report.html`, a self-contained page without scripts. All text that comes from rows is escaped."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import minijinja
import msgspec

from batchmix.engine import reader
from batchmix.errors import RunError
from batchmix.evaluation import panels
from batchmix.evaluation.comparison import Comparison, Diff, compare_runs
from batchmix.evaluation.drawing import Drawing
from batchmix.evaluation.examples import Example, ShownAnswer, Worst, examples, worst
from batchmix.evaluation.history import past_runs
from batchmix.evaluation.measure import Metrics, ModelMetrics, ScoreMetrics, measure, missed_thresholds, read_metrics
from batchmix.evaluation.metric_text import interval, metric_name, metric_value, p_value
from batchmix.evaluation.scoring import scores_path
from batchmix.formats.amounts import usd
from batchmix.formats.display import clean
from batchmix.formats.pyarrow_setup import set_up_arrow
from batchmix.job.eval_table import Eval
from batchmix.store.answer_totals import shown_path
from batchmix.store.filesystem import is_ours, replace_file
from batchmix.store.run_folder import Layout
from batchmix.store.view import View

_EXAMPLES = 30
"""The approximate limit of changed answers on the page, over all models and scorers; the same for worst answers."""
_GROUPS = 50
"""The most rows that a group table shows."""
_TEXT_CHARS = 1_500
"""The most characters of an answer that are shown."""


def write_report(folder: Path, baseline: Path | None) -> Path:
    """Write a run's `report.html` and return its path. Raises `RunError`.

    `baseline` is the folder of the run to compare with. None leaves the comparison out.
    """
    set_up_arrow()
    path = folder / "report.html"
    if not is_ours(path, lambda path: b"batchmix" in path.read_bytes()):
        raise RunError(f"{path}: was not written by batchmix; move it away")
    layout = Layout(folder, mode=reader.job_of(folder).output.permissions)
    page = _page(_values(folder, baseline)).encode("utf-8", "replace")
    try:
        replace_file(path, page, layout.file_mode)
    except OSError as error:
        raise RunError(f"{path}: can't be written: {error.strerror or error}") from error
    return path


def _page(values: dict[str, Any]) -> str:
    environment = minijinja.Environment(undefined_behavior="strict", auto_escape_callback=lambda _: "html", debug=False)
    environment.add_template("report.html", (resources.files("batchmix.evaluation") / "report.html").read_text())
    return environment.render_template("report.html", **values)


def _values(folder: Path, baseline: Path | None) -> dict[str, Any]:
    """Return the values that the template of the page shows, with control characters escaped."""
    view, layout = reader.look(folder), Layout(folder)
    evaluated = scores_path(layout).exists()
    metrics = read_metrics(layout) if evaluated else measure(layout, Eval(), ())
    compared = compare_runs(baseline, folder) if baseline else None
    times = panels.read_response_times(folder, view.run)
    runs = past_runs(folder.resolve().parent, metrics.name)
    past = [past_run for past_run in runs if past_run.started_at <= metrics.started_at]
    pairs = max(1, len(metrics.models) * len(metrics.settings.scorers))
    examples_per_pair = max(1, min(3, _EXAMPLES // pairs))
    return {
        "name": clean(metrics.name, 100),
        "started": metrics.started_at.replace("T", " ").replace("Z", " UTC"),
        "folder": clean(str(folder), 200),
        "complete": metrics.complete,
        "batchmix": metrics.batchmix,
        "missed": [clean(line) for line in missed_thresholds(metrics)],
        "tiles": list(_tiles(view, metrics, times, compared)),
        "scores": _drawn([*panels.score_charts(metrics, compared), *panels.history_charts(past, metrics)]),
        "score_rows": [_score(found) for found in metrics.scores if not found.group],
        "groups": [_group(table) for table in panels.group_tables(metrics, _GROUPS)],
        "run_charts": _drawn(
            [
                *panels.speed_chart(times, view.run.models),
                *panels.latency_chart(times),
                *panels.cost_chart(view.totals, metrics),
                *panels.failure_chart(view.totals),
            ]
        ),
        "models": [_model(found) for found in metrics.models],
        "failures": [
            {"kind": kind, "count": f"{failed.count:,}", "row": f"{failed.row}", "message": clean(failed.message, 300)}
            for kind, failed in sorted(view.totals.failures.items(), key=lambda item: -item[1].count)
        ],
        "answers": _answers(view.answers) if view.answers else None,
        "worst": [_worst(result) for result in worst(folder, examples_per_pair)] if evaluated else [],
        "diff": _difference(compared, examples_per_pair) if compared else None,
    }  # fmt: skip


def _drawn(drawings: list[Drawing]) -> list[dict[str, Any]]:
    return [
        {**msgspec.to_builtins(drawing), "title": clean(drawing.title, 120), "caption": clean(drawing.caption)}
        for drawing in drawings
    ]


def _tiles(
    view: View, metrics: Metrics, times: panels.ResponseTimes, compared: Diff | None
) -> Iterator[dict[str, str]]:
    """Yield the tiles at the top of the page, which show the main figures."""
    totals, timeline = view.totals, times.timeline
    if compared:
        guarded = sum(bool(one.verdict) for one in compared.comparisons)
        tone = "bad" if compared.worse else "good"
        yield _tile("Worse", f"{len(compared.worse)}", f"of {guarded:,} guarded metrics", tone)
    unanswered = totals.failed + totals.rejected
    yield _tile("Answered", f"{totals.ok:,}", f"of {view.run.results:,}; {unanswered:,} without an answer")
    judged = [one.cost_usd for one in metrics.judges if one.cost_usd is not None]
    if totals.cost_usd is not None or judged:
        spent = sum([totals.cost_usd or 0.0, *judged])
        note = f"including {usd(sum(judged))} for judging" if judged else "all answers"
        yield _tile("Cost", usd(spent), f"{totals.unpriced:,} without a price" if totals.unpriced else note)
    yield _tile("Tokens", _short(totals.prompt_tokens + totals.completion_tokens),
                f"{totals.prompt_tokens:,} in, {totals.completion_tokens:,} out")  # fmt: skip
    if timeline:
        yield _tile("Active time", _duration(timeline.span_s), f"{totals.ok / timeline.span_s:,.4g} answers per second")


def _tile(name: str, value: str, note: str, tone: str = "") -> dict[str, str]:
    return {"name": name, "value": value, "note": note, "tone": tone}


def _short(count: int) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g} {letter}"
    return f"{count}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.3g} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02} min"


def _score(scored: ScoreMetrics) -> dict[str, str]:
    score = scored.score
    has_interval = score.low is not None and score.high is not None
    return {
        "model": clean(scored.model, 60),
        "scorer": scored.scorer,
        "mean": _number(score.mean),
        "stderr": _number(score.stderr, 4),
        "interval": f"{score.low:.3f} to {score.high:.3f}" if has_interval else "",
        "n": f"{score.n:,}",
        "unscored": f"{scored.unscored:,}",
        "no_answer": f"{scored.no_answer:,}",
        "pass_at": ", ".join(f"{k}: {value:.3f}" for k, value in scored.pass_at.items()),
    }


def _group(table: Any) -> dict[str, Any]:
    rows = [{**row, "value": "null" if row["value"] is None else clean(row["value"], 60)} for row in table["rows"]]
    models = [clean(model, 40) for model in table["models"]]
    return {**table, "column": clean(table["column"], 60), "models": models, "rows": rows}


def _model(model: ModelMetrics) -> dict[str, str]:
    latency = model.latency_s or {}
    return {
        "model": clean(model.model, 60),
        "results": f"{model.results:,}",
        **{name: f"{getattr(model, name):.1%}" for name in ("answered", "failed", "refused")},
        **{name: f"{getattr(model, name):,}" for name in ("prompt_tokens", "completion_tokens")},
        "cost": "" if model.cost_usd is None else usd(model.cost_usd),
        **{point: f"{latency[point]:.2f} s" if latency else "" for point in ("p50", "p90", "p99")},
        "chars": "" if model.response_chars is None else f"{model.response_chars:,.0f}",
    }


def _answers(answers: dict[str, Any]) -> dict[str, Any]:
    """Return the tables that say how answers fared in the check by the job's schema."""
    invalid, lost = answers["invalid_paths"], answers["lost_paths"]
    return {
        "models": [
            {
                "model": clean(model, 60),
                **{name: f"{found[name]:,}" for name in ("valid", "healed", "repaired", "lost", "repairs")},
                "cost": "" if found["repairs_usd"] is None else usd(found["repairs_usd"]),
            }
            for model, found in answers["models"].items()
        ],
        "paths": [
            {
                "path": clean(shown_path(path), 200),
                "invalid": f"{invalid.get(path, 0):,}",
                "lost": f"{lost.get(path, 0):,}",
            }
            for path in dict.fromkeys([*invalid, *lost])
        ],
    }


def _difference(compared: Diff, examples_per_pair: int) -> dict[str, Any]:
    return {
        "before": clean(compared.before, 200),
        "paired": f"{compared.paired:,}",
        "changed": f"{compared.changed:,}",
        "unpaired": f"{compared.unpaired:,}",
        "left_out": [clean(line) for line in compared.left_out],
        "charts": _drawn(list(panels.difference_charts(compared))),
        "rows": [_comparison(comparison) for comparison in compared.comparisons],
        "worse": [_comparison(comparison) for comparison in compared.worse],
        "examples": [_example(example) for example in examples(compared, examples_per_pair)],
    }


def _comparison(comparison: Comparison) -> dict[str, str]:
    paired = comparison.paired
    return {
        "verdict": comparison.verdict,
        "tone": {"worse": "bad", "better": "good"}.get(comparison.verdict, "faint"),
        "model": clean(comparison.model, 60),
        "what": metric_name(comparison),
        "before": metric_value(comparison.metric, paired.before),
        "after": metric_value(comparison.metric, paired.after),
        "difference": metric_value(comparison.metric, paired.difference, signed=True),
        "interval": interval(comparison.metric, paired.low, paired.high),
        "p": p_value(paired.p if comparison.adjusted_p is None else comparison.adjusted_p),
        "moves": f"{paired.wins:,} / {paired.losses:,} / {paired.ties:,}",
    }


def _example(example: Example) -> dict[str, Any]:
    change = example.moved
    return {
        "title": _title(change.model, change.scorer, change.row, example.custom_id),
        "score": f"{change.before:.3g} → {change.after:.3g}",
        "tone": "bad" if change.after < change.before else "good",
        "columns": _columns(ShownAnswer(columns=example.columns)),
        "before": _text(example.before),
        "after": _text(example.after),
    }


def _worst(result: Worst) -> dict[str, Any]:
    return {
        "title": _title(result.model, result.scorer, result.row, result.answer.custom_id),
        "score": _number(result.score),
        "columns": _columns(result.answer),
        "text": _text(result.answer.text),
        **{name: _text(getattr(result, name) or "", 300) for name in ("target", "extracted", "explanation")},
    }


def _title(model: str, scorer: str, row: int, custom_id: str | None) -> str:
    name = f" ({clean(custom_id, 60)})" if custom_id else ""
    return f"{clean(model, 60)} · {scorer} · row {row}{name}"


def _columns(answer: ShownAnswer) -> list[dict[str, str]]:
    shown = ((name, value) for name, value in answer.columns.items() if value is not None)
    return [
        {
            "name": clean(name, 60),
            "value": _text(value if isinstance(value, str) else json.dumps(value, default=str), 400),
        }
        for name, value in shown
    ]


def _text(text: str, max_chars: int = _TEXT_CHARS) -> str:
    """Return text from a row, shortened to `max_chars`. Control characters except line breaks are escaped."""
    more = "…" if len(text) > max_chars else ""
    return "\n".join(clean(line, max_chars) for line in text[:max_chars].splitlines()) + more


def _number(value: float | None, digits: int = 3) -> str:
    return "" if value is None else f"{value:.{digits}f}"
