"""Delivers the results of a whole run to where others read them."""

from __future__ import annotations

import logging
from pathlib import Path

from batchmix.job import CheckedJob
from batchmix.remote.objects import is_remote
from batchmix.store.delta_table import check_table, commit
from batchmix.store.publishing import check_target, publish
from batchmix.store.remote_publishing import check_remote_target, publish_remotely
from batchmix.store.view import View

_logger = logging.getLogger(__name__)


def check(job: CheckedJob) -> None:
    """Raise `JobError` if the results can't be delivered to where the job says."""
    target = job.output.publish
    if target and is_remote(target):
        check_remote_target(target, job.name, rehearsal=job.provider.rehearsal)
    elif target:
        check_target(Path(target), job.name, rehearsal=job.provider.rehearsal)
    if job.output.delta_table:
        check_table(Path(job.output.delta_table), rehearsal=job.provider.rehearsal)


def deliver(job: CheckedJob, view: View) -> None:
    """Deliver the results if the run is whole. A start that finds nothing else to do repeats what a kill left undone.

    Raises `JobError`, `RunError`, `NoSpace` and `DiskError`.
    """
    if not view.is_whole:
        return
    if job.output.delta_table:
        commit(view, Path(job.output.delta_table))
    if target := job.output.publish:
        is_published = publish_remotely(view, target) if is_remote(target) else publish(view, Path(target))
        if not is_published:
            _logger.warning("%s: stays as it is, since it has the results of a later night", target)
