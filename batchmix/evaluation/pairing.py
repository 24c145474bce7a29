"""Pairs the results of two runs: which result of the earlier run each result of the later one is compared with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np

from batchmix.errors import RunError
from batchmix.evaluation.measure import Metrics, read_has_target, read_metrics, read_scores, read_targets
from batchmix.evaluation.metrics import Floats, Ints
from batchmix.evaluation.result_arrays import Array, ResultArrays, read_result_arrays
from batchmix.store.run_folder import Layout

FIELDS = ("row", "sample", "ok", "refused", "response_chars", "cost_usd", "latency_s", "request")
"""The arrays of each run that a comparison needs."""


class ComparedRun(msgspec.Struct):
    """One of the two runs of a comparison, with the arrays that the comparison needs."""

    layout: Layout
    metrics: Metrics
    results: ResultArrays

    def keys(self, chosen: Ints) -> Ints:
        """Return a key for each result at these positions: one number made of its row and its sample."""
        row, sample = (self.results.fields[name][chosen] for name in ("row", "sample"))
        keys: Ints = row.astype(np.int64) * 10_000 + sample  # a job has at most 10,000 samples
        return keys

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

    @property
    def unpaired(self) -> int:
        """The number of results that only one of the runs has."""
        return len(self.in_before) + len(self.in_after) - 2 * len(self.after)


class Match(msgspec.Struct, frozen=True):
    """Which models and scorers of the two runs are compared, and why others are not."""

    models: dict[str, str]
    """For each model of the later run that is compared, the one of the earlier run."""
    scorers: list[str]
    only_after: dict[str, str]
    """For each model that only the later run has, why it is not compared."""
    only_before: dict[str, str]
    other_scorers: dict[str, str]
    """For each scorer of the later run that is not compared, why."""
    gone_scorers: dict[str, str]

    @property
    def left_out(self) -> Iterator[str]:
        """Yield a message for each scorer and each model that is not compared."""
        for name, why in (self.other_scorers | self.gone_scorers).items():
            yield f"scorer {name}: {why}"
        for name, why in (self.only_after | self.only_before).items():
            yield f"model {name}: {why}"


def compared_run(folder: Path, texts: Sequence[str] = ()) -> ComparedRun:
    """Read a run for a comparison. Raises `RunError` if it has not been evaluated, or can't be read in full.

    `texts` are the columns of which a code for each result is needed, too.
    """
    layout = Layout(folder)
    metrics = read_metrics(layout)
    results = read_result_arrays(folder, FIELDS, texts)
    if results.lost:
        raise RunError(
            f"{results.lost[0]}; a diff of the rest would be misleading: restore a good copy, or run it with --update"
        )
    return ComparedRun(layout, metrics, results)


def model_pairs(old: ComparedRun, new: ComparedRun, before_model: str, model: str) -> ModelPairs:
    """Pair the results of a model in two runs by row and sample, in the order of the later run."""
    in_old, in_new = old.results.positions(before_model), new.results.positions(model)
    before, after = in_old, in_new
    keys = old.keys(in_old), new.keys(in_new)
    if not np.array_equal(*keys):
        _, at_old, at_new = np.intersect1d(*keys, assume_unique=True, return_indices=True)
        order = np.argsort(at_new)
        before, after = in_old[at_old[order]], in_new[at_new[order]]
    return ModelPairs(before_model, model, before, after, in_old, in_new)


def matched(old: ComparedRun, new: ComparedRun) -> Match:
    """Return which models and scorers of two runs are compared with each other."""
    earlier, later = old.metrics.settings, new.metrics.settings
    before = {
        scorer.name: msgspec.structs.replace(scorer, target=earlier.target_of(scorer)) for scorer in earlier.scorers
    }
    scorers, other_scorers = [], {}
    for scorer in later.scorers:
        if scorer.name not in before:
            other_scorers[scorer.name] = "the earlier run has no such scores"
        elif msgspec.structs.replace(scorer, target=later.target_of(scorer)) != before[scorer.name]:
            other_scorers[scorer.name] = "has changed since; score the earlier run again with batchmix eval"
        else:
            scorers.append(scorer.name)
    names = {scorer.name for scorer in later.scorers}
    return Match(
        models={model: model for model in new.models if model in old.models},
        scorers=scorers,
        only_after={model: "the earlier run has no such model" for model in new.models if model not in old.models},
        only_before={model: "the later run has no such model" for model in old.models if model not in new.models},
        other_scorers=other_scorers,
        gone_scorers={name: "the later run has no such scores" for name in before if name not in names},
    )
