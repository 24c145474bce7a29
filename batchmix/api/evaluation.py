"""`evaluate`, `diff` and `calibrate`: the scores of a run, how two runs compare, and how far scores can be trusted."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from batchmix.api.job import Job
from batchmix.api.messages import speaking_python
from batchmix.api.run import Run
from batchmix.api.settings import as_in_a_file, checked_job, with_own_code
from batchmix.api.start import scored
from batchmix.api.worker import done_in_thread
from batchmix.comparison.pairing import Pairing
from batchmix.comparison.run_diff import Diff, compare_runs
from batchmix.engine import reader
from batchmix.engine.prepare import Options
from batchmix.engine.recorded_job import recorded_job
from batchmix.engine.shutdown import StopRequest
from batchmix.errors import BatchmixError, JobError, UsageError
from batchmix.evaluation.calibration import Calibration, calibrated
from batchmix.job import CheckedJob, read_job
from batchmix.job.eval_table import sends_requests
from batchmix.progress.shown import progress_shown
from batchmix.verdict.outcome import Evaluation, PreparedEvaluation, evaluated, prepared_evaluation

__all__ = ["Calibration", "Diff", "Evaluation", "calibrate", "diff", "evaluate"]

AnyRun = Run | str | os.PathLike[str]
"""A run, or its folder."""
Scorers = Job | str | os.PathLike[str] | Mapping[str, Any] | Sequence[str | Mapping[str, Any]]
"""A job or a job file, whose `[eval]` and provider are used; a table as `[eval]` in it; or only its scorers."""


def evaluate(
    run: AnyRun,
    scorers: Scorers | None = None,
    *,
    retry_rejected: bool = False,
    keep_going: bool = False,
    progress: Literal["auto", "bar", "log", "none"] = "auto",
) -> Evaluation:
    """Score the answers of a run, as `batchmix eval` does. No row is sent again.

    `scorers` is a list of tables as `[[eval.scorers]]` in a job file, or of kinds such as `"exact"`; a whole table
    `[eval]`, or a job that has one; None for the run's own. Requests are only sent to judges, for answers that they
    have not judged yet, and with `retry_rejected` also where the provider rejected the request. With `keep_going` a
    judge goes on even if its first answers are all unusable. Scores and metrics are written into the run folder.

    Raises `UsageError` if a scorer is wrong, and `Stopped` or `Interrupted` if a judge was stopped; the same call then
    resumes it.

    >>> evaluation = bm.evaluate(run, [{"kind": "regex", "pattern": "[a-z]"}])
    >>> [(score.scorer, score.score.mean) for score in evaluation.scores]
    [('regex', 1.0)]
    >>> evaluation.passed
    True
    """
    with speaking_python():
        judging = Options(retry_rejected=retry_rejected, keep_going=keep_going)
        prepared = prepared_evaluation(folder_of(run), _other_job(run, scorers), {}, os.environ, judging)
        if not prepared.sends:
            return evaluated(prepared)
        with progress_shown(prepared.context.run_status, progress):
            return _evaluated_in_thread(prepared)


def diff(before: AnyRun, after: AnyRun, *, models: Mapping[str, str] | None = None, same_request: bool = False) -> Diff:
    """Compare two runs, paired by custom_id (or else row) and sample, as `batchmix diff` does.

    Two prompts can be compared, and two models of one run: `models={"gpt-4o": "gpt-4o-mini"}` maps models of `before`
    to those of `after`. With `same_request` only results with the same request are compared. Rows whose target differs
    are not compared, but counted in `changed`. Raises `RunError` if a run with scorers has not been evaluated.

    >>> _ = bm.evaluate(run, [{"kind": "regex", "pattern": "[a-z]"}])
    >>> diff = bm.diff(run, run)
    >>> diff.paired, diff.worse, diff.better
    (1, [], [])
    """
    with speaking_python():
        pairing = Pairing(tuple((models or {}).items()), same_request)
        return compare_runs(folder_of(before), folder_of(after), pairing)


def calibrate(
    run: AnyRun, labels: str | os.PathLike[str], *, column: str = "label", threshold: float = 0.5
) -> Calibration:
    """Compare the scores of a run with labels that people gave, as `batchmix calibrate` does.

    `labels` is a file with a column `custom_id` or `row`, and a `column` with the labels. From the score `threshold`
    on, an answer counts as good. Raises `UsageError` if the file has a mistake, or if the run has not been evaluated.

    >>> _ = Path("labels.csv").write_text("row,label\\n0,good\\n")
    >>> _ = bm.evaluate(run, [{"kind": "regex", "pattern": "[a-z]"}])
    >>> [(scorer.scorer, scorer.n, scorer.agreement) for scorer in bm.calibrate(run, "labels.csv").scorers]
    [('regex', 1, 1.0)]
    """
    with speaking_python():
        return calibrated(folder_of(run), os.fspath(labels), column, threshold)


def folder_of(run: AnyRun) -> Path:
    """Return the folder of a run."""
    return run.folder if isinstance(run, Run) else Path(run)


def _evaluated_in_thread(prepared: PreparedEvaluation) -> Evaluation:
    """Evaluate in a thread of its own, since judges need an event loop, and the caller's thread may have one."""

    def work(stop_request: StopRequest) -> Evaluation:
        try:
            return scored(prepared, stop_request)
        except UsageError:
            raise
        except BatchmixError as error:
            raise error.of_run(Run(prepared.folder)) from error.__cause__

    return done_in_thread(work)


def _other_job(run: AnyRun, scorers: Scorers | None) -> CheckedJob | None:
    """Return the job with the evaluation that the caller wants. None for what the run folder has recorded."""
    known = run._job if isinstance(run, Run) else None  # with secrets, unlike the one in the folder
    if scorers is None:
        return known
    if isinstance(scorers, Job):
        return scorers.checked
    if isinstance(scorers, str | os.PathLike):
        if not os.fspath(scorers).endswith(".toml"):
            raise JobError(f"{os.fspath(scorers)}: is no job file, which ends in .toml")
        return checked_job(scorers, None, None, None, {})
    if not isinstance(scorers, Mapping):
        scorers = {"scorers": [{"kind": scorer} if isinstance(scorer, str) else scorer for scorer in scorers]}
    table = scorers
    original = known or reader.job_of(folder_of(run))
    models = [{"id": model.id, "name": model.name} for model in original.models]
    settings = {"input": {"path": "-"}, "models": models, "eval": as_in_a_file(table)}
    checked = read_job(None, settings, option="").eval
    if known is None and sends_requests(checked):
        original = recorded_job(folder_of(run), {})
    return with_own_code(msgspec.structs.replace(original, eval=checked))
