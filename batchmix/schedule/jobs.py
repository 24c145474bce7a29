"""Reads the jobs to schedule, and checks them, each by itself and against each other, before anything runs."""

from __future__ import annotations

import datetime
import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from batchmix.errors import JobError, UsageError
from batchmix.job import CheckedJob, read_job, single
from batchmix.job.cron import Schedule, due_words, is_address
from batchmix.job.eval_table import named_run
from batchmix.job.secrets import read_secrets

_SAMPLE = datetime.datetime(2001, 2, 3, 4, 5)
_OTHER_DATE = _SAMPLE.replace(day=4)
_OTHER_TIME = _SAMPLE.replace(minute=6)
_CHECKED_TIMES = 400
"""How many scheduled times are checked for folders of their own: more than a year of nights."""


class ScheduledJob(msgspec.Struct, frozen=True):
    """A job with a schedule. Each run reads the job file again, but the schedule is read only once."""

    path: Path
    """The absolute path of the job file."""
    job: CheckedJob
    schedule: Schedule

    @property
    def has_folder_per_run(self) -> bool:
        """Whether each run gets its own run folder, because `output.path` contains `{date}`."""
        return self.folder(_SAMPLE) != self.folder(_OTHER_DATE)

    def folder(self, due: datetime.datetime) -> str:
        """Return the run folder of the run that is due at a time. Raises `JobError` if the file is no job any more."""
        return read_job(self.path, {}, scheduled=due).output.path


def scheduled_jobs(paths: list[Path]) -> list[ScheduledJob]:
    """Read the jobs in these files. Raises `UsageError` if one of them can't be scheduled."""
    jobs = []
    for found in schedulable(paths, environ=None):
        if isinstance(found, UsageError):
            raise found
        jobs.append(found)
    return jobs


def schedulable(paths: list[Path], environ: Mapping[str, str] | None = os.environ) -> list[ScheduledJob | UsageError]:
    """Return the job in each of these files, or the error because of which it can't be scheduled.

    The job's secrets must be in `environ`; None does not look for them. Of two jobs that share a name or a run folder
    neither can be scheduled: which of them is meant to have it is not known.
    """
    found = [_job_or_error(path.absolute(), environ) for path in paths]
    jobs = [one for one in found if isinstance(one, ScheduledJob)]
    names = [one.job.name for one in jobs]
    folders = {id(one): one.folder(_SAMPLE) for one in jobs}
    return [_unless_shared(one, names, folders) if isinstance(one, ScheduledJob) else one for one in found]


def _unless_shared(job: ScheduledJob, names: list[str], folders: Mapping[int, str]) -> ScheduledJob | UsageError:
    if names.count(job.job.name) > 1:
        return JobError(f"{job.path}: {job.job.name!r} is the name of two jobs; give each a name of its own")
    if list(folders.values()).count(folders[id(job)]) > 1:
        return JobError(
            f"{job.path}: output.path: another of these jobs has the same run folder; use {{name}} in the path, or give"
            " each a path of its own"
        )
    return job


def _job_or_error(path: Path, environ: Mapping[str, str] | None) -> ScheduledJob | UsageError:
    try:
        job = _scheduled_job(path)
        if environ is not None:
            read_secrets(job.job.provider, environ)
            address_of(job.schedule, environ)
    except UsageError as error:
        return error
    return job


def _scheduled_job(path: Path) -> ScheduledJob:
    job = single(read_job(path, {}))
    if job.schedule is None:
        raise JobError(f'{path}: has no [schedule]; add one, with cron = "30 2 * * *" and timezone = "Europe/Berlin"')
    if job.input.path == "-":
        raise JobError(f"{path}: input.path: a scheduled job can't read standard input")
    scheduled = ScheduledJob(path, job, job.schedule)
    _check_folders(scheduled)
    _check_root(scheduled)
    return scheduled


def _check_folders(job: ScheduledJob) -> None:
    """Raise `JobError` if two scheduled times have the same folder, although folders are to differ by date."""
    if not job.has_folder_per_run:
        return  # on purpose: each run adds what is new to the same folder
    has_time = job.folder(_SAMPLE) != job.folder(_OTHER_TIME)
    now = datetime.datetime.now(datetime.UTC)
    before, due = "", job.schedule.following(now)
    for _ in range(_CHECKED_TIMES):
        if due is None:
            return
        words = due_words(job.schedule, due, now)
        folder = words["date"] + words["time"] * has_time
        if folder == before:
            hint = "" if has_time else '; add {time} to it, as in "runs/{name}/{date}-{time}"'
            raise JobError(
                f"{job.path}: output.path: the job is due more than once on {words['date']}, and these runs would have"
                f" the same folder{hint}"
            )
        before, due = folder, job.schedule.following(due)


def _check_root(job: ScheduledJob) -> None:
    """Raise `JobError` if runs are to be compared with earlier ones, and these lie where they are not looked for."""
    against = job.job.eval.against if job.job.eval else None
    roots = {Path(job.folder(due)).parent for due in (_SAMPLE, _OTHER_DATE, _OTHER_TIME)}
    if against is not None and named_run(against) is None and len(roots) > 1:
        raise JobError(
            f"{job.path}: output.path: the runs lie in different folders, and eval.against looks for earlier runs only"
            ' beside a run; have {date} and {time} in the last part of the path, as in "runs/{name}/{date}-{time}"'
        )


def address_of(schedule: Schedule, environ: Mapping[str, str]) -> str:
    """Return the address to which `on_finish` posts. Empty if there is none. Raises `JobError`.

    Whoever knows such an address may post to it. So no message shows it.
    """
    if not isinstance(schedule.on_finish, str):
        return ""
    if not schedule.on_finish.startswith("env:"):
        return schedule.on_finish
    name = schedule.on_finish.removeprefix("env:")
    value = environ.get(name, "").strip()
    if not is_address(value):
        raise JobError(
            f"schedule.on_finish: the environment variable {name} must hold an address that begins with https:// or"
            " http:// (its value is not shown)"
        )
    return value
