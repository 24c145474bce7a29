"""Reads the dates and times of RFC 3339 as the numbers that Arrow stores."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY = _EPOCH.toordinal()
_MICROSECOND = timedelta(microseconds=1)
_FIRST, _LAST = ((end.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND for end in (datetime.min, datetime.max))
"""The first and the last microsecond of the years 1 to 9999, which Python and most programs can represent."""


def days_since_1970(text: str) -> int | None:
    """Return a date as the number of days from 1970-01-01. None for the year 0, and for text that is no date."""
    try:
        return date.fromisoformat(text).toordinal() - _EPOCH_DAY
    except ValueError:
        return None


def microseconds_since_1970(text: str) -> int | None:
    """Return a date-time as the number of microseconds from 1970 in UTC.

    Further digits are cut off. A leap second is the second after it, as in Unix time. None outside the years 1 to 9999,
    and for text that is no date-time.
    """
    try:
        since = datetime.fromisoformat(text.upper()) - _EPOCH
    except (ValueError, TypeError):
        return None if text[17:19] != "60" else _leap_second(text)
    time = since // _MICROSECOND
    return time if _FIRST <= time <= _LAST else None


def _leap_second(text: str) -> int | None:
    before = microseconds_since_1970(f"{text[:17]}59{text[19:]}")
    return None if before is None or before + 1_000_000 > _LAST else before + 1_000_000
