"""How small a fall of each score a run could find, before it is run: `batchmix plan`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import msgspec

from batchmix.engine.eval_plan import DetectableFall
from batchmix.job import CheckedJob
from batchmix.job.guards import Guard, guarded
from batchmix.statistics.multiple import GROUPS_SHARE
from batchmix.statistics.power import detectable_in_rows
from batchmix.verdict.history import PastRun, past_runs
from batchmix.verdict.months import comparison_level


def detectable_falls(job: CheckedJob, rows: int) -> list[DetectableFall]:
    """Return the smallest fall of each guarded score that a run over so many rows could find."""
    if job.eval is None or not job.eval.scorers:
        return []
    scorers = [scorer.name for scorer in job.eval.scorers]
    guards = [guard for guard in job.eval.all_guards if guard.metric == "score"]
    models = [model.name for model in job.models] or [""]
    watched = {(model, scorer): guard for guard, model, scorer in guarded(guards, scorers, models)}
    level = comparison_level(job) * (1 - GROUPS_SHARE * bool(job.eval.group_by)) / max(1, len(watched))
    past = _evaluated(job)
    return [_fall(past, DetectableFall(*names, rows, None, ""), level, guard) for names, guard in watched.items()]


def _evaluated(job: CheckedJob) -> list[PastRun]:
    """Return the evaluated runs of a job, the latest first."""
    root = Path(job.output.path).resolve().parent
    return [past for past in reversed(past_runs(root, job.name)) if past.metrics is not None and not past.run.is_try]


def _fall(past: Sequence[PastRun], unknown: DetectableFall, level: float, guard: Guard) -> DetectableFall:
    """Return a score's smallest fall beyond what its guard lets pass, from the last run that can tell it."""
    before, error, name = 1.0, None, ""
    for run in past:
        found = _error_of_a_row(run, unknown.model, unknown.scorer)
        if found is not None:
            error, name = found / math.sqrt(max(1, unknown.rows)), run.folder.name
            before = _mean(run, unknown.model, unknown.scorer)
            break
    fall = detectable_in_rows(unknown.rows, level, error, guard.allowed(before))
    return msgspec.structs.replace(unknown, fall=None if fall is None or fall > 1 else fall, run=name)


def _mean(past: PastRun, model: str, scorer: str) -> float:
    """Return the mean of a score in a past run, or 1 if it has none."""
    scores = past.metrics.scores if past.metrics else ()
    means = (one.score.mean for one in scores if (one.model, one.scorer, one.group) == (model, scorer, {}))
    return next((mean for mean in means if mean is not None), 1.0)


def _error_of_a_row(past: PastRun, model: str, scorer: str) -> float | None:
    """Return the standard error of the difference of a score between two runs, if they had one row.

    It is known from the comparison of a past run. Without one it is at most that of two runs that have nothing in
    common, which follows from the error of one.
    """
    for one in past.verdict.comparisons if past.verdict else ():
        if (one.model, one.metric, one.scorer, one.group) == (model, "score", scorer, {}) and one.paired:
            return None if one.paired.stderr is None else one.paired.stderr * math.sqrt(one.paired.rows)
    for scored in past.metrics.scores if past.metrics else ():
        if (scored.model, scored.scorer, scored.group) == (model, scorer, {}) and scored.score.stderr is not None:
            return math.sqrt(2 * scored.score.rows) * scored.score.stderr
    return None
