"""Delivers the results of a whole run to where others read them."""

from __future__ import annotations

import logging
from pathlib import Path

from batchmix.job import CheckedJob
from batchmix.store.publishing import check_target, publish
from batchmix.store.view import View

_logger = logging.getLogger(__name__)


def check(job: CheckedJob) -> None:
    """Raise `JobError` if the results can't be delivered to where the job says."""
    if job.output.publish:
        check_target(Path(job.output.publish), job.name, rehearsal=job.provider.rehearsal)


def deliver(job: CheckedJob, view: View) -> None:
    """Deliver the results if the run is whole. A start that finds nothing else to do repeats what a kill left undone.

    Raises `JobError`, `RunError`, `NoSpace` and `DiskError`.
    """
    if job.output.publish and view.is_whole and not publish(view, Path(job.output.publish)):
        _logger.warning("%s: stays as it is, since it has the results of a later night", job.output.publish)
