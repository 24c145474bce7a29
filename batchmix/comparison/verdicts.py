"""Applies guards to the comparisons of two runs: which metrics are worse, better, the same, or not compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from batchmix.formats.amounts import counted
from batchmix.job.guards import LESS_IS_BETTER, Guard, guarded
from batchmix.statistics.multiple import FamilyTest, adjusted_in_families
from batchmix.statistics.paired import Paired
from batchmix.statistics.power import detectable

LEVEL = 0.05
"""The significance level: the highest probability that a comparison reports a change although there is none."""
_WEIGHTS = {"answered": 0.1, "refused": 0.1, "unscored": 0.1}
"""The part of the level that a test has, in relation to the others: less for what is guarded without being named."""
VERDICTS = ("worse", "not compared", "better", "same")


class Comparison(msgspec.Struct, frozen=True):
    """One metric of one model in both runs."""

    model: str
    """The name of the model in the later run. Of a model that only the earlier run has, the name there."""
    metric: str
    scorer: str
    """The name of the scorer. Empty if the metric does not come from a scorer."""
    paired: Paired | None
    """The difference, over the results that could be paired. None if there are none."""
    group: dict[str, str | None] = {}
    """The column and its value if only a group of rows is compared. Empty for all rows."""
    before_model: str = ""
    """The name of the model in the earlier run."""
    rows: int = 0
    """How many results there are to pair: those that have this metric, in the run that has more of them."""
    adjusted_p: float | None = None
    """The one-sided p-value of the verdict, adjusted for all guarded metrics (Holm). None if nothing was tested.

    It is that of getting better if the verdict is `better`, and that of getting worse otherwise."""
    verdict: str = ""
    """`worse`, `better`, `same` or `not compared`. Empty if the metric is not guarded."""
    reason: str = ""
    """Why the metric could not be compared. Empty if it was."""
    detectable: float | None = None
    """The smallest worsening that would have been found with a probability of 80 %. None if unknown."""


def with_verdicts(
    comparisons: Sequence[Comparison], guards: Sequence[Guard], min_paired: float = 0.0, level: float = LEVEL
) -> Iterator[Comparison]:
    """Yield the comparisons, and add a verdict to those of guarded metrics.

    A guarded metric without pairs, or with pairs for less than the share `min_paired` of its rows, is `not compared`.
    Each other one is tested for getting worse, and so is the score of each group that has pairs. The p-values are
    adjusted (Holm), so `level` applies to all tests together, of which groups share a small part. Each is also tested
    for getting better, at the same level and only for information.
    """
    scorers = list(dict.fromkeys(compared.scorer for compared in comparisons if compared.scorer))
    models = list(dict.fromkeys(compared.model for compared in comparisons))
    guard_of = {(str(guard.metric), model, scorer): guard for guard, model, scorer in guarded(guards, scorers, models)}
    tests: dict[int, _Test] = {}
    untested: dict[int, str] = {}
    for at, compared in enumerate(comparisons):
        guard = guard_of.get((compared.metric, compared.model, compared.scorer))
        if guard is None:
            continue
        paired = compared.paired
        if not compared.group and (paired is None or paired.n < min_paired * compared.rows):
            untested[at] = compared.reason or _too_few(paired, compared.rows)
        elif paired:
            tests[at] = _Test(compared, paired, guard)
    tested = dict(zip(tests, _tested(list(tests.values()), level), strict=True))
    for at, compared in enumerate(comparisons):
        if at in untested:
            yield msgspec.structs.replace(compared, verdict="not compared", reason=untested[at])
        else:
            yield tested.get(at, compared)


class _Test(NamedTuple):
    """A comparison that is tested."""

    compared: Comparison
    paired: Paired
    guard: Guard

    @property
    def worsening(self) -> float:
        less_is_better = self.compared.metric in LESS_IS_BETTER
        return self.paired.difference if less_is_better else -self.paired.difference

    @property
    def is_at_worst(self) -> bool:
        """Whether nothing can get worse: a score is 0 in both runs."""
        is_zero = self.paired.before == self.paired.after == 0 and self.paired.change == 1.0
        return is_zero and self.compared.metric not in LESS_IS_BETTER

    def in_family(self, *, worse: bool) -> FamilyTest:
        """Return the one-sided test of getting worse, or of getting better if `worse` is False."""
        compared, paired = self.compared, self.paired
        p = paired.p_rise if (compared.metric in LESS_IS_BETTER) == worse else paired.p_fall
        return FamilyTest(p, paired.least_p, _WEIGHTS.get(compared.metric, 1.0), bool(compared.group))


def _tested(tests: Sequence[_Test], level: float) -> Iterator[Comparison]:
    """Yield the compared metrics with their verdicts, all tests together at a significance level."""
    worse, better = (
        adjusted_in_families([test.in_family(worse=worse) for test in tests], level) for worse in (True, False)
    )
    for test, (p_worse, own_level), (p_better, _) in zip(tests, worse, better, strict=True):
        verdict, p = "same", p_worse
        if p_worse <= level and test.worsening > test.guard.allowed(test.paired.before):
            verdict = "worse"
        elif p_better <= level and test.worsening < 0:
            verdict, p = "better", p_better
        smallest = None if test.is_at_worst else detectable(test.paired, own_level)
        yield msgspec.structs.replace(test.compared, adjusted_p=p, verdict=verdict, detectable=smallest)


def without_comparison(
    comparisons: Sequence[Comparison], guards: Sequence[Guard], scorers: Sequence[str], models: Sequence[str]
) -> Iterator[Comparison]:
    """Yield a comparison without pairs for each guarded metric, model and scorer that has none at all."""
    there = {(compared.metric, compared.model, compared.scorer) for compared in comparisons}
    for guard, model, scorer in guarded(guards, scorers, models):
        if (guard.metric, model, scorer) not in there:
            there.add((guard.metric, model, scorer))
            yield Comparison(model, guard.metric, scorer, None, reason="neither run has it")


def _too_few(paired: Paired | None, rows: int) -> str:
    return f"only {paired.n if paired else 0:,} of {counted(rows, 'result')} can be compared with the other run's"
