"""`report.html`: one page that needs nothing else, with no script in it, and all that comes from rows escaped."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import minijinja
import msgspec
import pyarrow.compute as pc
import pyarrow.parquet as pq

from batchmix.arrow import set_up_arrow
from batchmix.errors import RunError
from batchmix.eval_table import Eval
from batchmix.evaluate.diff import Comparison, Diff, diff
from batchmix.evaluate.examples import Example, examples
from batchmix.evaluate.guards import missed
from batchmix.evaluate.history import past_runs
from batchmix.evaluate.measure import Metrics, ModelMetrics, ScoreMetrics, measure, read_metrics
from batchmix.evaluate.scoring import scores_path
from batchmix.load.words import clean
from batchmix.store.files import replace_file
from batchmix.store.rundir import Layout

_LEFT, _RIGHT, _STEP = 260, 680, 24
"""The plot's edges and the height of a row, in the units of the drawing."""
_EXAMPLES = 3
_WRONG = 20


def write_report(folder: Path, against: Path | None) -> Path:
    """Write a run's `report.html` and return where it stands. Raises `RunError`."""
    set_up_arrow()
    layout = Layout(folder)
    evaluated = scores_path(layout).exists()
    metrics = read_metrics(layout) if evaluated else measure(layout, Eval(), ())
    compared = diff(against, folder) if against else None
    values: dict[str, Any] = {
        "metrics": {**msgspec.to_builtins(metrics, str_keys=True), "name": clean(metrics.name)},
        "missed": [clean(line) for line in missed(metrics)],
        "chart": _chart(metrics),
        "scores": [_score(found) for found in metrics.scores],
        "models": [_model(found) for found in metrics.models],
        "trends": list(_trends(folder, metrics)),
        "wrong": list(_wrong(layout)) if evaluated else [],
        **(_differences(compared) if compared else {"diff": None}),
    }
    path = folder / "report.html"
    try:
        replace_file(path, layout.redacted(_page(values).encode("utf-8", "replace")))
    except OSError as error:
        raise RunError(f"{path}: can't be written: {error.strerror or error}") from error
    return path


def _page(values: dict[str, Any]) -> str:
    environment = minijinja.Environment(undefined_behavior="strict", auto_escape_callback=lambda _: "html", debug=False)
    environment.add_template("report.html", (resources.files("batchmix.evaluate") / "report.html").read_text())
    return environment.render_template("report.html", **values)


def _chart(metrics: Metrics) -> dict[str, Any]:
    """Return where each score stands in the drawing."""
    shown = [found for found in metrics.scores if found.score.mean is not None and not found.group]
    ends = [end for found in shown for end in (found.score.mean, found.score.low, found.score.high) if end is not None]
    least, most = min([0.0, *ends]), max([1.0, *ends])

    def x(value: float | None) -> float | None:
        return None if value is None else round(_LEFT + (value - least) / (most - least) * (_RIGHT - _LEFT), 1)

    rows = [
        {
            "y": 16 + number * _STEP,
            "label": clean(f"{found.model} · {found.scorer}", 40),
            "x": x(found.score.mean),
            "low": x(found.score.low),
            "high": x(found.score.high),
            "text": _number(found.score.mean),
        }
        for number, found in enumerate(shown)
    ]
    ticks = [least + (most - least) * share / 4 for share in range(5)]
    return {
        "rows": rows,
        "height": 16 + len(rows) * _STEP + 28,
        "ticks": [{"x": x(tick), "text": f"{tick:.2f}"} for tick in ticks],
    }


def _score(found: ScoreMetrics) -> dict[str, str]:
    score = found.score
    return {
        "model": clean(found.model),
        "scorer": found.scorer,
        "group": ", ".join(f"{clean(name)}={clean(str(value), 60)}" for name, value in found.group.items()) or "all",
        "mean": _number(score.mean),
        "stderr": _number(score.stderr, 4),
        "interval": _interval(score.low, score.high, ".3f"),
        "n": f"{score.n:,}",
        "no_answer": f"{found.no_answer:,}",
        "pass_at": ", ".join(f"{k}: {value:.3f}" for k, value in found.pass_at.items()),
    }


