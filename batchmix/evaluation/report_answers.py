"""The answers that a run's report shows, as text without control characters."""

from __future__ import annotations

import json
from typing import Any

from batchmix.evaluation.examples import Example, ShownAnswer, Worst
from batchmix.evaluation.report_tables import figure
from batchmix.formats.display import clean

_TEXT_CHARS = 1_500
"""The most characters of an answer that are shown."""


def changed_answer(example: Example) -> dict[str, Any]:
    """Return an answer whose score differs between two runs, beside the earlier one."""
    change = example.moved
    return {
        "title": _title(change.model, change.scorer, change.row, example.custom_id),
        "score": f"{change.before:.3g} → {change.after:.3g}",
        "tone": "bad" if change.after < change.before else "good",
        "columns": _columns(ShownAnswer(columns=example.columns)),
        "before": _text(example.before),
        "after": _text(example.after),
    }


def low_answer(result: Worst) -> dict[str, Any]:
    """Return an answer with a low score."""
    return {
        "title": _title(result.model, result.scorer, result.row, result.answer.custom_id),
        "score": figure(result.score),
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
