"""Which rows of an evaluation belong together, and how much each of them counts (`eval.cluster`, `eval.weight`)."""

from __future__ import annotations

import msgspec
import numpy as np

from batchmix.errors import RunError
from batchmix.evaluation.result_arrays import ResultArrays
from batchmix.job.eval_table import Eval
from batchmix.load import weight_of
from batchmix.scorers.settings import A_WEIGHT
from batchmix.statistics.metrics import Floats, Ints


class RowDesign(msgspec.Struct, frozen=True):
    """The cluster and the weight of each result of a run, in the results' order."""

    clusters: Ints
    """Results with equal numbers belong together: those of one row, or of rows with the same value of a column."""
    weights: Floats | None
    """How much each result counts. None if all count the same."""

    @property
    def unweighted(self) -> RowDesign:
        """The same clusters, in which all results count the same."""
        return RowDesign(self.clusters, None)

    def at(self, positions: Ints) -> RowDesign:
        """Return the design of the results at these positions."""
        return RowDesign(self.clusters[positions], None if self.weights is None else self.weights[positions])


DESIGN_FIELDS = ("row", "rejected")
"""The arrays that `row_design` needs."""


def design_columns(settings: Eval) -> list[str]:
    """Return the text columns that `row_design` needs."""
    return [column for column in (settings.cluster, settings.weight) if column is not None]


def row_design(settings: Eval, results: ResultArrays) -> RowDesign:
    """Return which results belong together and how much each counts. Raises `RunError` for a weight that is none.

    Samples of a row belong together. A row without a value in the cluster's column belongs to no other row.
    """
    rows = results.fields["row"].astype(np.int64)
    clusters = rows
    if settings.cluster is not None:
        codes, values = results.texts[settings.cluster]
        alone = values.index(None) if None in values else -1
        clusters = np.where(codes == alone, len(values) + rows, codes)
    return RowDesign(clusters, None if settings.weight is None else _weights(settings.weight, results))


def _weights(column: str, results: ResultArrays) -> Floats:
    """Return the results' weights. A row that is rejected because it has none counts nothing."""
    codes, texts = results.texts[column]
    weights: Floats = np.array([weight_of(text) for text in texts])[codes]
    weights[np.isnan(weights) & results.fields["rejected"]] = 0.0
    wrong = np.flatnonzero(np.isnan(weights))
    if len(wrong):
        text, row = texts[codes[wrong[0]]], int(results.fields["row"][wrong[0]])
        shown = "no value" if text is None else f"the value {text[:40]!r}"
        raise RunError(
            f"eval.weight: row {row:,} has {shown} in the column {column!r}; a weight is {A_WEIGHT}. Give each row"
            " one, or leave eval.weight out"
        )
    return weights
