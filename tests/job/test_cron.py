"""When jobs are due: a whole year, minute by minute, including clock changes."""

from __future__ import annotations

import datetime
import zoneinfo
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import pytest

from batchmix.errors import JobError
from batchmix.job import read_job
from batchmix.job.cron import Schedule, due_words

UTC = datetime.UTC
ZONES = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"]
YEAR = datetime.datetime(2026, 1, 1, 12, tzinfo=UTC), datetime.datetime(2027, 1, 1, 12, tzinfo=UTC)


def due_times(schedule: Schedule, since: datetime.datetime, until: datetime.datetime) -> Iterator[datetime.datetime]:
    due = schedule.following(since)
    while due is not None and due.astimezone(UTC) <= until:
        yield due
        due = schedule.following(due)


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("cron", ["30 2 * * *", "15 2 * * *", "45 1 * * *", "0 0 * * *", "59 23 * * *"])
def test_each_date_of_a_year_has_one_scheduled_time(cron: str, zone: str) -> None:
    """Also if an hour is skipped or repeated, or only half of it is."""
    dates = Counter(due.date() for due in due_times(Schedule(cron, zone), *YEAR))
    first = min(dates)
    assert dates == Counter(first + datetime.timedelta(days=number) for number in range(365))


@pytest.mark.parametrize(
    ("zone", "cron", "date", "instant"),
    [
        (
            "Europe/Berlin",
            "30 2 * * *",
            "2026-03-29",
            "2026-03-29T01:00:00+00:00",
        ),  # skipped: due once the clocks have gone forward
        ("Europe/Berlin", "30 2 * * *", "2026-10-25", "2026-10-25T00:30:00+00:00"),  # repeated: due the first time
        ("America/New_York", "30 2 * * *", "2026-03-08", "2026-03-08T07:00:00+00:00"),
        ("America/New_York", "30 1 * * *", "2026-11-01", "2026-11-01T05:30:00+00:00"),
        (
            "Australia/Lord_Howe",
            "15 2 * * *",
            "2026-10-04",
            "2026-10-03T15:30:00+00:00",
        ),  # a change of only half an hour
        ("Australia/Lord_Howe", "45 1 * * *", "2026-04-05", "2026-04-04T14:45:00+00:00"),
    ],
)
def test_where_the_clocks_change_a_job_is_due_when_debians_cron_runs_it(
    zone: str, cron: str, date: str, instant: str
) -> None:
    found = [due for due in due_times(Schedule(cron, zone), *YEAR) if due.date().isoformat() == date]
    assert [due.astimezone(UTC).isoformat() for due in found] == [instant]


@hypothesis.given(
    zone=st.sampled_from(ZONES),
    cron=st.sampled_from(["30 2 * * *", "15,45 1,2 * * *", "*/20 * * * *", "30 */2 * * *", "0 3 * * MON", "0 0 L * *"]),
    minutes=st.integers(0, 365 * 24 * 60),
    seconds=st.floats(0, 59.999),
)
@hypothesis.settings(max_examples=300)
def test_the_latest_scheduled_time_is_the_one_before_the_following(
    zone: str, cron: str, minutes: int, seconds: float
) -> None:
    schedule = Schedule(cron, zone)
    moment = YEAR[0] + datetime.timedelta(minutes=minutes, seconds=seconds)
    latest, following = schedule.latest(moment), schedule.following(moment)
    assert latest is not None
    assert following is not None
    assert latest.astimezone(UTC) <= moment < following.astimezone(UTC)
    assert schedule.following(latest) == following


