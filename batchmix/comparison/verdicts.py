"""Applies guards to the comparisons of two runs: which metrics are worse, better, the same, or not compared."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from batchmix.comparison.metric_text import metric_value
from batchmix.formats.amounts import counted
from batchmix.formats.display import group_names
from batchmix.job.guards import LATENCY_POINTS, LESS_IS_BETTER, SHARES, Guard, guarded
from batchmix.statistics.multiple import FamilyTest, adjusted_in_families
from batchmix.statistics.paired import Paired
from batchmix.statistics.power import detectable
from batchmix.statistics.sign_flips import least_p

LEVEL = 0.05
"""The significance level: the highest probability that a comparison reports a change although there is none."""
_WEIGHTS = dict.fromkeys(SHARES, 0.1)
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
    """How many results there are to pair, in the run that has more of them."""
    independent: int = 0
    """How many rows, or clusters of rows, a group has, in the run that has more of them. 0 for all rows."""
    adjusted_p: float | None = None
    """The one-sided p-value of the verdict, adjusted for all guarded metrics (Holm). None if nothing was tested.

    It is that of getting better if the verdict is `better`, and that of getting worse otherwise."""
    verdict: str = ""
    """`worse`, `better`, `same` or `not compared`. Empty if the metric is not guarded, or the group too small."""
    reason: str = ""
    """Why the metric, or the group, could not be compared. Empty if it was."""
    detectable: float | None = None
    """The smallest worsening that would have been found with a probability of 80 %. None if unknown."""
    worst: float | None = None
    """The worst value that a result can have. None if that is not known."""
    opponent: str = ""
    """The run with whose answers a judge of pairs has compared those of the later run. Its score is then compared with
    `EVEN`, and with no score of an earlier run. Empty for all other metrics."""


def with_verdicts(
    comparisons: Sequence[Comparison], guards: Sequence[Guard], min_paired: float = 0.0, level: float = LEVEL
) -> Iterator[Comparison]:
    """Yield the comparisons, and add a verdict to those of guarded metrics.

    A guarded metric without pairs, or with pairs for less than the share `min_paired` of its rows, is `not compared`,
    unless those that it has show that it is worse. Each is tested for getting worse, and so is the score of each group.
    The p-values are adjusted (Holm), so
    `level` applies to all tests together, of which groups share a small part. Each is also tested for getting better,
    at the same level and only for information. What was at its worst in the earlier run can't become worse, so it is
    `not compared` unless it is better, or its guard lets any fall of a share pass. So are all rows where not even a
    change of all of them would have been significant. A group then has no verdict.
    """
    scorers = list(dict.fromkeys(compared.scorer for compared in comparisons if compared.scorer))
    models = list(dict.fromkeys(compared.model for compared in comparisons))
    guard_of = {(str(guard.metric), model, scorer): guard for guard, model, scorer in guarded(guards, scorers, models)}
    tests: dict[int, _Test] = {}
    untested: dict[int, Comparison] = {}
    for at, compared in enumerate(comparisons):
        guard = guard_of.get((compared.metric, compared.model, compared.scorer))
        if guard is None:
            continue
        paired = compared.paired
        lacks_pairs = paired is None or paired.n < min_paired * compared.rows
        if paired is None and not compared.group:
            untested[at] = _not_compared(compared)
        else:
            tests[at] = _Test(compared, guard, lacks_pairs)
    tested = dict(zip(tests, _tested(list(tests.values()), level), strict=True)) | untested
    for at, compared in enumerate(comparisons):
        unguarded = compared.paired is not None or bool(compared.group)
        yield tested.get(at, msgspec.structs.replace(compared, reason="") if unguarded else compared)


class _Test(NamedTuple):
    """A comparison that is tested."""

    compared: Comparison
    guard: Guard
    lacks_pairs: bool

    @property
    def worsening(self) -> float:
        difference = self.compared.paired.difference if self.compared.paired else 0.0
        return difference if self.compared.metric in LESS_IS_BETTER else -difference

    @property
    def is_worse(self) -> bool:
        """Whether it has become worse by more than the guard lets pass."""
        paired = self.compared.paired
        return paired is not None and self.worsening > self.guard.allowed(paired.before)

    @property
    def independent(self) -> int:
        """How many rows, or clusters of rows, could change."""
        paired = self.compared.paired
        return self.compared.independent if paired is None or self.lacks_pairs else paired.can_change

    def in_family(self, *, worse: bool) -> FamilyTest:
        """Return the one-sided test of getting worse, or of getting better if `worse` is False."""
        compared, paired = self.compared, self.compared.paired
        weight, of_group = _WEIGHTS.get(compared.metric, 1.0), bool(compared.group)
        if paired is None:
            return FamilyTest(1.0, 1.0, weight, of_group)
        p = paired.p_rise if (compared.metric in LESS_IS_BETTER) == worse else paired.p_fall
        return FamilyTest(p, paired.least_p, weight, of_group)

    def result(self, p_worse: float, p_better: float, own_level: float, level: float) -> Comparison:
        """Return the comparison with its verdict, given the adjusted p-values and the part of the level it has."""
        if p_worse <= level and self.is_worse:
            found = self._found("worse", p_worse, own_level)
            return (
                msgspec.structs.replace(found, reason=_why_not_compared(self.compared)) if self.lacks_pairs else found
            )
        if self.lacks_pairs and not self.compared.group:
            return _not_compared(self.compared)
        if least_p(self.independent) > own_level:
            found = _not_compared(self.compared, _too_few(self.compared, self.independent, own_level))
            return msgspec.structs.replace(found, verdict="") if self.compared.group else found
        if self.lacks_pairs:
            return _not_compared(self.compared)
        if p_better <= level and self.worsening < 0:
            return self._found("better", p_better, own_level)
        if is_at_worst(self.compared) and self.guard.allowed(1.0) < 1:
            found = _not_compared(self.compared, _cant_worsen(self.compared))
            return msgspec.structs.replace(found, verdict="") if self.compared.group else found
        return self._found("same", p_worse, own_level)

    def _found(self, verdict: str, p: float, own_level: float) -> Comparison:
        paired = self.compared.paired
        smallest = None
        if paired is not None and not self._is_nothing(paired):
            smallest = detectable(paired, own_level, self.guard.allowed(paired.before))
        if smallest is not None and smallest > 1 and self._is_share:
            smallest = None
        return msgspec.structs.replace(self.compared, adjusted_p=p, verdict=verdict, reason="", detectable=smallest)

    @property
    def _is_share(self) -> bool:
        """Whether the metric is between 0 and 1, so that no worsening is larger. A score may be any number."""
        paired, metric = self.compared.paired, self.compared.metric
        is_score = metric == "score" and paired is not None and max(abs(paired.before), abs(paired.after)) <= 1
        return is_score or metric in SHARES

    def _is_nothing(self, paired: Paired) -> bool:
        """Return whether a score is 0 in both runs, which does not say how large a change of it would be."""
        is_zero = paired.before == paired.after == 0 and paired.change == 1.0
        return is_zero and self.compared.metric not in LESS_IS_BETTER


def _tested(tests: Sequence[_Test], level: float) -> Iterator[Comparison]:
    """Yield the compared metrics with their verdicts, all tests together at a significance level."""
    worse, better = (
        adjusted_in_families([test.in_family(worse=worse) for test in tests], level) for worse in (True, False)
    )
    for test, (p_worse, own_level), (p_better, _) in zip(tests, worse, better, strict=True):
        yield test.result(p_worse, p_better, own_level, level)


def _not_compared(compared: Comparison, reason: str = "") -> Comparison:
    return msgspec.structs.replace(compared, verdict="not compared", reason=reason or _why_not_compared(compared))


def _why_not_compared(compared: Comparison) -> str:
    """Return why a comparison has too few pairs: how many it has, and what became of the others."""
    if not compared.rows:
        return compared.reason or "neither run has a result for it"
    pairs = compared.paired.n if compared.paired else 0
    few = f"only {pairs:,}" if pairs else "none"
    text = f"{few} of {counted(compared.rows, 'result')} can be compared with the other run's"
    return f"{text}: {compared.reason}" if compared.reason else text


def _too_few(compared: Comparison, count: int, level: float) -> str:
    """Return why a change of all rows would not be significant."""
    change, whole = "rise" if compared.metric in LESS_IS_BETTER else "fall", compared.paired
    needed = math.ceil(-math.log2(level))
    if compared.metric in LATENCY_POINTS and whole is not None and count < whole.rows:
        return (
            f"only {count:,} of {counted(whole.rows, 'row')} can be above this percentile; a {change} takes {needed:,}"
        )
    kind = "row" if whole is None or whole.rows == whole.n else "independent row"
    what = counted(count, kind)
    if whole is not None and count < whole.rows:
        what = f"{counted(whole.rows, kind)} of so uneven weight that they count as {count:,}"
    return f"{what} can't show a {change}: it takes {needed:,} to tell it from chance"


def is_at_worst(compared: Comparison) -> bool:
    """Return whether each result of the earlier run has the worst value, so that a later one can't be worse."""
    paired, worst = compared.paired, compared.worst
    if compared.metric in SHARES:
        worst = float(compared.metric in LESS_IS_BETTER)
    return paired is not None and worst is not None and math.isclose(paired.before, worst, abs_tol=1e-12)


