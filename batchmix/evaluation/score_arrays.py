"""Reads what a scorer says of the results of a run, as arrays in the order of the results."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batchmix.errors import RunError
from batchmix.evaluation.result_arrays import Array, floats, hashes
from batchmix.evaluation.scoring import open_scores
from batchmix.job.eval_table import Eval
from batchmix.statistics.metrics import Bools, Floats, Ints
from batchmix.store.run_folder import Layout


def read_scores(layout: Layout, settings: Eval, scorer: str, count: int) -> Floats:
    """Return a scorer's scores for the `count` results of a run. A missing score is NaN. Raises `RunError`."""
    return _of_scorer(layout, settings, scorer, np.empty(count), lambda batch: floats(batch["score"]))


def read_targets(layout: Layout, settings: Eval, scorer: str, count: int) -> Ints:
    """Return hashes of a scorer's targets for the `count` results of a run. Raises `RunError`.

    They are all alike if it compares answers with no column: an answer that has got a label has no other target.
    """
    config = next(config for config in settings.scorers if config.name == scorer)
    if settings.target_of(config) is None:
        return np.zeros(count, np.int64)
    return _of_scorer(layout, settings, scorer, np.empty(count, np.int64), lambda batch: hashes(batch["target"]))


def read_answers(layout: Layout, settings: Eval, scorer: str, count: int) -> Ints:
    """Return a number for each different answer that a scorer extracted from the results of a run. 0 if it has none.

    Raises `RunError`.
    """
    return _of_scorer(layout, settings, scorer, np.empty(count, np.int64), _answers)


def read_has_target(layout: Layout, settings: Eval, scorer: str, count: int) -> Bools:
    """Return whether each result of a run can be scored: its row has a target, or the scorer needs none.

    Raises `RunError`.
    """
    config = next(config for config in settings.scorers if config.name == scorer)
    if settings.target_of(config) is None and not config.brings_targets:
        return np.ones(count, np.bool_)
    return _of_scorer(layout, settings, scorer, np.empty(count, np.bool_), _has_target)


def _answers(batch: pa.RecordBatch) -> Array:
    extracted = batch["extracted"]
    return np.where(np.asarray(extracted.is_valid()), hashes(extracted) | 1, 0)


def _has_target(batch: pa.RecordBatch) -> Array:
    return np.asarray(pc.fill_null(pc.not_equal(pc.utf8_trim_whitespace(batch["target"]), ""), False))  # noqa: FBT003


def _of_scorer(
    layout: Layout, settings: Eval, scorer: str, array: Array, values_of: Callable[[pa.RecordBatch], Array]
) -> Array:
    """Fill an array with a value for each result of one scorer.

    `scores.parquet` has, for each result in order, one row per scorer. `values_of` extracts the values from its rows.
    """
    first, at = [config.name for config in settings.scorers].index(scorer), 0
    step = len(settings.scorers)
    with open_scores(layout) as file:
        if file.metadata.num_rows != len(array) * step:
            raise RunError(
                f"{layout.root}: has more results than when it was evaluated; run batchmix eval {layout.root} again"
            )
        for batch in file.iter_batches(16_384 * step, columns=["score", "target", "extracted"]):
            values = values_of(batch)[first::step]
            array[at : at + len(values)] = values
            at += len(values)
    return array
