"""Looks at the nights of a job together: has a score been falling slowly since the dataset changed last?"""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from batchmix.comparison.alarms import Alarm
from batchmix.comparison.matching import scorer_changes
from batchmix.comparison.metric_text import metric_value
from batchmix.comparison.verdicts import LEVEL
from batchmix.errors import RunError
from batchmix.evaluation.measure import ScoreMetrics
from batchmix.formats.amounts import counted
from batchmix.job import CheckedJob
from batchmix.job.eval_table import Eval
from batchmix.job.guards import guarded
from batchmix.statistics.trend import Night, trend
from batchmix.store.run_folder import Layout
from batchmix.verdict.baseline import earlier_runs
from batchmix.verdict.good_runs import is_answered, is_night
from batchmix.verdict.history import PastRun
from batchmix.verdict.pinned import read_pins
from batchmix.verdict.verdict_file import ScoreTrend
from batchmix.verdict.versions import dataset_version

_YEARLY = 1 / 12
"""The most false alarms that the trends may give in a month, however many the job accepts: one in a year."""
_NIGHTS_PER_MONTH = 365.25 / 12
_MAX_NIGHTS = 400
"""The most nights that are looked at."""


def runs_per_month(job: CheckedJob) -> float:
    """Return how often a job runs in a month. A job without a schedule counts as one that runs every night."""
    now = datetime.datetime.now(datetime.UTC)
    return job.schedule.runs_per_month(now) if job.schedule else _NIGHTS_PER_MONTH


def comparison_level(job: CheckedJob) -> float:
    """Return the significance level of the comparison of a run with its baseline.

    In a job with a schedule the comparisons of a month together have the rate of false alarms that the job accepts.
    """
    if job.eval is None or job.schedule is None:
        return LEVEL
    return min(LEVEL, job.eval.false_alarms_per_month / runs_per_month(job))


def score_trends(present: PastRun, job: CheckedJob) -> tuple[ScoreTrend, ...]:
    """Return the trend of each guarded score over the nights of a job, of which the present run is the last.

    Empty if the run is no night: a try, or started by hand where the job has a schedule. The scores of a judge of pairs
    have no trend: each night they are compared with another run.
    """
    settings, metrics = job.eval or Eval(), present.metrics
    if metrics is None or settings.against is None or not _counts(present, job):
        return ()
    nights = [past for past in earlier_runs(present.folder, present.run) if _counts(past, job)]
    nights = [*nights[1 - _MAX_NIGHTS :], present]
    accepted = _accepted(nights, present.folder.resolve().parent)
    scorers = [scorer.name for scorer in metrics.settings.scorers if not scorer.compares]
    models = [found.model for found in metrics.models]
    guards = [guard for guard in settings.all_guards if guard.metric == "score"]
    watched = dict.fromkeys(
        (model, scorer) for _, model, scorer in guarded(guards, scorers, models) if scorer in scorers
    )
    rate = min(settings.false_alarms_per_month / 2, _YEARLY)
    trends = []
    for model, name in watched:
        known = list(_nights(nights, accepted, model, name))
        if not known or known[-1][0] is not present:
            continue
        found = trend([night for _, night in known], rate, len(watched), runs_per_month(job))
        since = "" if found.since is None else known[found.since][0].folder.name
        bound = found.bound if math.isfinite(found.bound) else None
        values = (found.alarm, found.nights, found.statistic, bound, since, found.before, found.after)
        trends.append(ScoreTrend(model, name, *values))
    return tuple(trends)


def trend_alarms(trends: Sequence[ScoreTrend]) -> tuple[Alarm, ...]:
    """Return an alarm for each score that has been falling."""
    return tuple(
        Alarm(
            "trend",
            one.model,
            "score",
            one.scorer,
            {},
            f"{one.model}: {one.scorer} has been falling over {counted(one.nights, 'night')}:"
            f" {metric_value('score', one.after)} since {one.since}, {metric_value('score', one.before)} before",
        )
        for one in trends
        if one.alarm and one.before is not None and one.after is not None
    )


def _counts(past: PastRun, job: CheckedJob) -> bool:
    return is_night(past, job) and past.metrics is not None and past.metrics.complete and is_answered(past.metrics)


def _accepted(nights: Sequence[PastRun], home: Path) -> list[str]:
    """Return when each run began that the user has ever pinned: from then on, its level was accepted."""
    began = {past.folder.resolve(): past.started_at for past in nights}
    found = []
    for run in read_pins(home, nights[-1].run.name).accepted:
        folder = (home / run).resolve()
        if folder in began:
            found.append(began[folder])
            continue
        try:
            other = Layout(folder).read_run()
        except RunError:
            continue
        found += [other.starts[0].at] if other and other.starts else []
    return found


def _nights(
    nights: Sequence[PastRun], accepted: Sequence[str], model: str, scorer: str
) -> Iterator[tuple[PastRun, Night]]:
    """Yield the nights that have a score, with its mean over the answered rows."""
    last: PastRun | None = None
    dataset = ""
    for past in nights:
        scored = _scored(past, nights[-1], model, scorer)
        mean = None if scored is None else _answered_mean(scored)
        if scored is None or mean is None:
            continue
        before, dataset = dataset, _dataset(past)
        restart = last is not None and (
            dataset != before or any(last.started_at < time <= past.started_at for time in accepted)
        )
        yield past, Night(mean, scored.score.rows, _noise(past, model, scorer), restart)
        last = past


def _scored(past: PastRun, present: PastRun, model: str, scorer: str) -> ScoreMetrics | None:
    """Return the scores of a night by a scorer. None if it had none, or if the scorer has changed since."""
    then, now = past.metrics, present.metrics
    if then is None or now is None or scorer not in {one.name for one in then.settings.scorers}:
        return None
    if scorer_changes(scorer, then, now):
        return None
    return next((one for one in then.scores if (one.model, one.scorer) == (model, scorer) and not one.group), None)


def _answered_mean(scored: ScoreMetrics) -> float | None:
    """Return the mean score of the answered rows. Rows without an answer have 0, and are guarded by themselves."""
    if scored.answered_mean is not None:
        return scored.answered_mean
    # An older version of batchmix did not keep it; nor is there one without an answer.
    score = scored.score
    answered = score.n - scored.no_answer
    return None if score.mean is None or answered <= 0 else score.mean * score.n / answered


def _dataset(past: PastRun) -> str:
    if past.verdict:
        return past.verdict.dataset
    if past.metrics is None:
        return ""
    try:
        return dataset_version(Layout(past.folder), past.metrics.settings, past.run)
    except RunError:
        return ""


def _noise(past: PastRun, model: str, scorer: str) -> float | None:
    """Return the standard error of a night's mean if its rows were asked again. None if it is not known."""
    for one in past.verdict.comparisons if past.verdict else ():
        if (one.model, one.metric, one.scorer) == (model, "score", scorer) and not one.group and one.paired:
            return None if one.paired.stderr is None else one.paired.stderr / math.sqrt(2)
    return None
