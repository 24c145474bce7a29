"""Compares two evaluated runs: pairs their results, and tests each guarded metric for a change."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec
import numpy as np

from batchmix.comparison.alarms import Alarm, comparison_alarms, run_alarms
from batchmix.comparison.drifts import Drifts
from batchmix.comparison.judged_pairs import judged_pairs
from batchmix.comparison.matching import Match, matched
from batchmix.comparison.metric_text import named_metric
from batchmix.comparison.pair_comparisons import Rewritten, ScoreChange, ScoredPairs, rewritten
from batchmix.comparison.pairing import ComparedRun, ModelPairs, Pairer, Pairing, compared_run, pairs_by_custom_id
from batchmix.comparison.request_changes import RequestChange, request_changes
from batchmix.comparison.same_rows import SameRows, other_row_notes
from batchmix.comparison.verdicts import (
    LEVEL,
    VERDICTS,
    Comparison,
    left_out_groups,
    with_verdicts,
    without_comparison,
)
from batchmix.evaluation.measure import Metrics
from batchmix.formats.display import clean
from batchmix.formats.pyarrow_setup import set_up_arrow
from batchmix.job.guards import METRICS, OF_SCORERS

_MAX_CHARS = 2_000
_MAX_REWRITTEN = 1_000
"""The most results with another text that are kept, to show some of them."""


class Diff(msgspec.Struct, frozen=True):
    """The differences between two runs.

    >>> _ = bm.evaluate(run, [{"kind": "regex", "pattern": "[a-z]"}])
    >>> [(one.metric, one.model, one.paired.difference) for one in bm.diff(run, run).comparisons][:2]
    [('score', 'gpt-4o-mini', 0.0), ('unscored', 'gpt-4o-mini', 0.0)]
    """

    before: str
    """The folder of the earlier run."""
    after: str
    """The folder of the later run."""
    paired: int
    """The number of results that were compared."""
    changed: int
    """The number of results in both runs that are not compared, because their target has changed, or their request if
    it must be the same."""
    unpaired: int
    """The number of results that only one run has."""
    left_out: tuple[str, ...]
    """A message for each scorer and model that can't be compared, and one for groups that are too small."""
    comparisons: tuple[Comparison, ...]
    missed: tuple[str, ...]
    """A message for each threshold that the later run misses."""
    moved: tuple[ScoreChange, ...]
    groups: tuple[Comparison, ...] = ()
    """The scores of each group (`eval.group_by`)."""
    level: float = LEVEL
    """The significance level of all tests together."""
    paired_by: str = "row"
    """`custom_id` if both runs have one for each row, or else `row`."""
    same_request: bool = False
    """Whether only results with the same request are compared."""
    renamed: tuple[str, ...] = ()
    """A message for each model that has another name in the earlier run."""
    other_requests: int = 0
    """The number of results in pairs whose requests differ."""
    request_changes: tuple[RequestChange, ...] = ()
    """What differs between the requests of the runs."""
    rewritten: tuple[Rewritten, ...] = ()
    """The first results whose text differs, if neither run has scores."""
    rewritten_count: int = 0
    alarms: tuple[Alarm, ...] = ()
    """All reasons why the later run does not pass."""

    @property
    def passed(self) -> bool:
        """Whether the later run is finished and meets its thresholds, and no guarded metric is worse or untested."""
        return not self.alarms

    @property
    def why_changed(self) -> str:
        """Why results are counted in `changed`, in words."""
        return f"their target{' or request' if self.same_request else ''} has changed"

    @property
    def worse(self) -> list[Comparison]:
        """The guarded metrics that are significantly worse, and the groups whose score is."""
        return [*self._with_verdict("worse"), *(group for group in self.groups if group.verdict == "worse")]

    @property
    def better(self) -> list[Comparison]:
        """The guarded metrics that are significantly better."""
        return self._with_verdict("better")

    @property
    def same(self) -> list[Comparison]:
        """The guarded metrics of which no change is significant."""
        return self._with_verdict("same")

    @property
    def not_compared(self) -> list[Comparison]:
        """The guarded metrics, and the groups, that could not be compared, or only on too few rows."""
        return [
            *self._with_verdict("not compared"),
            *(group for group in self.groups if group.verdict == "not compared"),
        ]

    def _with_verdict(self, verdict: str) -> list[Comparison]:
        return [comparison for comparison in self.comparisons if comparison.verdict == verdict]

    def _repr_html_(self) -> str:
        """Return the comparison as HTML, which a notebook shows at the end of a cell."""
        from batchmix.comparison.notebook_tables import diff_html

        return diff_html(self)

    def __repr__(self) -> str:
        by_name = {"worse": self.worse, **{name: self._with_verdict(name) for name in VERDICTS if name != "worse"}}
        verdicts = (f"{name}: {', '.join(map(_shown, found)) or 'none'}" for name, found in by_name.items())
        missed = (f"missed: {message}" for message in self.missed)
        changed = [f"{self.changed:,} left out: {self.why_changed}"] if self.changed else []
        changed += [f"{self.other_requests:,} with another request"] if self.other_requests else []
        details = "; ".join([*changed, *verdicts, *missed])
        text = f"{self.before} → {self.after}: {self.paired:,} results in pairs; {details}"
        return clean(f"<Diff {text}>", _MAX_CHARS)


