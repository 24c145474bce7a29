"""One evaluation from end to end: score → measure → hold against what must be."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq

from batchmix.engine import reader
from batchmix.errors import JobError, RunError, disk_errors
from batchmix.evaluate.history import previous
from batchmix.evaluate.judge import Asking, Judged, Verdicts, ask
from batchmix.evaluate.judge_plan import judge_price
from batchmix.evaluate.measure import Metrics, metrics_path, write_metrics
from batchmix.evaluate.scorers import scorer_of
from batchmix.evaluate.scoring import SCORES_SCHEMA, Asked, scores_path, write_scores
from batchmix.formats.pyarrow_setup import set_up_arrow
from batchmix.job import Job
from batchmix.job.eval_table import Eval, Judge
from batchmix.load import rubric
from batchmix.store.filesystem import is_ours
from batchmix.store.run_folder import Layout


def prepared(job: Job, folder: Path | None) -> list[Asked]:
    """Return a job's scorers, ready to score; what is wrong with them is found here, before anything is sent.

    `folder` is where the job file stands, from which scorers of your own are taken; None: there is none. Raises
    `JobError`.
    """
    if job.eval is None:
        raise JobError("the job has no [eval]; give a job file that has one")
    scorers: list[Asked] = []
    for scorer in job.eval.scorers:
        if isinstance(scorer, Judge):
            rubric(scorer)
            judge_price(job, scorer)
            scorers.append((scorer, None))
        else:
            scorers.append((scorer, scorer_of(scorer, folder)))
    return scorers


def evaluate(root: Path, asking: Asking, scorers: list[Asked]) -> Metrics:
    """Score and measure the answers that a run has; judges are asked for what they have not seen.

    Raises `RunError` and `JobError`; `Stopped` and `Interrupted` where the same call goes on.
    """
    set_up_arrow()
    layout = Layout(root, mode=asking.job.output.permissions, secrets=asking.secrets)
    if torn := reader.torn_parts(root):
        raise RunError(f"{torn[0]}; scores of the rest would mislead: put a good copy back, or run it with --update")
    layout.check_folders()
    for path, told_by in ((scores_path(layout), _are_scores), (metrics_path(layout), _are_metrics)):
        if not is_ours(path, told_by):
            raise RunError(f"{path}: is not batchmix's; move it away")
    with disk_errors(layout.evaluation):
        layout.make_folder(layout.evaluation)
        judged = _judged(layout, asking, [scorer for scorer, _ in scorers if isinstance(scorer, Judge)])
        write_scores(layout, asking.job, scorers, {name: verdicts for name, (verdicts, _) in judged.items()})
        return write_metrics(layout, asking.job.eval or Eval(), tuple(what for _, what in judged.values()))


def _are_scores(path: Path) -> bool:
    names: list[str] = pq.read_schema(path).names
    return names[:5] == list[str](SCORES_SCHEMA.names[:5])


def _are_metrics(path: Path) -> bool:
    found = json.loads(path.read_bytes())
    return isinstance(found, dict) and "batchmix" in found


def _judged(layout: Layout, asking: Asking, judges: list[Judge]) -> dict[str, tuple[Verdicts, Judged]]:
    """Ask the judges, and bring what they cost into the run's summary, however it ends."""
    if not judges:
        return {}
    try:
        return {judge.name: ask(layout, judge, asking) for judge in judges}
    finally:
        layout.write_summary(reader.look(layout.root).summary())


def against(root: Path, job: Job) -> Path | None:
    """Return the run that a job wants its runs compared with; None: there is none (yet)."""
    if job.eval is None or job.eval.against is None:
        return None
    return previous(root) if job.eval.against == "previous" else Path(job.eval.against)
