"""The weights of rows (`eval.weight`): how much each of them counts in an evaluation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from batchmix.formats.display import clean, unknown_column
from batchmix.formats.text import text_of
from batchmix.job import CheckedJob, Column
from batchmix.scorers.settings import A_WEIGHT, MAX_SCORE


def weight_of(value: Any) -> float:
    """Return the weight that a value says. NaN if it says none: a weight is `A_WEIGHT`."""
    try:
        # In a carried column with both numbers and texts, the texts are JSON.
        weight = math.nan if value is None else float(text_of(value).strip('"'))
    except ValueError:
        return math.nan
    return weight if 0 <= weight <= MAX_SCORE else math.nan


def weight_source(job: CheckedJob) -> str | None:
    """Return the input column with the rows' weights. None if the job has no weights, or does not carry that column."""
    weight = job.eval.weight if job.eval else None
    if weight is None or job.input.columns is None:
        return weight
    sources = {
        column.name if isinstance(column, Column) else column: column.source if isinstance(column, Column) else column
        for column in job.input.columns
    }
    return sources.get(weight)


def weight_problem(column: str, row: Mapping[str, Any]) -> str | None:
    """Return a message about a row that has no weight in this input column. None if it has one."""
    if column not in row:
        return f"eval.weight: {unknown_column(column, row)}"
    value = row[column]
    if not math.isnan(weight_of(value)):
        return None
    shown = "null" if value is None else repr(clean(value if isinstance(value, str) else text_of(value), 60))
    return f"eval.weight: column '{clean(column, 60)}' is {shown}, which is no weight, {A_WEIGHT}"
