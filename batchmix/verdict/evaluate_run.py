"""Evaluates one run: scores its answers, then computes its metrics. `comparison` compares two evaluated runs."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pyarrow.parquet as pq

from batchmix.engine import reader
from batchmix.errors import JobError, RunError, disk_errors
from batchmix.evaluation.custom_scorer import CustomScorer
from batchmix.evaluation.human_labels import labels_function
from batchmix.evaluation.judge import JudgeContext, JudgeUsage, run_judge
from batchmix.evaluation.judge_plans import judge_prices
from batchmix.evaluation.judge_scores import JudgeScores
from batchmix.evaluation.measure import Metrics, measure, metrics_path, write_metrics
from batchmix.evaluation.scoring import (
    SCORES_SCHEMA,
    PreparedScorer,
    check_results,
    score_function,
    scores_path,
    write_scores,
)
from batchmix.formats.pyarrow_setup import set_up_arrow
from batchmix.job import CheckedJob
from batchmix.job.eval_table import Eval
from batchmix.load import rubric
from batchmix.scorers.indirect import Judge
from batchmix.scorers.labels import Labels
from batchmix.store.filesystem import is_ours
from batchmix.store.run_folder import Layout
from batchmix.verdict.baseline import judged_against, shown_run
from batchmix.verdict.verdict_file import is_verdict


def prepare_scorers(job: CheckedJob) -> list[PreparedScorer]:
    """Return the job's scorers with their functions. Raises `JobError` if a scorer's settings have a mistake."""
    if job.eval is None:
        raise JobError("the job has no [eval]; give a job file that has one")
    folder = Path(job.scorer_folder) if job.scorer_folder else None
    scorers: list[PreparedScorer] = []
    for scorer in job.eval.scorers:
        if isinstance(scorer, Judge):
            rubric(scorer)
            _named_run(scorer)
            judge_prices(job, scorer)
            scorers.append(PreparedScorer(scorer, None))
        elif isinstance(scorer, Labels):
            scorers.append(PreparedScorer(scorer, labels_function(scorer, len(job.models), job.samples)))
        else:
            scorers.append(PreparedScorer(scorer, score_function(scorer, folder)))
    return scorers


def check_own_files(layout: Layout) -> None:
    """Raise `RunError` if a file that the evaluation writes is there, and is not batchmix's own."""
    layout.check_folders()
    files = {scores_path(layout): _are_scores, metrics_path(layout): _are_metrics, layout.verdict_json: is_verdict}
    for path, has_our_format in files.items():
        if not is_ours(path, has_our_format):
            raise RunError(f"{path}: was not written by batchmix; move it away")


def evaluate_run(root: Path, context: JudgeContext, scorers: list[PreparedScorer]) -> Metrics:
    """Score the answers of a run and compute its metrics. Judges are sent only the answers they have not scored yet.

    Raises `RunError` or `JobError`. Also raises `Stopped` or `Interrupted`, after which the same call resumes.
    """
    set_up_arrow()
    job = context.job
    layout = Layout(root, mode=job.output.permissions, secrets=context.secrets)
    if damaged := reader.damaged_parts(root):
        raise RunError(
            f"{damaged[0]}; scores of the rest would be misleading: restore a good copy, or run it with --update"
        )
    check_own_files(layout)
    check_results(layout, job.eval or Eval())
    with disk_errors(layout.evaluation):
        layout.make_folder(layout.evaluation)
        judged = _run_judges(layout, context, [scorer for scorer, _ in scorers if isinstance(scorer, Judge)])
        write_scores(layout, job, scorers, {name: scores for name, (scores, _) in judged.items()})
        usages = tuple(usage.with_agreement(scores.agreement) for scores, usage in judged.values())
        metrics = measure(layout, job.eval or Eval(), usages)
        code = {config.name: scorer.code for config, scorer in scorers if isinstance(scorer, CustomScorer)}
        metrics = msgspec.structs.replace(metrics, code=code)
        write_metrics(layout, metrics)
        return metrics


def _are_scores(path: Path) -> bool:
    names: list[str] = pq.read_schema(path).names
    return names[:5] == list[str](SCORES_SCHEMA.names[:5])


def _are_metrics(path: Path) -> bool:
    content = json.loads(path.read_bytes())
    return isinstance(content, dict) and "batchmix" in content


def _run_judges(
    layout: Layout, context: JudgeContext, judges: list[Judge]
) -> dict[str, tuple[JudgeScores, JudgeUsage]]:
    """Run the judges and write their cost into the run's summary, even if a judge is interrupted."""
    if not judges:
        return {}
    try:
        others = {judge.name: _other_run(layout, judge, context.job) for judge in judges}
        return {judge.name: _judged(layout, judge, context, others[judge.name]) for judge in judges}
    finally:
        layout.write_summary(reader.look(layout.root).summary())


def _judged(layout: Layout, judge: Judge, context: JudgeContext, other: Path | None) -> tuple[JudgeScores, JudgeUsage]:
    scores, usage = run_judge(layout, judge, context, other)
    against = None if other is None else shown_run(other, layout.root.resolve().parent)
    return scores, msgspec.structs.replace(usage, against=against)


def _other_run(layout: Layout, judge: Judge, job: CheckedJob) -> Path | None:
    """Return the run with whose answers a judge compares those of this one. None if there is none, or not yet."""
    if not judge.compares:
        return None
    return judged_against(layout.root, job) if judge.against is None else _named_run(judge)


def _named_run(judge: Judge) -> Path | None:
    """Return the run that a judge names to compare with. None if it names none. Raises `RunError` if it is no run."""
    if judge.against is None:
        return None
    if Layout(Path(judge.against)).read_run() is None:
        raise RunError(f"{judge.against}: is no run folder; {judge.name} can't compare with it")
    return Path(judge.against)
