"""Pairs the results of two runs: which result of the earlier run each result of the later one is compared with."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import msgspec
import numpy as np

from batchmix.engine import reader
from batchmix.errors import RunError
from batchmix.evaluation.measure import Metrics, measure, metrics_path, read_metrics
from batchmix.evaluation.result_arrays import Array, ResultArrays, read_result_arrays
from batchmix.evaluation.row_design import DESIGN_FIELDS, RowDesign, design_columns, row_design
from batchmix.evaluation.score_arrays import read_has_target, read_scores, read_targets
from batchmix.job.eval_table import Eval
from batchmix.statistics.metrics import Bools, Floats, Ints
from batchmix.store.run_folder import Layout

FIELDS = (
    *DESIGN_FIELDS,
    "sample",
    "ok",
    "refused",
    "empty",
    "response_chars",
    "cost_usd",
    "latency_s",
    "request",
    "custom_id",
    "numbered",
)
"""The arrays of each run that a comparison needs."""
_ODD = 0x9E3779B97F4A7C15 - 2**64
"""An odd number with bits all over, which keeps apart the keys of a row's samples."""


class ComparedRun(msgspec.Struct):
    """One of the two runs of a comparison, with the arrays that the comparison needs."""

    layout: Layout
    metrics: Metrics
    results: ResultArrays
    design: RowDesign
    """Which results belong together, as the later run's evaluation says, and in the later run how much each counts."""

    def keys(self, chosen: Ints, *, by_custom_id: bool) -> Ints:
        """Return a key for each result at these positions: one number made of its row or custom_id, and its sample."""
        fields = self.results.fields
        if by_custom_id:
            mixed: Ints = fields["custom_id"][chosen] + fields["sample"][chosen] * np.int64(_ODD)  # may wrap around
            return mixed
        keys: Ints = fields["row"][chosen].astype(np.int64) * 10_000 + fields["sample"][chosen]  # up to 10,000 samples
        return keys

    @property
    def is_numbered(self) -> bool:
        """Whether each custom_id is the number of its row, as it is if the input has no ids."""
        return bool(self.results.fields["numbered"].all())

    @property
    def has_unique_ids(self) -> bool:
        """Whether no two results of the same model and sample have the same custom_id."""
        return all(
            len(np.unique(keys)) == len(keys)
            for model in self.models
            for keys in [self.keys(self.results.positions(model), by_custom_id=True)]
        )

    @property
    def models(self) -> list[str]:
        """The names of the run's models."""
        return [model.model for model in self.metrics.models]

    def scored(self, scorer: str) -> ScoredResults:
        """Return what a scorer said of each result."""
        settings, count = self.metrics.settings, self.results.count
        return ScoredResults(
            read_scores(self.layout, settings, scorer, count),
            read_targets(self.layout, settings, scorer, count),
            read_has_target(self.layout, settings, scorer, count),
        )


class ScoredResults(msgspec.Struct, frozen=True):
    """A scorer's scores and targets, an item for each result of a run."""

    scores: Floats
    targets: Ints
    """A hash of each target. The hashes of two runs can be compared."""
    has_target: Array
    """Whether the result can be scored: its row has a target, or the scorer needs none."""


class ModelPairs(msgspec.Struct, frozen=True):
    """The results of one model that are in both runs, as positions in the arrays of each run."""

    before_model: str
    """The name of the model in the earlier run."""
    model: str
    before: Ints
    after: Ints
    in_before: Ints
    """The positions of all results of the model in the earlier run."""
    in_after: Ints
    other_request: Bools
    """Whether the requests differ, for each pair."""
    left_out: int
    """The number of results in both runs that are no pairs because the requests must be the same, and differ."""
    other_rows: int = 0
    """The number of results in both runs that are no pairs because they are of other rows, which have no ids."""
    told_by: tuple[str, ...] = ()
    """The columns that say so. Empty if the requests do."""

    @property
    def unpaired(self) -> int:
        """The number of results that only one of the runs has."""
        in_both = len(self.after) + self.left_out + self.other_rows
        return len(self.in_before) + len(self.in_after) - 2 * in_both


