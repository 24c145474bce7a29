"""The jobs that are to be scheduled, checked before the first night."""

from __future__ import annotations

import datetime
from pathlib import Path

import msgspec

from batchmix.errors import JobError
from batchmix.job import Job, read_job
from batchmix.job.cron import Schedule


class ScheduledJob(msgspec.Struct, frozen=True):
    """A job with its file, which each night reads anew, and its schedule, which holds for the scheduler's life."""

    path: Path
    """Absolute."""
    job: Job
    schedule: Schedule

    @property
    def folder_for_each_night(self) -> bool:
        """Whether `output.path` has a `{date}`; else each night goes on in the same folder."""
        return read_job(self.path, {}, scheduled=datetime.date.min).output.path != self.job.output.path


def scheduled_jobs(paths: list[Path]) -> list[ScheduledJob]:
    """Return the jobs of these files. Raises `JobError` where one could not run by itself."""
    jobs = [_scheduled_job(path.absolute()) for path in paths]
    names = [scheduled.job.name for scheduled in jobs]
    for name in names:
        if names.count(name) > 1:
            raise JobError(f"{name!r} is the name of two jobs; give each a name of its own")
    return jobs


def _scheduled_job(path: Path) -> ScheduledJob:
    job = read_job(path, {})
    if job.schedule is None:
        raise JobError(f'{path}: has no [schedule]; add one, with cron = "30 2 * * *" and timezone = "Europe/Berlin"')
    if job.input.path == "-":
        raise JobError(f"{path}: input.path: a job that runs by itself can't read standard input")
    return ScheduledJob(path, job, job.schedule)