def _model(found: ModelMetrics) -> dict[str, str]:
    latency = found.latency_s or {}
    return {
        "model": clean(found.model),
        **{name: f"{getattr(found, name):.1%}" for name in ("answered", "failed", "refused")},
        **{name: f"{getattr(found, name):,}" for name in ("prompt_tokens", "completion_tokens")},
        "cost": "" if found.cost_usd is None else f"${found.cost_usd:,.4f}",
        **{point: f"{latency[point]:.2f} s" if latency else "" for point in ("p50", "p99")},
    }


def _trends(folder: Path, metrics: Metrics) -> Iterator[dict[str, Any]]:
    """Yield how each score went over the runs of the job beside this one, up to this one."""
    past = [one for one in past_runs(folder.resolve().parent, metrics.name) if one.started_at <= metrics.started_at]
    pairs = dict.fromkeys((found.model, found.scorer) for found in metrics.scores)
    for model, scorer in pairs:
        values = [
            found.score.mean
            for one in past
            for found in (one.metrics.scores if one.metrics else ())
            if (found.model, found.scorer) == (model, scorer) and not found.group and found.score.mean is not None
        ]
        if len(values) > 1:
            yield _trend(f"{model} · {scorer}", values)


def _trend(label: str, values: list[float]) -> dict[str, Any]:
    least, span = min(values), (max(values) - min(values)) or 1.0
    step = (_RIGHT - _LEFT) / (len(values) - 1)
    points = [f"{_LEFT + at * step:.1f},{50 - (value - least) / span * 40:.1f}" for at, value in enumerate(values)]
    return {
        "label": clean(label, 40),
        "points": " ".join(points),
        "count": len(values),
        "first": _number(values[0]),
        "last": _number(values[-1]),
    }


def _differences(found: Diff) -> dict[str, Any]:
    return {
        "diff": {
            "before": clean(found.before),
            "paired": f"{found.paired:,}",
            "changed": f"{found.changed:,}",
            "unpaired": f"{found.unpaired:,}",
        },
        "comparisons": [_comparison(one) for one in found.comparisons],
        "worse": [_comparison(one) for one in found.worse],
        "examples": [_example(one) for one in examples(found, _EXAMPLES)],
    }


def _comparison(one: Comparison) -> dict[str, str]:
    paired = one.paired
    return {
        "verdict": one.verdict,
        "tone": {"worse": "bad", "better": "good"}.get(one.verdict, "faint"),
        "model": clean(one.model),
        "what": one.scorer or one.metric,
        "before": f"{paired.before:.4g}",
        "after": f"{paired.after:.4g}",
        "difference": f"{paired.difference:+.4g}",
        "interval": _interval(paired.low, paired.high, "+.3g"),
        "p": f"{paired.p if one.adjusted_p is None else one.adjusted_p:.2g}",
    }


def _example(one: Example) -> dict[str, str]:
    moved = one.moved
    name = f" ({clean(one.custom_id, 60)})" if one.custom_id else ""
    where = f"{clean(moved.model)} · {moved.scorer} · row {moved.row}{name}"
    return {
        "title": f"{where}: {moved.before:.3g} → {moved.after:.3g}",
        "before": _text(one.before),
        "after": _text(one.after),
    }


def _wrong(layout: Layout) -> Iterator[dict[str, str]]:
    """Yield the first results that have less than the full score."""
    with pq.ParquetFile(scores_path(layout)) as file:
        left = _WRONG
        for batch in file.iter_batches(4096):
            lost = batch.filter(pc.less(batch["score"], 1.0))
            for one in lost.slice(0, left).to_pylist():
                left -= 1
                texts = {name: _text(one[name] or "", 300) for name in ("target", "extracted", "explanation")}
                yield {
                    "model": clean(one["model"]),
                    "scorer": one["scorer"],
                    "row": f"{one['row']}",
                    "score": _number(one["score"]),
                    **texts,
                }
            if not left:
                return


def _text(text: str, most: int = 1_500) -> str:
    """Return text from a row with its lines, shortened, and with everything escaped that is not printable."""
    return "\n".join(clean(line, most) for line in text[:most].splitlines())


def _number(value: float | None, digits: int = 3) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _interval(low: float | None, high: float | None, form: str) -> str:
    return "" if low is None or high is None else f"{low:{form}} to {high:{form}}"
