"""What a scorer scores of each result: the text of the answer, or a field of a typed answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from batchmix.answers.typed import TypedAnswers
from batchmix.scorers.settings import ScorerSettings, target_text
from batchmix.store.schema import ANSWERED

SCORED_COLUMNS = ANSWERED
"""The result columns that `scored_texts` needs."""


def scored_texts(
    scorer: ScorerSettings, results: Sequence[dict[str, Any]], typed: TypedAnswers | None
) -> list[str | None]:
    """Return the text of each result that a scorer scores. None where there is none, or no valid answer.

    A field has the text that it would have in a prompt. `typed` is None if the run's answers are any text.
    """
    if scorer.field is None or typed is None:
        return [result["response"] for result in results]
    keys = typed.paths[scorer.field]
    answers = typed.values(*([result[name] for result in results] for name in ANSWERED))
    return [_text_at(answer, keys) for answer in answers]


def _text_at(value: Any, keys: tuple[str, ...]) -> str | None:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return None if value is None else target_text(value)
