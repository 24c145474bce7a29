"""Compares the paired results of one model: its scores by one scorer, and the texts of its answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from batchmix.comparison.pairing import ComparedRun, ModelPairs, ScoredResults
from batchmix.comparison.verdicts import Comparison
from batchmix.evaluation.measure import sorted_groups
from batchmix.evaluation.row_design import RowDesign
from batchmix.records import Key
from batchmix.statistics.metrics import Bools, Floats
from batchmix.statistics.paired import compare, compare_percentile


class ScoreChange(msgspec.Struct, frozen=True):
    """A result whose score differs between the runs."""

    model: str
    scorer: str
    row: int
    sample: int
    before: float
    after: float
    before_row: int
    """The row of the result in the earlier run, which may be another one if rows are paired by custom_id."""
    before_model: str

    @property
    def keys(self) -> tuple[Key, Key]:
        """The keys of the result in the earlier and in the later run."""
        return (self.before_row, self.before_model, self.sample), (self.row, self.model, self.sample)


class Rewritten(msgspec.Struct, frozen=True):
    """A result whose text differs between the runs."""

    model: str
    row: int
    sample: int
    before_row: int
    before_model: str

    @property
    def keys(self) -> tuple[Key, Key]:
        """The keys of the result in the earlier and in the later run."""
        return (self.before_row, self.before_model, self.sample), (self.row, self.model, self.sample)


def most_to_pair(runs: tuple[ComparedRun, ComparedRun], before: Bools, after: Bools) -> int:
    """Return how many results there are to pair: in the run that has more of them, or in the later one if it is a try.

    A try leaves rows out on purpose, so what it lacks does not make its comparison incomplete.
    """
    here, there = int(after.sum()), int(before.sum())
    return here if runs[1].results.run.is_try else max(here, there)


class ScoredPairs:
    """The scores that one scorer gave to the pairs of a model."""

    def __init__(
        self, pair: ModelPairs, runs: tuple[ComparedRun, ComparedRun], scored: tuple[ScoredResults, ScoredResults]
    ) -> None:
        self._pair = pair
        self._runs = runs
        self._design = runs[1].design.at(pair.after)
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
        weights = self._design.weights
        self._weightless = 0 if weights is None else int((self._comparable & (weights == 0)).sum())
        """The number of pairs that do not count in a score, because they weigh nothing."""
        self._in_after = scored[1].has_target
        self._to_score = most_to_pair(
            runs, *(side.has_target[at] for side, at in zip(scored, (pair.in_before, pair.in_after), strict=True))
        )

    def comparisons(self, scorer: str) -> list[Comparison]:
        """Return the comparisons of the score, on rows that both runs have answered, and of the unscored results."""
        scores = self._answered_scores()
        unscored = [np.where(self._comparable, np.isnan(values), np.nan) for values in self._scores]
        of_scores = self._comparison(scorer, "score", self._to_score - self._weightless)
        of_unscored = self._comparison(scorer, "unscored", self._to_score)
        return [
            compared_values(of_scores, scores, self._design),
            compared_values(of_unscored, unscored, self._design.unweighted),
        ]

    def groups(self, scorer: str, column: str) -> Iterator[Comparison]:
        """Yield a comparison of the score for each value that a column has in the later run, in sorted order."""
        codes, values = self._runs[1].results.texts[column]
        of_pairs, of_all = codes[self._pair.after], codes[self._pair.in_after]
        to_score = self._in_after[self._pair.in_after]
        before, after = self._answered_scores()
        design = self._design
        for value, code in sorted_groups(values):
            here = of_pairs == code
            rows = int((to_score & (of_all == code)).sum())
            if rows:
                compared = self._comparison(scorer, "score", rows, {column: value})
                yield compared_values(compared, [before[here], after[here]], design.at(np.flatnonzero(here)))

    def _comparison(
        self, scorer: str, metric: str, rows: int, group: dict[str, str | None] | None = None
    ) -> Comparison:
        pair = self._pair
        return Comparison(pair.model, metric, scorer, None, group or {}, pair.before_model, rows)

    def _answered_scores(self) -> list[Floats]:
        """Return the scores of both runs, without those of rows that one of them has not answered."""
        return [np.where(self._comparable & self._answered, values, np.nan) for values in self._scores]

    def changes(self, scorer: str) -> Iterator[ScoreChange]:
        """Yield each pair whose score has changed, of those that both runs have answered."""
        before, after = self._answered_scores()
        old_rows, pair = self._runs[0].results.fields["row"][self._pair.before], self._pair
        for at in np.flatnonzero(np.abs(after - before) > 0):  # leaves out NaN
            yield ScoreChange(
                pair.model,
                scorer,
                int(self._rows[at]),
                int(self._samples[at]),
                float(before[at]),
                float(after[at]),
                int(old_rows[at]),
                pair.before_model,
            )


def rewritten(pair: ModelPairs, old: ComparedRun, new: ComparedRun) -> Iterator[Rewritten]:
    """Yield the pairs whose text differs, in the order of the rows, if neither run has scores."""
    if "text" not in old.results.fields or "text" not in new.results.fields:
        return
    fields, old_fields = new.results.fields, old.results.fields
    for at in np.flatnonzero(old_fields["text"][pair.before] != fields["text"][pair.after]):
        here, there = pair.after[at], pair.before[at]
        row, sample, before_row = (
            int(n) for n in (fields["row"][here], fields["sample"][here], old_fields["row"][there])
        )
        yield Rewritten(pair.model, row, sample, before_row, pair.before_model)


def compared_values(
    compared: Comparison, values: Sequence[Floats], design: RowDesign, percent: float | None = None
) -> Comparison:
    """Return a comparison with the paired difference of its values, over the pairs that have one in both runs.

    `values` are those of the earlier and of the later run. With `percent` that percentile of them is compared, or else
    their mean.
    """
    before, after = values
    both = ~(np.isnan(before) | np.isnan(after))
    clusters = design.clusters[both]
    if percent is not None:
        paired = compare_percentile(before[both], after[both], clusters, percent)
    else:
        weights = None if design.weights is None else design.weights[both]
        paired = compare(before[both], after[both], clusters, weights)
    if paired is None:
        return msgspec.structs.replace(compared, reason="no row has it in both runs" if len(before) else "")
    return msgspec.structs.replace(compared, paired=paired)
