"""What a run had to fulfil: a check for each guarded metric and each threshold, for files that other programs read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from batchmix.comparison.alarms import Alarm
from batchmix.comparison.metric_text import metric_name, metric_value, named_metric
from batchmix.comparison.run_diff import Diff
from batchmix.comparison.verdicts import Comparison
from batchmix.errors import RunError
from batchmix.evaluation.measure import Metrics, read_metrics
from batchmix.formats.amounts import counted
from batchmix.reports.report_tables import group_name
from batchmix.store.run_folder import Layout
from batchmix.verdict.outcome import Evaluation
from batchmix.verdict.verdict_file import ScoreTrend

_COMPLETE = "the run is complete"
_Key = tuple[str, str, str, tuple[tuple[str, str | None], ...]]


class Check(msgspec.Struct, frozen=True):
    """One thing that a run had to fulfil."""

    model: str
    """The model that is checked. Empty if the check is about the run."""
    name: str
    failure: str = ""
    """Why the run does not fulfil it, in words. Empty if it does."""
    kind: str = ""
    """The kind of failure: `incomplete`, `missed`, `worse`, `not compared`, `trend`, `rows` or `stopped`."""


class CheckedRun(msgspec.Struct, frozen=True):
    """A run with all that was checked of it."""

    folder: Path
    name: str
    """The job's name."""
    checks: tuple[Check, ...]
    alarms: tuple[Alarm, ...] = ()
    metrics: Metrics | None = None
    """None if the run has not been evaluated."""
    diff: Diff | None = None
    trends: tuple[ScoreTrend, ...] = ()

    @property
    def failures(self) -> list[Check]:
        """The checks that the run does not pass."""
        return [check for check in self.checks if check.failure]


def checked_run(
    folder: Path, metrics: Metrics | None, diff: Diff | None, alarms: tuple[Alarm, ...], others: Iterable[Check] = ()
) -> CheckedRun:
    """Return all checks of an evaluated run. `others` are those that are not about its evaluation."""
    found = [*others]
    if metrics is not None:
        found += _thresholds(metrics, alarms)
    if diff is not None:
        found += [_compared(one) for one in (*diff.comparisons, *diff.groups) if one.verdict]
    found += _further(alarms, diff)
    return CheckedRun(folder, _job_name(folder), tuple(found), alarms, metrics, diff)


def evaluated_run_checks(evaluation: Evaluation, others: Iterable[Check] = ()) -> CheckedRun:
    """Return all checks of an evaluated run, also those of its trends that are steady."""
    found = (evaluation.folder, evaluation.metrics, evaluation.diff, evaluation.alarms)
    run = checked_run(*found, others)
    checks = [check for check in run.checks if check.kind != "trend"]
    checks += [_trend_check(trend, evaluation.alarms) for trend in evaluation.trends]
    return msgspec.structs.replace(run, checks=tuple(checks), trends=evaluation.trends)


def _trend_check(trend: ScoreTrend, alarms: Iterable[Alarm]) -> Check:
    name = f"trend: {trend.scorer} over {counted(trend.nights, 'night')}"
    of_trends = [alarm for alarm in alarms if alarm.kind == "trend"]
    failure = next((one.text for one in of_trends if (one.model, one.scorer) == (trend.model, trend.scorer)), "")
    return Check(trend.model, name, failure, "trend" if failure else "")


def compared_run_checks(diff: Diff) -> CheckedRun:
    """Return all checks of the later run of a comparison."""
    folder = Path(diff.after)
    try:
        metrics = read_metrics(Layout(folder))
    except RunError:  # runs can be compared without an evaluation
        metrics = None
    return checked_run(folder, metrics, diff, diff.alarms)


def stopped_check(why: str) -> Check:
    """Return the check that a run fails because it, or its evaluation, was stopped."""
    return Check("", _COMPLETE, why, "stopped")


def answered_check(unanswered: int) -> Check:
    """Return the check that each row of a run has an answer."""
    failure = f"{counted(unanswered, 'result')} without an answer" if unanswered else ""
    return Check("", "each row has an answer", failure, "rows" if failure else "")


def _job_name(folder: Path) -> str:
    try:
        run = Layout(folder).read_run()
    except RunError:
        run = None
    return run.name if run else folder.name


def _thresholds(metrics: Metrics, alarms: Iterable[Alarm]) -> Iterator[Check]:
    missed = {_key(alarm): alarm.text for alarm in alarms if alarm.kind == "missed"}
    for guard, model, scorer in metrics.guarded():
        bounds = [] if guard.min is None else [f"at least {guard.min:g}"]
        bounds += [] if guard.max is None else [f"at most {guard.max:g}"]
        if bounds:
            text = missed.get((model, guard.metric, scorer, ()), "")
            name = f"{named_metric(guard.metric, scorer)} {' and '.join(bounds)}"
            yield Check(model, name, text, "missed" if text else "")


def _key(one: Alarm | Comparison) -> _Key:
    return one.model, one.metric, one.scorer, tuple(one.group.items())


def _compared(comparison: Comparison) -> Check:
    bound = "not below one half" if comparison.opponent else "not worse than before"
    name = f"{metric_name(comparison)}{group_name(comparison.group)} {bound}"
    if comparison.verdict == "not compared":
        return Check(comparison.model, name, f"not compared: {comparison.reason}", comparison.verdict)
    paired = comparison.paired
    if comparison.verdict != "worse" or paired is None:
        return Check(comparison.model, name)
    change = metric_value(comparison.metric, paired.difference, signed=True)
    was, now = (metric_value(comparison.metric, value) for value in (paired.before, paired.after))
    return Check(comparison.model, name, f"worse: {change}, from {was} to {now}", comparison.verdict)


def _further(alarms: Iterable[Alarm], diff: Diff | None) -> Iterator[Check]:
    """Yield a check for each alarm that belongs to no other check, such as one about the trend of several runs."""
    compared = (*diff.comparisons, *diff.groups) if diff else ()
    worse = {_key(one) for one in compared if one.verdict == "worse"}
    untested = {one.model for one in compared if one.verdict == "not compared"}
    for alarm in alarms:
        if alarm.kind == "missed" or (alarm.kind == "worse" and _key(alarm) in worse):
            continue
        if alarm.kind == "not compared" and alarm.model in untested:
            continue
        what = named_metric(alarm.metric, alarm.scorer) if alarm.metric else alarm.kind
        name = _COMPLETE if alarm.kind == "incomplete" else f"{alarm.kind}: {what}"
        yield Check(alarm.model, name, alarm.text, alarm.kind)
