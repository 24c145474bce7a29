"""Computes when a job is due, from its cron expression and its time zone.

A *scheduled time* is a moment at which a job is due, as a `datetime` in the job's time zone; its date is the
*scheduled date* of the run. As in Debian's cron, a fixed time that daylight saving skips is due right after the clock
change, and one that occurs twice is due the first time only (https://github.com/cuu508/cronsim).
"""

from __future__ import annotations

import datetime
import difflib
import itertools
import re
import zoneinfo
from collections.abc import Iterator
from typing import Literal

import msgspec
from cronsim import CronSim, CronSimError

from batchmix.errors import JobError

_DAY = datetime.timedelta(days=1)
_MINUTE = datetime.timedelta(minutes=1)
_YEAR = 366 * _DAY
_MONTH_S = 365.25 * 86_400 / 12
_COUNTED_TIMES = 400
_ADDRESS = re.compile(r"https?://[^\s/]+\S*", re.IGNORECASE)
_VARIABLE = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]{0,63}")


class CronFields(msgspec.Struct, frozen=True):
    """The values that each field of a cron expression matches, in ascending order. None stands for all values."""

    minutes: tuple[int, ...] | None
    hours: tuple[int, ...] | None
    days: tuple[int, ...] | None
    months: tuple[int, ...] | None
    weekdays: tuple[int, ...] | None
    """0 is Sunday."""
    either_day: bool
    """Whether a date that matches only one of `days` and `weekdays` is due, if both are given."""


class Schedule(msgspec.Struct, frozen=True):
    """The job file's `[schedule]`."""

    cron: str
    """Minute, hour, day of the month, month, day of the week."""
    timezone: str = "UTC"
    on_finish: tuple[str, ...] | str = ()
    """A command with its arguments, which gets a message about each run on its standard input; or the URL to which the
    message is posted, or `env:NAME` of the variable that holds the URL. Empty for no message."""
    on_finish_when: Literal["always", "failed"] = "always"
    """After which runs there is a message: after each, or only if the exit code is not 0."""
    on_finish_format: Literal["json", "slack"] = "json"
    """The form of the message: all that there is to say as JSON, or a text for people as Slack wants it."""

    @property
    def zone(self) -> zoneinfo.ZoneInfo:
        """The time zone of `cron`."""
        return zoneinfo.ZoneInfo(self.timezone)

    def check(self) -> None:
        """Raise `JobError` if the schedule is not valid. The message names the setting."""
        _check_timezone(self.timezone)
        shown = f"schedule.cron: {self.cron!r}"
        if len(self.cron.split()) != 5:
            raise JobError(f'{shown} must have five fields: minute hour day month weekday, such as "30 2 * * *"')
        try:
            due = self.following(datetime.datetime.now(datetime.UTC))
        except (CronSimError, ValueError) as error:
            raise JobError(f"{shown}: {str(error).lower()}") from None
        if due is None:
            raise JobError(f"{shown} never comes")
        if isinstance(self.on_finish, str):
            if self.on_finish and not (is_address(self.on_finish) or _VARIABLE.fullmatch(self.on_finish)):
                raise JobError(
                    'schedule.on_finish: must be a command as a list, such as ["notify", "--quiet"], an address that'
                    " begins with https:// or http://, or env:NAME of the variable that holds one (the value is not"
                    " shown in case it is a secret)"
                )
        elif self.on_finish and not self.on_finish[0].strip():
            raise JobError(
                'schedule.on_finish: is a list of arguments, the command first, such as ["notify", "--quiet"]'
            )

    def following(self, moment: datetime.datetime) -> datetime.datetime | None:
        """Return the first scheduled time after a moment. None if there is none within fifty years."""
        return next((due for due in self._due_times(moment) if _instant(due) > _instant(moment)), None)

    def latest(self, moment: datetime.datetime) -> datetime.datetime | None:
        """Return the last scheduled time up to a moment. None if there was none in the last fifty years."""
        # cronsim is slow and sometimes wrong when it searches backwards. So it goes back one step only, and the search
        # then runs forward from there.
        before = next(self._due_times(moment - _DAY, reverse=True), None)
        if before is None:
            return None
        times = self._due_times(_instant(before) - _MINUTE)
        *_, latest = None, *itertools.takewhile(lambda due: _instant(due) <= _instant(moment), times)
        return latest

    def runs_per_month(self, now: datetime.datetime) -> float:
        """Return how often the job is due in a month, on average over the coming year."""
        times = [_instant(now)]
        for due in itertools.islice(self._due_times(now), _COUNTED_TIMES):
            if _instant(due) > _instant(now) + _YEAR:
                break
            times.append(_instant(due))
        if len(times) == 1:
            return 12 / _YEAR.days
        whole = _YEAR if len(times) <= _COUNTED_TIMES else times[-1] - times[0]
        return (len(times) - 1) * _MONTH_S / whole.total_seconds()

    def due_at(self, given: datetime.date | None, now: datetime.datetime) -> datetime.datetime:
        """Return the scheduled time that is meant by a date or a time: of a date its last one, else the latest."""
        if isinstance(given, datetime.datetime):
            return given.astimezone(self.zone) if given.tzinfo else given.replace(tzinfo=self.zone)
        if given is None:
            return self.latest(now) or now.astimezone(self.zone)
        midnight = datetime.datetime.combine(given, datetime.time(), self.zone)
        latest = self.latest(midnight + _DAY - _MINUTE)
        return latest if latest and latest.date() == given else midnight

    @property
    def fields(self) -> CronFields | None:
        """The fields of the expression as numbers. None if it uses `L` or `MON#1`, which numbers can't express."""
        parsed = CronSim(self.cron, datetime.datetime.now(datetime.UTC))
        if not all(isinstance(day, int) and day >= 0 for day in (*parsed.days, *parsed.weekdays)):
            return None
        weekdays = {day % 7 for day in parsed.weekdays if isinstance(day, int)}
        return CronFields(
            _listed(parsed.minutes, 60),
            _listed(parsed.hours, 24),
            _listed(parsed.days, 31),
            _listed(parsed.months, 12),
            _listed(weekdays, 7),
            not parsed.day_and,
        )

    def meets_a_skipped_hour(self, since: datetime.datetime) -> bool:
        """Return whether a scheduled time within two years falls into an hour that daylight saving skips."""
        fields, due = self.fields, self.following(since)
        if fields is None or fields.hours is None:
            return False
        while due is not None and _instant(due) < _instant(since) + 730 * _DAY:
            if due.hour not in fields.hours or (fields.minutes is not None and due.minute not in fields.minutes):
                return True
            due = self.following(due)
        return False

    def _due_times(self, moment: datetime.datetime, *, reverse: bool = False) -> Iterator[datetime.datetime]:
        return CronSim(self.cron, moment.astimezone(self.zone), reverse=reverse)


