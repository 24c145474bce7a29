"""The tables of a run's report, as text. All that comes from rows is without control characters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from batchmix.comparison.metric_text import figures, least_found, metric_name
from batchmix.comparison.verdicts import Comparison
from batchmix.evaluation.measure import ModelMetrics, ScoreMetrics
from batchmix.formats.amounts import usd
from batchmix.formats.display import clean, group_names
from batchmix.store.answer_totals import shown_path
from batchmix.verdict.verdict_file import ScoreTrend

TONES = {"worse": "bad", "not compared": "bad", "better": "good"}
"""The CSS class of each verdict that has a colour."""


def group_name(group: Mapping[str, str | None]) -> str:
    """Return the name of a group of rows, such as ` of topic = algebra`. Empty for all rows."""
    return "".join(f" of {name}" for name in group_names(group))


def score_row(scored: ScoreMetrics) -> dict[str, str]:
    """Return a row of the table of scores."""
    score = scored.score
    has_interval = score.low is not None and score.high is not None
    return {
        "model": clean(scored.model, 60),
        "scorer": scored.scorer,
        "mean": figure(score.mean),
        "stderr": figure(score.stderr, 4),
        "interval": f"{score.low:.3f} to {score.high:.3f}" if has_interval else "",
        "n": f"{score.n:,}",
        "unscored": f"{scored.unscored:,}",
        "no_answer": f"{scored.no_answer:,}",
        "samples": "; ".join(
            f"{name} {', '.join(f'{k}: {value:.3f}' for k, value in at.items())}"
            for name, at in scored.at_samples.items()
            if at
        ),
    }


def model_row(model: ModelMetrics) -> dict[str, str]:
    """Return a row of the table of models."""
    latency = model.latency_s or {}
    return {
        "model": clean(model.model, 60),
        "results": f"{model.results:,}",
        **{name: f"{getattr(model, name):.1%}" for name in ("answered", "failed", "refused", "empty")},
        **{name: f"{getattr(model, name):,}" for name in ("prompt_tokens", "completion_tokens")},
        "cost": "" if model.cost_usd is None else usd(model.cost_usd),
        **{point: f"{latency[point]:.2f} s" if latency else "" for point in ("p50", "p90", "p99")},
        "chars": "" if model.response_chars is None else f"{model.response_chars:,.0f}",
    }


def checked_answers(answers: dict[str, Any]) -> dict[str, Any]:
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


def comparison_row(comparison: Comparison) -> dict[str, str]:
    """Return a row of the table that compares two runs."""
    found = figures(comparison)
    model, before = clean(comparison.model, 60), clean(comparison.before_model, 60)
    return {
        "verdict": comparison.verdict,
        "tone": TONES.get(comparison.verdict, "faint"),
        "model": model if before in {"", model} else f"{model}, before: {before}",
        "what": clean(f"{metric_name(comparison)}{group_name(comparison.group)}", 200),
        **{name: getattr(found, name) for name in ("before", "after", "difference", "interval", "p")},
        "detectable": least_found(comparison),
        "moves": f"{found.up} / {found.down} / {found.same}" if found.same else "",
        "reason": clean(comparison.reason),
    }


def figure(value: float | None, digits: int = 3) -> str:
    """Return a number with a fixed count of decimals. Empty for None."""
    return "" if value is None else f"{value:.{digits}f}"


def trend_row(found: ScoreTrend) -> dict[str, str]:
    """Return a row of the table of trends over the nights."""
    known = found.before is not None and found.after is not None
    return {
        "verdict": "falling" if found.alarm else "too few nights" if found.bound is None else "steady",
        "tone": "bad" if found.alarm else "faint",
        "model": clean(found.model, 60),
        "scorer": found.scorer,
        "nights": f"{found.nights:,}",
        "statistic": figure(found.statistic, 2),
        "bound": figure(found.bound, 2),
        "since": clean(found.since, 60),
        "change": f"{figure(found.before)} → {figure(found.after)}" if known else "",
    }
