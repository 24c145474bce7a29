"""Formats integers as ISO 8601 dates and times, including years and nanoseconds that Python's types can't represent."""

from __future__ import annotations

import datetime
import re
import zoneinfo
from collections.abc import Callable
from functools import lru_cache

PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
"""Units per second."""
_DAY_S = 86_400
_ERA_DAYS = 146_097
"""Days in 400 years."""
_FROM_MARCH_0000 = 719_468
"""Days from 0000-03-01 to 1970-01-01."""
_PYTHON_S = (-62_135_510_400, 253_402_214_400)
"""The first and last Unix time that Python can represent in any time zone."""
_OFFSET = re.compile(r"([+-])(\d\d):?(\d\d)")


def date_text(days: int) -> str:
    """Return the date that is `days` after 1970-01-01. Years before 0 or after 9999 have a sign."""
    # Howard Hinnant, chrono-Compatible Low-Level Date Algorithms: civil_from_days.
    era, day = divmod(days + _FROM_MARCH_0000, _ERA_DAYS)
    year = (day - day // 1460 + day // 36_524 - day // 146_096) // 365
    day -= 365 * year + year // 4 - year // 100
    month = (5 * day + 2) // 153
    year += era * 400 + (month >= 10)
    shown = f"{year:04}" if 0 <= year <= 9999 else f"{year:+05}"
    return f"{shown}-{(month + 2) % 12 + 1:02}-{day - (153 * month + 2) // 5 + 1:02}"


def days_of(year: int, month: int, day: int) -> int:
    """Return the number of days from 1970-01-01 to a date, which must be valid."""
    year -= month <= 2
    era, of_era = divmod(year, 400)
    of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return era * _ERA_DAYS + of_era * 365 + of_era // 4 - of_era // 100 + of_year - _FROM_MARCH_0000


def time_text(count: int, unit: str) -> str:
    """Return a time of day that is `count` units after midnight."""
    seconds, rest = divmod(count, PER_SECOND[unit])
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour:02}:{minute:02}:{second:02}{_fraction(rest, unit)}"


def timestamp_text(count: int, unit: str, offset_of: Callable[[int], int] | None) -> str:
    """Return a timestamp that is `count` units after 1970.

    `offset_of` comes from `offsets`, or is None without a time zone.
    """
    seconds, rest = divmod(count, PER_SECOND[unit])
    offset = offset_of(seconds) if offset_of else 0
    days, second = divmod(seconds + offset, _DAY_S)
    text = f"{date_text(days)}T{time_text(second, 's')}{_fraction(rest, unit)}"
    if offset_of is None:
        return text
    return text + (f"{'-' if offset < 0 else '+'}{time_text(abs(offset), 's')[:5]}" if offset else "Z")


def duration_text(count: int, unit: str) -> str:
    """Return a duration in days and seconds, such as `P1DT3600.5S`."""
    seconds, rest = divmod(abs(count), PER_SECOND[unit])
    days, second = divmod(seconds, _DAY_S)
    time = f"T{second}{_fraction(rest, unit).rstrip('0')}S" if second or rest else ""
    return f"{'-' if count < 0 else ''}P{f'{days}D' if days or not time else ''}{time}"


def interval_text(months: int, days: int, nanoseconds: int) -> str:
    """Return an interval of months, days and nanoseconds, such as `P1M-2DT0.5S`."""
    seconds, rest = divmod(abs(nanoseconds), PER_SECOND["ns"])
    time = f"T{'-' if nanoseconds < 0 else ''}{seconds}{_fraction(rest, 'ns').rstrip('0')}S" if nanoseconds else ""
    return f"P{f'{months}M' if months else ''}{f'{days}D' if days or not (months or time) else ''}{time}"


def _fraction(rest: int, unit: str) -> str:
    """Return a fraction of a second with 6 or 9 decimals. Empty for a whole second."""
    if not rest:
        return ""
    micros, nanos = divmod(rest * PER_SECOND["ns"] // PER_SECOND[unit], 1000)
    return f".{micros:06}{nanos:03}" if nanos else f".{micros:06}"


@lru_cache(maxsize=64)
def offsets(zone: str) -> Callable[[int], int]:
    """Return a function that takes a Unix time and returns a zone's offset from UTC in seconds.

    The offset is 0 if the zone is unknown, or if the offset is not a whole number of minutes.
    """
    if match := _OFFSET.fullmatch(zone):
        fixed = (int(match[2]) * 60 + int(match[3])) * (-60 if match[1] == "-" else 60)
        return lambda _: fixed
    try:
        info = zoneinfo.ZoneInfo(zone)
    except (OSError, ValueError, LookupError):
        return lambda _: 0

    def offset_of(second: int) -> int:
        if not _PYTHON_S[0] <= second <= _PYTHON_S[1]:
            return 0
        offset = datetime.datetime.fromtimestamp(second, info).utcoffset() or datetime.timedelta()
        whole = int(offset.total_seconds())
        return 0 if whole % 60 else whole

    return offset_of