class Pairing(msgspec.Struct, frozen=True):
    """What somebody asks of a comparison: which models are compared, and whether requests may differ."""

    models: tuple[tuple[str, str], ...] = ()
    """Models with different names in the two runs: the earlier and the later name of each."""
    same_request: bool = False
    """Whether results are paired only if their requests are the same."""


def compared_run(folder: Path, later: Eval | None = None) -> ComparedRun:
    """Read a run for a comparison. Raises `RunError` if it has scorers and was not evaluated, or can't be read in full.

    The groups and clusters that the evaluation of the later run names are read, too. Of the earlier run, for which
    `later` is that evaluation, only if it has those columns, and no weights: those of the later run count.
    """
    layout = Layout(folder)
    if not metrics_path(layout).exists() and reader.job_of(folder).eval is None:
        metrics = measure(layout, Eval(), ())
    else:
        metrics = read_metrics(layout)
    fields = FIELDS if metrics.settings.scorers else (*FIELDS, "text")
    settings = metrics.settings if later is None else _as_far_as_there(later, reader.result_schema(folder).names)
    results = read_result_arrays(folder, fields, [*settings.group_by, *design_columns(settings)])
    if results.lost:
        raise RunError(
            f"{results.lost[0]}; a diff of the rest would be misleading: restore a good copy, or run it with --update"
        )
    return ComparedRun(layout, metrics, results, row_design(settings, results))


def _as_far_as_there(settings: Eval, columns: Collection[str]) -> Eval:
    """Return an evaluation with the groups and clusters whose columns are there."""
    group_by = tuple(column for column in settings.group_by if column in columns)
    return Eval(group_by=group_by, cluster=settings.cluster if settings.cluster in columns else None)


def pairs_by_custom_id(old: ComparedRun, new: ComparedRun) -> bool:
    """Return whether the results of two runs are paired by their custom_id, rather than by their row.

    They are if both runs have ids, each of them once. Ids that are the numbers of the rows are only taken for ids if
    the other run has most of them too.
    """
    if (old.is_numbered and new.is_numbered) or not (old.has_unique_ids and new.has_unique_ids):
        return False
    if not old.is_numbered and not new.is_numbered:
        return True
    ids = [np.unique(run.results.fields["custom_id"]) for run in (old, new)]
    shared = len(np.intersect1d(ids[0], ids[1], assume_unique=True))
    return 2 * shared >= min(map(len, ids))


class Pairer(msgspec.Struct, frozen=True):
    """Pairs the results of two runs: by custom_id if both have them, or else by row."""

    old: ComparedRun
    new: ComparedRun
    by_custom_id: bool
    same_request: bool

    def pairs(self, before_model: str, model: str) -> ModelPairs:
        """Pair the results of a model in two runs, also by sample, in the order of the later run."""
        in_old, in_new = self.old.results.positions(before_model), self.new.results.positions(model)
        before, after = in_old, in_new
        old_keys = self.old.keys(in_old, by_custom_id=self.by_custom_id)
        new_keys = self.new.keys(in_new, by_custom_id=self.by_custom_id)
        if not np.array_equal(old_keys, new_keys):
            _, at_old, at_new = np.intersect1d(old_keys, new_keys, assume_unique=True, return_indices=True)
            order = np.argsort(at_new)
            before, after = in_old[at_old[order]], in_new[at_new[order]]
        differs = self.old.results.fields["request"][before] != self.new.results.fields["request"][after]
        left_out = int(differs.sum()) if self.same_request else 0
        if self.same_request:
            before, after, differs = before[~differs], after[~differs], differs[~differs]
        return ModelPairs(before_model, model, before, after, in_old, in_new, differs, left_out)
