"""Compares the paired results of one model: its scores by one scorer, and the texts of its answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from batchmix.comparison.lost_pairs import why_fewer, why_fewer_in_group
from batchmix.comparison.pairing import ComparedRun, ModelPairs, ScoredResults
from batchmix.comparison.verdicts import Comparison
from batchmix.evaluation.measure import sorted_groups
from batchmix.evaluation.row_design import RowDesign
from batchmix.job.guards import SHARES
from batchmix.records import Key
from batchmix.statistics.metrics import Bools, Floats, Ints
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


def most_to_pair(runs: tuple[ComparedRun, ComparedRun], before: int, after: int) -> int:
    """Return how many results there are to pair: in the run that has more of them, or in the later one if it is a try.

    A try leaves rows out on purpose, so what it lacks does not make its comparison incomplete.
    """
    return after if runs[1].results.run.is_try else max(before, after)


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
        self._has_target = [side.has_target[chosen] for side, chosen in sides]
        self._comparable = self.same_target & self._has_target[0] & self._has_target[1]
        self._can_score = [side.has_target for side in scored]

    def comparisons(self, scorer: str) -> list[Comparison]:
        """Return the comparisons of the score, on rows that both runs have answered, and of the unscored results."""
        pair, without_target, lost = self._pair, self._without_target(scorer), self._lost(scorer)
        rows = most_to_pair(self._runs, len(pair.in_before), len(pair.in_after))
        unscored = [np.where(self._comparable, np.isnan(values), np.nan) for values in self._scores]
        weights = self._design.weights
        weightless = 0 if weights is None else int((self._comparable & (weights == 0)).sum())
        of_scores = self._of_scores(scorer, {}, rows - weightless)
        of_unscored = Comparison(pair.model, "unscored", scorer, None, {}, pair.before_model, rows)
        return [
            compared_values(of_scores, self._answered_scores(), self._design, why_fewer(pair, rows, lost)),
            compared_values(of_unscored, unscored, self._design.unweighted, why_fewer(pair, rows, without_target)),
        ]

    def groups(self, scorer: str, column: str) -> Iterator[Comparison]:
        """Yield a comparison of the score for each value that a column has in one of the runs, in sorted order.

        A pair belongs to the group that it has in the later run.
        """
        codes, values = _common_codes(column, *self._runs)
        of_pairs, lost, scores = codes[1][self._pair.after], self._lost(scorer), self._answered_scores()
        to_score = [
            at[can_score[at]]
            for at, can_score in zip((self._pair.in_before, self._pair.in_after), self._can_score, strict=True)
        ]
        # What the earlier run has is to be found again, but a try leaves rows out on purpose.
        side = 1 if self._runs[1].results.run.is_try else 0
        for value, code in sorted_groups(values):
            in_group = [at[of_run[at] == code] for at, of_run in zip(to_score, codes, strict=True)]
            if not any(map(len, in_group[side:])):
                continue
            here = of_pairs == code
            rows = len(in_group[side]) or int(here.sum())
            independent = len(np.unique(self._runs[side].design.clusters[in_group[side]]))
            of_group = self._of_scores(scorer, {column: value}, rows)
            yield compared_values(
                msgspec.structs.replace(of_group, independent=independent),
                [values[here] for values in scores],
                self._design.at(np.flatnonzero(here)),
                why_fewer_in_group(here, rows, lost),
            )

    def _of_scores(self, scorer: str, group: dict[str, str | None], rows: int) -> Comparison:
        """Return a comparison of scores that has no figures yet."""
        names = self._pair.model, "score", scorer, None, group, self._pair.before_model
        worst = next(one.worst for one in self._runs[1].metrics.settings.scorers if one.name == scorer)
        return Comparison(*names, rows, worst=worst)

    def _without_target(self, scorer: str) -> dict[str, Bools]:
        """Return by cause which pairs have no target that both runs have."""
        has_target = self._has_target[0] & self._has_target[1]
        settings = self._runs[1].metrics.settings
        return {f"without {settings.target_in_words(scorer)}": ~has_target, "with another target": ~self.same_target}

    def _lost(self, scorer: str) -> dict[str, Bools]:
        """Return by cause which pairs have no score in both runs that counts."""
        weights, (before, after) = self._design.weights, self._scores
        return self._without_target(scorer) | {
            "of weight 0": np.zeros_like(self._answered) if weights is None else weights == 0,
            "without an answer in one of the runs": ~self._answered,
            "without a score in one of the runs": np.isnan(before) | np.isnan(after),
        }

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


def _common_codes(column: str, old: ComparedRun, new: ComparedRun) -> tuple[list[Ints], list[str | None]]:
    """Return the codes of a text column in both runs, and the texts of both to which they belong.

    The codes are -1 in the earlier run if it has no such column.
    """
    codes, values = new.results.texts[column]
    there, earlier = old.results.texts.get(column, (None, []))
    if there is None:
        return [np.full(old.results.count, -1), codes.astype(np.int64)], values
    places = {value: code for code, value in enumerate(values)}
    common = np.array([places.setdefault(value, len(places)) for value in earlier], np.int64)
    return [common[there], codes.astype(np.int64)], list(places)


def compared_values(
    compared: Comparison, values: Sequence[Floats], design: RowDesign, why: str = "", percent: float | None = None
) -> Comparison:
    """Return a comparison with the paired difference of its values, over the pairs that have one in both runs.

    `values` are those of the earlier and of the later run. `why` says why other results are in no pair. With `percent`
    that percentile of them is compared, or else their mean.
    """
    before, after = values
    both = ~(np.isnan(before) | np.isnan(after))
    clusters = design.clusters[both]
    if percent is not None:
        paired = compare_percentile(before[both], after[both], clusters, percent)
    else:
        weights = None if design.weights is None else design.weights[both]
        paired = compare(before[both], after[both], clusters, weights)
        if paired and paired.low is not None and paired.high is not None and _are_shares(compared, values):
            paired = msgspec.structs.replace(paired, low=max(-1.0, paired.low), high=min(1.0, paired.high))
    return msgspec.structs.replace(compared, paired=paired, reason=why)


def _are_shares(compared: Comparison, values: Sequence[Floats]) -> bool:
    """Return whether values are from 0 to 1, so that no difference of their means is larger than 1."""
    is_score = compared.metric == "score" and all(np.nanmin(side) >= 0 and np.nanmax(side) <= 1 for side in values)
    return is_score or compared.metric in SHARES
