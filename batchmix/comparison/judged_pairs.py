"""Compares a run with another one by the scores of its judges of pairs, in which one half means equal answers."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import msgspec
import numpy as np

from batchmix.comparison.pair_comparisons import ScoredPairs
from batchmix.comparison.pairing import ComparedRun, ModelPairs, ScoredResults
from batchmix.comparison.verdicts import Comparison
from batchmix.scorers.indirect import PAIR_SCORES

EVEN = PAIR_SCORES["TIE"]
"""The score of answers that are as good as those of the other run."""


def judged_pairs(run: ComparedRun, models: Collection[str]) -> Iterator[Comparison]:
    """Yield the comparison of each score of a judge of pairs with `EVEN`, over all rows and in each group of rows.

    A judge that had no other run yet, as in a first night, has none.
    """
    for judge in run.metrics.judges:
        if judge.against is not None:
            for model in models:
                scored = _scored_pairs(run, judge.scorer, model)
                found = [scored.comparisons(judge.scorer)[0]]
                for column in run.metrics.settings.group_by:
                    found += scored.groups(judge.scorer, column)
                yield from (msgspec.structs.replace(compared, opponent=judge.against) for compared in found)


def _scored_pairs(run: ComparedRun, scorer: str, model: str) -> ScoredPairs:
    """Return the scores of a model in pairs with `EVEN`. Each answer of the run should have one."""
    fields, after = run.results.fields, run.scored(scorer)
    at = run.results.positions(model)
    at = at[fields["ok"][at] & ~np.isnan(fields["response_chars"][at])]
    even = ScoredResults(np.full(len(after.scores), EVEN), after.targets, np.ones(len(after.scores), np.bool_))
    pairs = ModelPairs(model, model, at, at, at, at, np.zeros(len(at), np.bool_), 0)
    return ScoredPairs(pairs, (run, run), (even, after))
