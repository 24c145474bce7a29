"""Evaluates a run as its job says: scores, metrics, thresholds, and the comparison with the baseline."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from batchmix.comparison.alarms import Alarm, run_alarms
from batchmix.comparison.run_diff import Diff, compare_judged_pairs, compare_runs
from batchmix.engine import reader
from batchmix.engine.prepare import Options
from batchmix.engine.recorded_job import recorded_job
from batchmix.engine.run_status import RunStatus
from batchmix.errors import RunError
from batchmix.evaluation.judge import JudgeContext
from batchmix.evaluation.measure import Metrics, ModelMetrics, ScoreMetrics
from batchmix.evaluation.scoring import PreparedScorer
from batchmix.formats.display import clean
from batchmix.job import CheckedJob
from batchmix.job.eval_table import Eval, sends_requests, with_fields
from batchmix.job.secrets import read_secrets
from batchmix.redact import Secrets
from batchmix.store.run_folder import Layout
from batchmix.verdict.baseline import baseline_of, check_baseline
from batchmix.verdict.evaluate_run import check_own_files, evaluate_run, prepare_scorers
from batchmix.verdict.history import PastRun, write_history
from batchmix.verdict.months import comparison_level, score_trends, trend_alarms
from batchmix.verdict.verdict_file import Baseline, ScoreTrend, Verdict, remove_verdict, score_lines, write_verdict
from batchmix.verdict.versions import dataset_version, prompt_version

_OF_EVALUATION = ("eval", "provider", "limits", "retry", "timeouts", "prices", "scorer_folder")
"""The settings that another job than the run's own replaces when a run is evaluated."""
_MAX_CHARS = 2_000


class Evaluation(msgspec.Struct, frozen=True):
    """The scores of a run: its metrics, the thresholds that it misses, and how it compares with an earlier run.

    >>> evaluation = bm.evaluate(run, {"scorers": [{"kind": "regex", "pattern": "[0-9]{9}"}], "guards": [{"min": 0.5}]})
    >>> evaluation.passed, evaluation.missed
    (False, ('gpt-4o-mini: regex is 0, less than 0.5',))
    """

    folder: Path
    """The run folder. The score of each answer is in `evaluation/scores.parquet` there."""
    metrics: Metrics
    missed: tuple[str, ...]
    """A message for each threshold (`[[eval.guards]]`) that the run misses."""
    diff: Diff | None
    """The comparison with the run that `eval.against` names. None without one."""
    verdict: Verdict
    """Whether the run passes, and what it was compared with, as in `evaluation/verdict.json`."""

    @property
    def alarms(self) -> tuple[Alarm, ...]:
        """All reasons why the run does not pass."""
        return self.verdict.alarms

    @property
    def baseline(self) -> Baseline | None:
        """The run that it was compared with, and how that was chosen. None if the job asks for no comparison."""
        return self.verdict.baseline

    @property
    def trends(self) -> tuple[ScoreTrend, ...]:
        """Whether each guarded score has been falling over many nights. Empty if the run is no night."""
        return self.verdict.trends

    @property
    def scores(self) -> tuple[ScoreMetrics, ...]:
        """The scores, by model, scorer and group."""
        return self.metrics.scores

    @property
    def models(self) -> tuple[ModelMetrics, ...]:
        """Answered rows, tokens, cost and latency, by model."""
        return self.metrics.models

    @property
    def passed(self) -> bool:
        """Whether the run is finished, meets its thresholds, and each guarded metric was compared and is not worse."""
        return self.verdict.passed

    @property
    def may_be_accepted(self) -> bool:
        """Whether there are alarms that end once the run is the new baseline. A try can't be one."""
        run = Layout(self.folder).read_run()
        compared = any(alarm.kind not in {"incomplete", "missed"} for alarm in self.alarms)
        return compared and self.metrics.complete and run is not None and not run.is_try

    def _repr_html_(self) -> str:
        """Return the evaluation as HTML, which a notebook shows at the end of a cell."""
        from batchmix.verdict.notebook_evaluation import evaluation_html

        return evaluation_html(self)

    def __repr__(self) -> str:
        means = [
            f"{score.scorer} of {score.model} {'unknown' if score.score.mean is None else f'{score.score.mean:.3f}'}"
            for score in self.scores
            if not score.group
        ]
        missed = [f"missed: {message}" for message in self.missed]
        compared = [] if self.diff is None else [repr(self.diff)]
        return clean(f"<Evaluation of {self.folder}: {'; '.join([*means, *missed, *compared])}>", _MAX_CHARS)