def _shown(comparison: Comparison) -> str:
    what = f"{named_metric(comparison.metric, comparison.scorer)} of {comparison.model}"
    return f"{what} {comparison.paired.difference:+.3g}" if comparison.paired else what


def _compared(
    pairs: list[ModelPairs], scores: _Scores, match: Match, runs: tuple[ComparedRun, ComparedRun]
) -> list[Comparison]:
    """Return the comparison of each metric, also of those that can't be compared, and of judged pairs in groups."""
    old, new = runs
    settings = new.metrics.settings
    drifts = Drifts(pairs, old, new, {guard.metric for guard in settings.all_guards})
    comparisons: list[Comparison] = []
    for pair in pairs:
        comparisons += scores.comparisons[pair.model]
        comparisons += [*drifts.of(pair.model), *_of_scorers(pair.model, match.other_scorers)]
    comparisons += _untested(match.only_after, [*match.scorers, *match.other_scorers])
    models = [*match.models, *match.only_after]
    guards = [guard for guard in settings.all_guards if guard.model not in new.metrics.left_out]
    comparisons += without_comparison(
        comparisons, guards, [scorer.name for scorer in settings.scorers if not scorer.compares], models
    )
    return [*comparisons, *judged_pairs(new, models)]


def compare_runs(before: Path, after: Path, pairing: Pairing | None = None, level: float = LEVEL) -> Diff:
    """Compare two runs, with all tests together at a significance level.

    Raises `RunError` if one of them has scorers and has not been evaluated.
    """
    set_up_arrow()
    pairing = pairing or Pairing()
    new = compared_run(after)
    old = compared_run(before, new.metrics.settings)
    match = matched(old, new, pairing)
    pairer = Pairer(old, new, pairs_by_custom_id(old, new), pairing.same_request)
    pairs = [pairer.pairs(before_model, model) for model, before_model in match.models.items()]
    if not pairer.by_custom_id and not match.is_same_run:
        pairs = list(map(SameRows(old, new).of, pairs))
    scores = _Scores(pairs)
    for scorer in match.scorers:
        scores.add(scorer, old, new)
    settings = new.metrics.settings
    comparisons = _compared(pairs, scores, match, (old, new))
    tested = list(with_verdicts([*comparisons, *scores.groups], settings.all_guards, settings.min_paired, level))
    whole = [compared for compared in [*tested, *_gone(match, old)] if not compared.group]
    shown = tuple(compared for compared in whole if compared.paired or compared.verdict)
    groups = tuple(compared for compared in tested if compared.group)
    found = run_alarms(after, new.metrics)
    changed = [one for pair in pairs for one in rewritten(pair, old, new)]
    return Diff(
        before=str(before),
        after=str(after),
        paired=sum(int(same.sum()) for same in scores.same_target.values()),
        changed=sum(int((~scores.same_target[pair.model]).sum()) + pair.left_out for pair in pairs),
        same_request=pairing.same_request,
        unpaired=sum(pair.unpaired for pair in pairs),
        left_out=(*match.left_out, *other_row_notes(pairs), *left_out_groups(groups)),
        comparisons=shown,
        missed=tuple(alarm.text for alarm in found if alarm.kind == "missed"),
        moved=tuple(sorted(scores.changes, key=lambda change: (change.after - change.before, change.row))),
        groups=groups,
        level=level,
        paired_by="custom_id" if pairer.by_custom_id else "row",
        renamed=tuple(match.renamed),
        other_requests=sum(int(pair.other_request.sum()) for pair in pairs),
        request_changes=tuple(request_changes(old, new, pairs)),
        rewritten=tuple(changed[:_MAX_REWRITTEN]),
        rewritten_count=len(changed),
        alarms=(*found, *comparison_alarms([*shown, *groups])),
    )


