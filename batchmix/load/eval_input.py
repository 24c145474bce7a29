"""Checks that an input has what its evaluation will need: columns, targets, weights, and the models of guards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from batchmix.errors import InputError
from batchmix.formats.arrow_values import row_values
from batchmix.formats.display import quoted
from batchmix.job import CheckedJob
from batchmix.job.eval_table import Eval, with_fields
from batchmix.job.guards import check_guard
from batchmix.load.dataset import Dataset
from batchmix.load.template_check import check_rubrics
from batchmix.load.weights import weight_of
from batchmix.scorers.indirect import Custom, Judge
from batchmix.scorers.settings import ScorerSettings


def check_eval_input(job: CheckedJob, dataset: Dataset) -> None:
    """Raise `UsageError` if a run over this input could not be evaluated, or if a scorer could score no row of it.

    The scan has checked that each row has a weight.
    """
    settings, names = with_fields(job.eval or Eval(), job.answer), dataset.carried_schema.names
    settings.check_columns(names, job.answer.paths if job.answer else ())
    check_rubrics(settings, names)
    for guard in settings.guards:
        check_guard(guard, [scorer.name for scorer in settings.scorers], [model.name for model in dataset.models])
    targets = [_Targets(scorer, column) for scorer in settings.scorers if (column := settings.target_of(scorer))]
    _check_some_count(settings.weight, targets, dataset)


class _Targets:
    """Looks for a target that a scorer can compare answers with."""

    def __init__(self, scorer: ScorerSettings, column: str) -> None:
        self.scorer = scorer
        self.column = column
        self.problem = ""
        """What is wrong with the first target that is no use. Empty if there is none at all so far."""
        self._score: Callable[..., Any] | None = None
        if not isinstance(scorer, Judge | Custom):
            self._score = scorer.score_function()

    def found_in(self, row: dict[str, Any]) -> bool:
        """Return whether a row has a target that the scorer can use."""
        target = row[self.column]
        if target is None or self.scorer.is_empty(target):
            return False
        # Even an empty answer has a score, unless it is the target that can't be compared.
        score = self._score("", target, {}) if self._score else None
        if score is None or score.score is not None:
            return True
        self.problem = self.problem or score.explanation or ""
        return False

    def refusal(self, rows: int) -> InputError:
        """Return the error that no row has such a target."""
        what = f"has a usable target: {self.problem}" if self.problem else "has a target"
        return InputError(
            f"eval.scorers: {self.scorer.name}: none of the {rows:,} rows {what} in the column {quoted(self.column)};"
            " name the column with the right answers as target"
        )


def _check_some_count(weight: str | None, targets: list[_Targets], dataset: Dataset) -> None:
    """Raise `InputError` if a scorer finds no target in any row, or if all rows weigh nothing.

    Reads only as many rows as it takes to know, mostly one.
    """
    missing, weighs = targets, weight is None
    columns = list({*(each.column for each in targets), *filter(None, [weight])})
    for shard in range(len(dataset.scan.shards)):
        for batch in dataset.carried(shard):
            for row in row_values(batch.select(columns)):
                weighs = weighs or weight_of(row[str(weight)]) > 0
                missing = [each for each in missing if not each.found_in(row)]
                if weighs and not missing:
                    return
    rows = dataset.scan.rows
    if missing:
        raise missing[0].refusal(rows)
    if not weighs:
        raise InputError(
            f"eval.weight: none of the {rows:,} rows has a weight above 0 in the column {quoted(str(weight))}; then no"
            " score would count"
        )