def due_words(schedule: Schedule | None, given: datetime.date | None, now: datetime.datetime) -> dict[str, str]:
    """Return the values of `{date}` and `{time}`: the date and the time at which a run is due.

    `given` is that date, or time; None stands for the last scheduled time. Without a schedule, `{date}` is today's date
    in UTC, and `{time}` has a value only if `given` is a time. An hour that comes twice has a `b` the second time.
    """
    if schedule is None and not isinstance(given, datetime.datetime):
        return {"date": (given or now.astimezone(datetime.UTC)).isoformat()[:10]}
    due = schedule.due_at(given, now) if schedule else given
    if not isinstance(due, datetime.datetime):
        raise TypeError("without a schedule a time was given")
    again = due.fold and due.utcoffset() != due.replace(fold=0).utcoffset()
    return {"date": due.date().isoformat(), "time": f"{due:%H%M}{'b' if again else ''}"}


def is_address(text: str) -> bool:
    """Return whether a text is an address to which messages can be posted."""
    return _ADDRESS.fullmatch(text) is not None


def _listed(numbers: set[int], count: int) -> tuple[int, ...] | None:
    return tuple(sorted(numbers)) if len(numbers) < count else None


def _instant(moment: datetime.datetime) -> datetime.datetime:
    # Python compares two times in the same zone by their wall clock, which is wrong when the clock is set back.
    return moment.astimezone(datetime.UTC)


def _check_timezone(name: str) -> None:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        near = difflib.get_close_matches(name, zoneinfo.available_timezones(), n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else "give a name such as Europe/Berlin"
        raise JobError(f"schedule.timezone: {name!r} is not a time zone: {hint}") from None
