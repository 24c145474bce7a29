"""Tells which runs are good enough to be the measure of a later one, and whether their files can still be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from batchmix.comparison.alarms import missed_thresholds
from batchmix.engine import reader
from batchmix.errors import RunError
from batchmix.evaluation.measure import Metrics
from batchmix.evaluation.scoring import open_scores
from batchmix.job import CheckedJob
from batchmix.job.eval_table import Eval
from batchmix.store.run_folder import Layout
from batchmix.verdict.history import PastRun

GOOD_SHARE = 0.95
"""The smallest share of answered results, and of rows in common with the present run, of a good run."""


def is_night(past: PastRun, job: CheckedJob) -> bool:
    """Return whether a run counts among the nights of a job: started by its scheduler if it has one, and no try."""
    return not past.run.is_try and (job.schedule is None or past.run.is_scheduled)


def why_not_good(past: PastRun, job: CheckedJob) -> str:
    """Return why an evaluated run can't be a good baseline. Empty if it can."""
    if past.metrics is None:
        return "has not been evaluated"
    if past.run.is_try:
        return "was only a try"
    if not is_night(past, job):
        return "was not started by the scheduler"
    if not past.metrics.complete:
        return "is not complete"
    if not is_answered(past.metrics):
        return f"answered less than {GOOD_SHARE:.0%}, without refusals"
    if past.verdict is None and Layout(past.folder).verdict_json.exists():
        return "has a verdict that can't be read"
    if past.verdict is None:  # an older version of batchmix evaluated it
        return "missed a threshold" if missed_thresholds(past.metrics) else ""
    if past.verdict.starts != len(past.run.starts):
        return "has not been evaluated since its last start"
    if not _is_by_a_job(past, past.metrics.settings, job):
        return "was last evaluated by other scorers, guards or baseline than its own"
    return "" if past.verdict.passed else "ended with an alarm"


def _is_by_a_job(past: PastRun, used: Eval, job: CheckedJob) -> bool:
    """Return whether a run was evaluated as its own job says, or as the present one does.

    One that only somebody's look at it says has passed, by other scorers or without a baseline, is no measure.
    """
    own = reader.recorded_job_in(past.run).eval
    return own is None or _demands(used) in (_demands(own), _demands(job.eval or Eval()))


def _demands(settings: Eval) -> tuple[Any, ...]:
    """Return what an evaluation demands of a run, apart from the settings of its scorers."""
    names = sorted(scorer.title for scorer in settings.scorers)
    return names, settings.guards, settings.against, settings.min_paired, settings.group_by


def is_answered(metrics: Metrics) -> bool:
    """Return whether each model of a run has answered nearly everything. A refusal is no answer here."""
    return all(model.answered - model.refused >= GOOD_SHARE for model in metrics.models)


def damage(folder: Path) -> str:
    """Return what of an evaluated run's answers and scores can't be read. Empty if all can.

    All of them are read, since a damaged page is only found when it is.
    """
    try:
        if damaged := reader.damaged_parts(folder):
            return damaged[0]
        with open_scores(Layout(folder)) as file:
            for _ in file.iter_batches():
                pass
    except RunError as error:
        return str(error)
    return ""
