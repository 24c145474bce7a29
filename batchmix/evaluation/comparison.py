"""Compares two evaluated runs: pairs their results, and tests each guarded metric for a change."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec
import numpy as np

from batchmix.evaluation.alarms import Alarm, comparison_alarms, missed_thresholds
from batchmix.evaluation.metric_text import named_metric
from batchmix.evaluation.pair_comparisons import ScoreChange, ScoredPairs, drifts
from batchmix.evaluation.pairing import ComparedRun, Match, compared_run, matched, model_pairs
from batchmix.evaluation.verdicts import VERDICTS, Comparison, with_verdicts
from batchmix.formats.display import clean
from batchmix.formats.pyarrow_setup import set_up_arrow
from batchmix.job.guards import METRICS, OF_SCORERS

_MAX_CHARS = 2_000


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
    """The number of results that are in both runs, but not compared, because their target has changed."""
    unpaired: int
    """The number of results that only one run has."""
    left_out: tuple[str, ...]
    """A message for each scorer and model that can't be compared."""
    comparisons: tuple[Comparison, ...]
    missed: tuple[str, ...]
    """A message for each threshold that the later run misses."""
    moved: tuple[ScoreChange, ...]
    groups: tuple[Comparison, ...] = ()
    """The scores of each group (`eval.group_by`)."""
    request_changes: tuple[str, ...] = ()
    """What differs between the requests of the runs, a line each."""
    alarms: tuple[Alarm, ...] = ()
    """All reasons why the later run does not pass."""

    @property
    def passed(self) -> bool:
        """Whether every guarded metric was compared and none is worse, and no threshold is missed."""
        return not self.alarms

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
        """The guarded metrics that could not be compared, or only on too few rows."""
        return self._with_verdict("not compared")

    def _with_verdict(self, verdict: str) -> list[Comparison]:
        return [comparison for comparison in self.comparisons if comparison.verdict == verdict]

    def _repr_html_(self) -> str:
        """Return the comparison as HTML, which a notebook shows at the end of a cell."""
        from batchmix.evaluation.notebook_tables import diff_html

        return diff_html(self)

    def __repr__(self) -> str:
        by_name = {"worse": self.worse, **{name: self._with_verdict(name) for name in VERDICTS if name != "worse"}}
        verdicts = (f"{name}: {', '.join(map(_shown, found)) or 'none'}" for name, found in by_name.items())
        missed = (f"missed: {message}" for message in self.missed)
        changed = [f"{self.changed:,} left out: their target has changed"] if self.changed else []
        details = "; ".join([*changed, *verdicts, *missed])
        text = f"{self.before} → {self.after}: {self.paired:,} results in pairs; {details}"
        return clean(f"<Diff {text}>", _MAX_CHARS)


def _shown(comparison: Comparison) -> str:
    what = f"{named_metric(comparison.metric, comparison.scorer)} of {comparison.model}"
    return f"{what} {comparison.paired.difference:+.3g}" if comparison.paired else what


def compare_runs(before: Path, after: Path) -> Diff:
    """Compare two evaluated runs. Raises `RunError` if one of them has not been evaluated."""
    set_up_arrow()
    old, new = compared_run(before), compared_run(after)
    match = matched(old, new)
    pairs = [model_pairs(old, new, before_model, model) for model, before_model in match.models.items()]
    same_target = {pair.model: np.ones(len(pair.after), np.bool_) for pair in pairs}
    scored: dict[str, list[Comparison]] = {pair.model: [] for pair in pairs}
    changes: list[ScoreChange] = []
    for scorer in match.scorers:
        both = old.scored(scorer), new.scored(scorer)
        for pair in pairs:
            of_pair = ScoredPairs(pair, (old, new), both)
            scored[pair.model] += of_pair.comparisons(scorer)
            changes += of_pair.changes(scorer)
            same_target[pair.model] &= of_pair.same_target
    comparisons: list[Comparison] = []
    for pair in pairs:
        comparisons += [*scored[pair.model], *drifts(pair, old, new), *_of_scorers(pair.model, match.other_scorers)]
    settings = new.metrics.settings
    comparisons += _untested(match.only_after, [*match.scorers, *match.other_scorers])
    tested = [*with_verdicts(comparisons, settings.all_guards, settings.min_paired), *_gone(match, old)]
    shown = tuple(compared for compared in tested if compared.paired or compared.verdict)
    missed = missed_thresholds(new.metrics)
    paired = sum(int(same.sum()) for same in same_target.values())
    return Diff(
        before=str(before),
        after=str(after),
        paired=paired,
        changed=sum(map(len, same_target.values())) - paired,
        unpaired=sum(pair.unpaired for pair in pairs),
        left_out=tuple(match.left_out),
        comparisons=shown,
        missed=tuple(alarm.text for alarm in missed),
        moved=tuple(sorted(changes, key=lambda change: (change.after - change.before, change.row))),
        alarms=(*missed, *comparison_alarms(shown)),
    )


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
        Comparison(model, metric, scorer, None, reason=f"the scorer {why}" if why.startswith("has") else why)
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
