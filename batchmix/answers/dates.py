"""Reads the dates and times of RFC 3339 as the numbers that Arrow stores."""

from __future__ import annotations

import re

from batchmix.formats.iso_times import days_of

_DATE = re.compile(r"(\d{4})-(\d\d)-(\d\d)", re.ASCII)
_DATE_TIME = re.compile(
    rf"{_DATE.pattern}T(\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:Z|([+-])(\d\d):(\d\d))", re.ASCII | re.IGNORECASE
)
_DAYS = range(days_of(1, 1, 1), days_of(9999, 12, 31) + 1)
"""The dates that Python's types, and most programs, can represent."""
_DAY_US = 86_400_000_000


def days_since_1970(text: str) -> int | None:
    """Return a date as the number of days from 1970-01-01. None outside the years 1 to 9999, and for other text."""
    match = _DATE.fullmatch(text)
    days = days_of(int(match[1]), int(match[2]), int(match[3])) if match else None
    return days if days in _DAYS else None


def microseconds_since_1970(text: str) -> int | None:
    """Return a date-time as the number of microseconds from 1970 in UTC. None as for dates.

    Further digits are cut off. A leap second is the second after it, as in Unix time.
    """
    match = _DATE_TIME.fullmatch(text)
    if not match:
        return None
    year, month, day, hour, minute, second = map(int, match.groups()[:6])
    offset = (int(match[9]) * 60 + int(match[10])) * (-60 if match[8] == "-" else 60) if match[8] else 0
    seconds = days_of(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset
    time = seconds * 1_000_000 + int((match[7] or "")[:6].ljust(6, "0"))
    return time if time // _DAY_US in _DAYS else None