class PreparedEvaluation(msgspec.Struct, frozen=True):
    """An evaluation whose settings are checked: its job, its secrets, and its scorers."""

    folder: Path
    context: JudgeContext
    scorers: list[PreparedScorer]

    @property
    def sends(self) -> bool:
        """Whether requests are sent, to judges."""
        return any(score is None for _, score in self.scorers)


def prepared_evaluation(
    folder: Path,
    other: CheckedJob | None,
    settings: Mapping[str, Any],
    environ: Mapping[str, str],
    options: Options | None = None,
) -> PreparedEvaluation:
    """Return the evaluation of a run, ready to begin. Raises `UsageError`.

    Its settings are those of the run's own job, changed by nested `settings`, or else those of another job.
    """
    job = _job_to_evaluate(folder, other, settings)
    secrets = read_secrets(job.provider, environ) if sends_requests(job.eval) else Secrets()
    return evaluation_of(folder, job, secrets, options)


def evaluation_of(
    folder: Path, job: CheckedJob, secrets: Secrets, options: Options | None = None
) -> PreparedEvaluation:
    """Return the evaluation of a run, ready to begin; the run need not have begun yet. Raises `UsageError`.

    So all that can be wrong with a scorer, with a baseline, or with what lies in the folder is found before a run pays
    for an answer. What its input must have is checked by `load`, when the input is scanned. `options` are those of the
    start, of which some hold for judges too.
    """
    check_own_files(Layout(folder))
    check_baseline(folder, job)
    context = JudgeContext(job, secrets, RunStatus(), (options or Options()).of_judges())
    return PreparedEvaluation(folder, context, prepare_scorers(job))


def evaluated(prepared: PreparedEvaluation) -> Evaluation:
    """Evaluate a run, compare it with its baseline, if it has one, and add it to the history beside it.

    Writes the verdict. If the evaluation is stopped, there is none.

    Raises `UsageError`, or `Stopped` or `Interrupted`, after which the same call resumes.
    """
    root, job = prepared.folder, prepared.context.job
    layout = Layout(root, mode=job.output.permissions, secrets=prepared.context.secrets)
    remove_verdict(layout)
    metrics = evaluate_run(root, prepared.context, prepared.scorers)
    baseline = baseline_of(root, job)
    earlier = baseline.folder(root) if baseline else None
    level = comparison_level(job)
    compared = compare_runs(earlier, root, level=level) if earlier else compare_judged_pairs(root, metrics, level)
    verdict = verdict_on(layout, job, metrics, baseline, compared)
    missed = tuple(alarm.text for alarm in verdict.alarms if alarm.kind == "missed")
    write_verdict(layout, verdict)
    write_history(root.resolve().parent, layout.file_mode)
    return Evaluation(root, metrics, missed, compared, verdict)


def verdict_on(
    layout: Layout, job: CheckedJob, metrics: Metrics, baseline: Baseline | None, compared: Diff | None
) -> Verdict:
    """Return the verdict on an evaluated run: thresholds, the comparison, and the trends over the nights."""
    run = layout.read_run()
    if run is None:
        raise RunError(f"{layout.root}: is not a run folder: it has no run.json")
    settings, comparisons = job.eval or Eval(), (*compared.comparisons, *compared.groups) if compared else ()
    alarms = compared.alarms if compared else tuple(run_alarms(layout.root, metrics))
    verdict = Verdict(
        passed=not alarms,
        alarms=alarms,
        against=settings.against or "",
        baseline=baseline,
        scores=score_lines(metrics, comparisons),
        comparisons=comparisons,
        trends=(),
        level=compared.level if compared else None,
        dataset=dataset_version(layout, settings, run),
        prompt=prompt_version(run),
        starts=len(run.starts),
        evaluated_at=metrics.evaluated_at,
    )
    trends = score_trends(PastRun(layout.root, run, metrics, verdict), job)
    alarms = (*alarms, *trend_alarms(trends))
    return msgspec.structs.replace(verdict, passed=not alarms, alarms=alarms, trends=trends)


def _job_to_evaluate(folder: Path, other: CheckedJob | None, settings: Mapping[str, Any]) -> CheckedJob:
    job = original = reader.job_of(folder)
    if other is not None:
        job = msgspec.structs.replace(original, **{name: getattr(other, name) for name in _OF_EVALUATION})
    elif settings or sends_requests(original.eval):  # without judges nothing is sent: masked values do not matter
        job = recorded_job(folder, settings)
    # The answers are those of the run, whatever another job says of its own.
    return msgspec.structs.replace(job, eval=with_fields(job.eval, original.answer)) if job.eval else job
