"""The scorer `labels`: the scores that people gave to the answers of a run."""

from __future__ import annotations

from typing import Any

from batchmix.errors import JobError
from batchmix.load import HumanLabels, read_labels
from batchmix.scorers.labels import Labels
from batchmix.scorers.settings import Row, Score, ScoreFunction

_LABELLED = "labelled"
"""The target of an answer with a label. It is the same for each, since a label is no right answer to be compared."""


def labels_function(config: Labels, models: int, samples: int) -> ScoreFunction:
    """Return the function that looks up the label of a result. Raises `UsageError` if the file has a mistake.

    `models` and `samples` say how many answers a row has: if several, each must have labels of its own.
    """
    labels = read_labels(config.path, config.column, config.values)
    _check_apart(config, labels, models, samples)

    def function(response: str, _: Any, row: Row) -> Score:
        label = labels.of(row)
        if label is None:
            return Score(None, None, None, "the row has no label")
        if not label.is_of(response):
            return Score(None, None, None, "the row's label is that of another answer")
        return Score(label.value, _LABELLED, label.text)

    return function


def _check_apart(config: Labels, labels: HumanLabels, models: int, samples: int) -> None:
    for column, count in (("model", models), ("sample", samples)):
        if count > 1 and column not in labels.columns:
            raise JobError(
                f"eval.scorers: {config.name}: each row has the answers of {count} {column}s; the labels need a column"
                f" {column} that says which of them is meant"
            )
