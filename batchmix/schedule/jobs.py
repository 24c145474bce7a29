"""Reads the jobs to schedule, and checks them before anything runs."""

from __future__ import annotations

import datetime
from pathlib import Path

import msgspec

from batchmix.errors import JobError
from batchmix.job import CheckedJob, read_job
from batchmix.job.cron import Schedule


class ScheduledJob(msgspec.Struct, frozen=True):
    """A job with a schedule. Each run reads the job file again, but the schedule is read only once."""

    path: Path
    """The absolute path of the job file."""
    job: CheckedJob
    schedule: Schedule

    @property
    def has_folder_per_run(self) -> bool:
        """Whether each run gets its own run folder, because `output.path` contains `{date}`."""
        return read_job(self.path, {}, scheduled=datetime.date.min).output.path != self.job.output.path


def scheduled_jobs(paths: list[Path]) -> list[ScheduledJob]:
    """Read the jobs in these files. Raises `JobError` if one can't be scheduled, or if two have the same name."""
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
        raise JobError(f"{path}: input.path: a scheduled job can't read standard input")
    return ScheduledJob(path, job, job.schedule)
