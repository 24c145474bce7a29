"""Compares the paired results of one model: its scores by one scorer, and what needs no scorer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from batchmix.evaluation.metrics import Bools, Floats, Ints
from batchmix.evaluation.paired import compare
from batchmix.evaluation.pairing import ComparedRun, ModelPairs, ScoredResults
from batchmix.evaluation.verdicts import Comparison

DRIFTS = ("answered", "refused", "response_chars", "cost_usd", "latency_s")
"""The metrics that are compared in addition to those of the scorers."""
_OF_ANSWERS = frozenset({"response_chars", "latency_s"})
"""The metrics of which only answers have a value."""


class ScoreChange(msgspec.Struct, frozen=True):
    """A result whose score differs between the runs."""

    model: str
    scorer: str
    row: int
    sample: int
    before: float
    after: float


class ScoredPairs:
    """The scores that one scorer gave to the pairs of a model."""

    def __init__(
        self, pair: ModelPairs, runs: tuple[ComparedRun, ComparedRun], scored: tuple[ScoredResults, ScoredResults]
    ) -> None:
        self._pair = pair
        self._rows = runs[1].results.fields["row"][pair.after]
        self._samples = runs[1].results.fields["sample"][pair.after]
        answered = [run.results.fields["ok"] for run in runs]
        self._answered = answered[0][pair.before] & answered[1][pair.after]
        sides = list(zip(scored, (pair.before, pair.after), strict=True))
        self._scores = [side.scores[chosen] for side, chosen in sides]
        targets = [side.targets[chosen] for side, chosen in sides]
        self.same_target: Bools = targets[0] == targets[1]
        """Whether both runs have the same target for the row, for each pair."""
        has_target = [side.has_target[chosen] for side, chosen in sides]
        self._comparable = self.same_target & has_target[0] & has_target[1]
        self._rows_to_score = max(
            int(side.has_target[chosen].sum())
            for side, chosen in zip(scored, (pair.in_before, pair.in_after), strict=True)
        )

    def comparisons(self, scorer: str) -> list[Comparison]:
        """Return the comparisons of the score, on rows that both runs have answered, and of the unscored results."""
        pair, rows = self._pair, self._rows
        scores = [np.where(self._comparable & self._answered, values, np.nan) for values in self._scores]
        unscored = [np.where(self._comparable, np.isnan(values), np.nan) for values in self._scores]
        return [
            _compared(
                Comparison(pair.model, metric, scorer, None, {}, pair.before_model, self._rows_to_score), values, rows
            )
            for metric, values in (("score", scores), ("unscored", unscored))
        ]

    def changes(self, scorer: str) -> Iterator[ScoreChange]:
        """Yield each pair whose score has changed."""
        before, after = self._scores
        for at in np.flatnonzero(self._comparable & (np.abs(after - before) > 0)):  # leaves out NaN
            row, sample = int(self._rows[at]), int(self._samples[at])
            yield ScoreChange(self._pair.model, scorer, row, sample, float(before[at]), float(after[at]))


def drifts(pair: ModelPairs, old: ComparedRun, new: ComparedRun) -> Iterator[Comparison]:
    """Yield the comparisons of the metrics that need no scorer."""
    rows = new.results.fields["row"][pair.after]
    for metric in DRIFTS:
        values = _values(old, metric), _values(new, metric)
        to_pair = max(
            int((~np.isnan(side[chosen])).sum())
            for side, chosen in zip(values, (pair.in_before, pair.in_after), strict=True)
        )
        compared = Comparison(pair.model, metric, "", None, {}, pair.before_model, to_pair)
        yield _compared(compared, [values[0][pair.before], values[1][pair.after]], rows)


def _values(run: ComparedRun, metric: str) -> Floats:
    values = run.results.fields["ok" if metric == "answered" else metric].astype(np.float64)
    return np.where(run.results.fields["ok"], values, np.nan) if metric in _OF_ANSWERS else values


def _compared(compared: Comparison, values: Sequence[Floats], rows: Ints) -> Comparison:
    """Return a comparison with the paired difference of its values, over the pairs that have one in both runs."""
    before, after = values
    both = ~(np.isnan(before) | np.isnan(after))
    paired = compare(before[both], after[both], rows[both])
    if paired is None:
        return msgspec.structs.replace(compared, reason="no row has a value in both runs")
    return msgspec.structs.replace(compared, paired=paired)
