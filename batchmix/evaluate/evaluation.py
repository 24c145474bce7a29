"""One evaluation from end to end: score → measure → hold against what must be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from batchmix.arrow import set_up_arrow
from batchmix.errors import JobError
from batchmix.eval_table import Eval, Judge, Scorer
from batchmix.evaluate.history import previous
from batchmix.evaluate.measure import Metrics, write_metrics
from batchmix.evaluate.scorers import Score, scorer_of
from batchmix.evaluate.scoring import Asked, write_scores
from batchmix.job import Job
from batchmix.store.rundir import Layout


def prepared(job: Job, folder: Path | None) -> list[Asked]:
    """Return a job's scorers, ready to score; what is wrong with them is found here, before anything is sent.

    `folder` is where the job file stands, from which scorers of your own are taken; None: there is none. Raises
    `JobError`.
    """
    if job.eval is None:
        raise JobError("the job has no [eval]; give a job file that has one")
    return [(scorer, None if isinstance(scorer, Judge) else scorer_of(scorer, folder)) for scorer in job.eval.scorers]


def evaluate(root: Path, job: Job, scorers: list[Asked]) -> Metrics:
    """Score and measure the answers that a run has. Raises `RunError` and `JobError`."""
    set_up_arrow()
    layout = Layout(root)
    asked = job.eval or Eval()
    write_scores(layout, asked, scorers, _no_judge)
    return write_metrics(layout, asked)


def against(root: Path, job: Job) -> Path | None:
    """Return the run that a job wants its runs compared with; None: there is none (yet)."""
    if job.eval is None or job.eval.against is None:
        return None
    return previous(root) if job.eval.against == "previous" else Path(job.eval.against)


def _no_judge(scorer: Scorer) -> Iterator[Score]:
    raise JobError(f"{scorer.name}: judges are not there yet")