def _cant_worsen(compared: Comparison) -> str:
    """Return that a metric can't get worse, since it has been at its worst."""
    paired = compared.paired
    if paired is None:
        raise TypeError("a comparison without pairs has no earlier value")
    value = metric_value(compared.metric, paired.before)
    text = f"is {value} in all {counted(paired.n, 'result')} of the other run, and can't get worse"
    return f"{text}: see whether the scorer and its targets fit the answers" if compared.metric == "score" else text


def left_out_groups(groups: Sequence[Comparison]) -> Iterator[str]:
    """Yield a message that names the groups that only the later run has, those at their worst, and those too small."""
    untested = [group for group in groups if not group.verdict and group.reason]
    for what, chosen in (
        ("new, and could not be compared", [group for group in untested if not group.rows]),
        ("at the worst score in the earlier run, and can't fall", [group for group in untested if is_at_worst(group)]),
        ("too small to be compared", [group for group in untested if group.rows and not is_at_worst(group)]),
    ):
        names = dict.fromkeys(name for one in chosen for name in group_names(one.group))
        if names:
            yield f"{len(names):,} {'group is' if len(names) == 1 else 'groups are'} {what}: {', '.join(names)}"


def without_comparison(
    comparisons: Sequence[Comparison], guards: Sequence[Guard], scorers: Sequence[str], models: Sequence[str]
) -> Iterator[Comparison]:
    """Yield a comparison without pairs for each guarded metric, model and scorer that has none at all."""
    there = {(compared.metric, compared.model, compared.scorer) for compared in comparisons}
    for guard, model, scorer in guarded(guards, scorers, models):
        if (guard.metric, model, scorer) not in there:
            there.add((guard.metric, model, scorer))
            why = "neither run has it" if model in models else "neither run has this model"
            yield Comparison(model, guard.metric, scorer, None, reason=why)