def compare_judged_pairs(folder: Path, metrics: Metrics, level: float = LEVEL) -> Diff | None:
    """Compare a run with those that its judges of pairs have compared it with. None if there are none.

    It needs no scores of theirs, and no baseline. `metrics` are those of the run. Raises `RunError`.
    """
    opponents = dict.fromkeys(judge.against for judge in metrics.judges if judge.against)
    if not opponents:
        return None
    new = compared_run(folder)
    settings = new.metrics.settings
    pairs = list(judged_pairs(new, new.models))
    tested = list(with_verdicts(pairs, settings.all_guards, settings.min_paired, level))
    groups = tuple(one for one in tested if one.group)
    found = run_alarms(folder, new.metrics)
    return Diff(
        before=", ".join(str(folder.resolve().parent / opponent) for opponent in opponents),
        after=str(folder),
        paired=sum(one.paired.n for one in tested if one.paired and not one.group),
        changed=0,
        unpaired=0,
        left_out=tuple(left_out_groups(groups)),
        comparisons=tuple(one for one in tested if not one.group),
        missed=tuple(alarm.text for alarm in found if alarm.kind == "missed"),
        moved=(),
        groups=groups,
        level=level,
        paired_by="row" if new.is_numbered else "custom_id",
        alarms=(*found, *comparison_alarms(tested)),
    )


class _Scores:
    """The scores of all scorers, compared in pairs."""

    def __init__(self, pairs: list[ModelPairs]) -> None:
        self._pairs = pairs
        self.same_target = {pair.model: np.ones(len(pair.after), np.bool_) for pair in pairs}
        """By model: whether both runs have the same targets, for each pair."""
        self.comparisons: dict[str, list[Comparison]] = {pair.model: [] for pair in pairs}
        self.groups: list[Comparison] = []
        self.changes: list[ScoreChange] = []

    def add(self, scorer: str, old: ComparedRun, new: ComparedRun) -> None:
        """Compare the scores of a scorer."""
        both = old.scored(scorer), new.scored(scorer)
        for pair in self._pairs:
            scored = ScoredPairs(pair, (old, new), both)
            self.comparisons[pair.model] += scored.comparisons(scorer)
            for column in new.metrics.settings.group_by:
                self.groups += scored.groups(scorer, column)
            self.changes += scored.changes(scorer)
            self.same_target[pair.model] &= scored.same_target


def _untested(reasons: dict[str, str], scorers: Iterable[str]) -> list[Comparison]:
    """Return a comparison of each metric for models that only one run has. They have no pairs."""
    names = list(scorers)
    return [
        Comparison(model, metric, scorer, None, reason=why)
        for model, why in reasons.items()
        for metric in METRICS
        for scorer in (names if metric in OF_SCORERS else [""])
    ]


def _of_scorers(model: str, reasons: dict[str, str]) -> list[Comparison]:
    """Return a comparison of each metric of scorers that can't be compared. They have no pairs."""
    return [
        Comparison(model, metric, scorer, None, reason=why)
        for scorer, why in reasons.items()
        for metric in ("score", "unscored")
    ]


def _gone(match: Match, old: ComparedRun) -> list[Comparison]:
    """Return what only the earlier run has and guarded: models and scorers that are gone."""
    scorers = [scorer.name for scorer in old.metrics.settings.scorers]
    gone = _untested(match.only_before, scorers)
    for model in match.models:
        gone += _of_scorers(model, match.gone_scorers)
    return [compared for compared in with_verdicts(gone, old.metrics.settings.all_guards) if compared.verdict]
