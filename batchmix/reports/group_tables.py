"""The tables of a report with the scores of groups of rows, each beside its score in the earlier run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from batchmix.comparison.verdicts import Comparison
from batchmix.evaluation.measure import Metrics, ScoreMetrics
from batchmix.formats.display import clean
from batchmix.reports.report_tables import TONES, figure

_MAX_ROWS = 50
"""The most rows that a table shows. Groups that are worse come first then."""


class GroupTable(msgspec.Struct):
    """The scores by one scorer of the groups that one column makes."""

    scorer: str
    column: str
    models: list[str]
    rows: list[dict[str, Any]]
    """For each value of the column: the value, and a cell for each model."""
    more: int
    """The number of values that are left out."""
    compared: bool
    """Whether there are scores of an earlier run."""


def group_tables(metrics: Metrics, compared: Sequence[Comparison]) -> Iterator[GroupTable]:
    """Yield a table for each scorer and column. `compared` are the groups that have a score in the earlier run, too."""
    models = [found.model for found in metrics.models]
    before = {_key(one.model, one.scorer, one.group): one for one in compared}
    cells: dict[tuple[str, str], dict[str | None, dict[str, dict[str, str]]]] = {}
    for found in metrics.scores:
        for column, value in found.group.items():
            cell = _cell(found, before.get(_key(found.model, found.scorer, found.group)))
            cells.setdefault((found.scorer, column), {}).setdefault(value, {})[found.model] = cell
    for (scorer, column), by_value in cells.items():
        rows: list[dict[str, Any]] = [
            {
                "value": "is null" if value is None else clean(value, 60),
                "cells": [by_model.get(model, {"score": "", "before": "", "verdict": ""}) for model in models],
            }
            for value, by_model in by_value.items()
        ]
        if len(rows) > _MAX_ROWS:
            rows.sort(key=lambda row: not any(cell["verdict"] == "worse" for cell in row["cells"]))
        yield GroupTable(
            scorer,
            clean(column, 60),
            [clean(model, 40) for model in models],
            rows[:_MAX_ROWS],
            max(0, len(rows) - _MAX_ROWS),
            any(cell["before"] for row in rows for cell in row["cells"]),
        )


def _key(model: str, scorer: str, group: dict[str, str | None]) -> tuple[Any, ...]:
    return model, scorer, *group.items()


def _cell(found: ScoreMetrics, compared: Comparison | None) -> dict[str, str]:
    score = found.score
    error = "" if score.stderr is None else f" ± {score.stderr:.3f}"
    return {
        "score": "" if score.mean is None else f"{score.mean:.3f}{error}",
        "before": figure(compared.paired.before) if compared and compared.paired and not compared.opponent else "",
        "verdict": compared.verdict if compared else "",
        "tone": TONES.get(compared.verdict, "faint") if compared else "",
    }
