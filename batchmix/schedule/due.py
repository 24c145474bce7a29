"""Which night of a job is to be run now: pure logic between what has been and the time.

A night that was begun is ended before another begins. Of nights that were missed, only the latest is made up. A night
is over when its run ended by itself, or died three times without anyone's doing. A run that was stopped before it had
begun, as by a full disk, is tried again until it has, or the next night is due.
"""

from __future__ import annotations

import datetime

import msgspec

from batchmix.job.cron import Schedule

VERSION = 1
_FINAL = frozenset({0, 1, 2, 3})
"""Exit codes of a run that ended by itself; those above 127, and below 0, are of a signal."""
STOPPED = 3
"""The exit code of a run that was stopped early."""
_MOST_DEATHS = 3
_KEPT = 1_000


class Night(msgspec.Struct):
    """One night of a job, as the state file tells of it."""

    night: datetime.date
    due: datetime.datetime
    folder: str
    """The run folder; empty where the job file could not be read."""
    started_at: datetime.datetime
    starts: int = 0
    deaths: int = 0
    """How often the run was ended by a signal while the scheduler lived and did not stop."""
    exit_code: int | None = None
    """Of the last start that ended; of a signal, 128 and its number."""
    ended_at: datetime.datetime | None = None
    """None until the night is over."""
    on_finish: str | None = None
    """How the command ended that was told: `ok`, a reason, or empty where none is to be told; None until then."""


class History(msgspec.Struct):
    """What was of a job: its nights in order, the last one perhaps still open."""

    since: datetime.datetime
    """Nights up to here are nobody's business."""
    nights: list[Night] = []
    version: int = VERSION

    @property
    def open(self) -> Night | None:
        """The night that was begun and is not over."""
        return self.nights[-1] if self.nights and self.nights[-1].ended_at is None else None

    def due(self, schedule: Schedule, now: datetime.datetime) -> datetime.datetime | None:
        """Return when the night was due that is to be run now, or None."""
        if self.open:
            return self.open.due
        latest = schedule.latest(now)
        return latest if latest and _utc(latest) > self._through else None

    def following(self, schedule: Schedule, now: datetime.datetime) -> datetime.datetime | None:
        """Return when a night will be due next."""
        return schedule.following(max(_utc(now), self._through))

    def begin(self, due: datetime.datetime, folder: str, now: datetime.datetime) -> Night:
        """Begin a night, or go on with the open one."""
        night = self.open
        if night is None:
            night = Night(due.date(), due, folder, now)
            self.nights = [*self.nights[1 - _KEPT :], night]
        night.starts += 1
        return night

    @property
    def _through(self) -> datetime.datetime:
        return max(_utc(self.since), _utc(self.nights[-1].due)) if self.nights else _utc(self.since)


def end(night: Night, code: int, now: datetime.datetime, *, stopping: bool, again: bool = False) -> None:
    """Note how a start of a night ended, by its return code as `subprocess` gives it.

    `again`: there is no run yet, and time to try again.
    """
    night.exit_code = code if code >= 0 else 128 - code
    if night.exit_code == STOPPED and again:
        return
    if night.exit_code not in _FINAL and not stopping:
        night.deaths += 1
    if night.exit_code in _FINAL or night.deaths >= _MOST_DEATHS:
        night.ended_at = now


def _utc(moment: datetime.datetime) -> datetime.datetime:
    return moment.astimezone(datetime.UTC)