@pytest.mark.parametrize("minute", [0, 29, 30, 31, 59, 60, 75, 90, 119, 120])
def test_the_doubled_hour_has_no_second_scheduled_time(minute: int) -> None:
    schedule = Schedule("30 2 * * *", "Europe/Berlin")
    moment = datetime.datetime(2026, 10, 25, 0, 0, tzinfo=UTC) + datetime.timedelta(minutes=minute)
    date = "2026-10-24" if minute < 30 else "2026-10-25"
    assert due_words(schedule, None, moment)["date"] == date


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"cron": "30 2 * *"}, ["schedule.cron", "five fields"]),
        ({"cron": "0 30 2 * * *"}, ["schedule.cron", "five fields"]),
        ({"cron": "@daily"}, ["schedule.cron", "five fields"]),
        ({"cron": "61 2 * * *"}, ["schedule.cron", "minute", "61"]),
        ({"cron": "0 0 30 2 *"}, ["schedule.cron", "day-of-month"]),
        ({"cron": "0 0 * * 1L/2"}, ["schedule.cron", "day-of-week"]),
        ({"cron": "30 2 * * *", "timezone": "Europe/Berln"}, ["schedule.timezone", "did you mean Europe/Berlin"]),
        ({"cron": "30 2 * * *", "timezone": "../etc"}, ["schedule.timezone", "not a time zone"]),
        ({"cron": "30 2 * * *", "timezone": "Europe"}, ["schedule.timezone", "not a time zone"]),
        ({"cron": "30 2 * * *", "timezome": "UTC"}, ["schedule.timezome", "did you mean schedule.timezone"]),
        ({"cron": "30 2 * * *", "on_finish": "notify me"}, ["schedule.on_finish", "a command as a list", "env:NAME"]),
        ({"cron": "30 2 * * *", "on_finish": [" "]}, ["schedule.on_finish", "command"]),
        ({"timezone": "UTC"}, ["schedule", "cron"]),
        ({"cron": 3}, ["schedule.cron", "text"]),
    ],
)
def test_a_wrong_schedule_is_named(table: dict[str, object], words: list[str], tmp_path: Path) -> None:
    with pytest.raises(JobError) as raised:
        read_job(None, {"model": "m", "input": {"path": "rows.jsonl"}, "schedule": table}, {})
    for word in words:
        assert word in str(raised.value)


@hypothesis.settings(max_examples=500)
@hypothesis.given(st.lists(st.text("0123456789*/,-L#MONJAW?x", min_size=1, max_size=6), min_size=5, max_size=5))
def test_nonsense_is_refused_with_a_message(fields: list[str]) -> None:
    schedule = Schedule(" ".join(fields))
    refusal = ""
    try:
        schedule.check()
    except JobError as error:
        refusal = str(error)
    assert "schedule.cron" in refusal if refusal else schedule.following(YEAR[0])


def test_date_is_the_last_scheduled_one_or_today_in_utc_or_the_given_one() -> None:
    now = datetime.datetime(2026, 11, 24, 0, 30, tzinfo=UTC)  # half past one in Berlin
    assert due_words(None, None, now)["date"] == "2026-11-24"
    assert due_words(Schedule("30 2 * * *", "Europe/Berlin"), None, now)["date"] == "2026-11-23"
    assert due_words(Schedule("15 1 * * *", "Europe/Berlin"), None, now)["date"] == "2026-11-24"
    assert due_words(Schedule("0 19 * * *", "America/New_York"), None, now)["date"] == "2026-11-23"
    job = {"model": "m", "input": {"path": "x.jsonl"}, "output": {"path": "runs/{name}/{date}"}}
    read = read_job(None, job, {}, datetime.date(2026, 2, 3))
    assert read.output.path == str(Path.cwd() / "runs/x/2026-02-03")


def test_every_zone_of_the_library_can_be_scheduled() -> None:
    moment = datetime.datetime(2026, 6, 1, tzinfo=UTC)
    for zone in zoneinfo.available_timezones():
        due = Schedule("30 2 * * *", zone).following(moment)
        assert due is not None
        assert 0 < (due - moment).total_seconds() <= 24 * 3600


def test_the_on_finish_command_is_not_stored_in_the_run_folder() -> None:
    """A command may contain a secret, such as the address of a webhook."""
    schedule = {"cron": "30 2 * * *", "on_finish": ["notify", "sk-secret"]}
    job = read_job(None, {"model": "m", "input": {"path": "x.jsonl"}, "schedule": schedule}, {})
    assert job.schedule is not None
    assert job.schedule.on_finish == ("notify", "sk-secret")
    assert job.public()["schedule"] == {
        "cron": "30 2 * * *",
        "timezone": "UTC",
        "on_finish": [],
        "on_finish_when": "always",
        "on_finish_format": "json",
    }
