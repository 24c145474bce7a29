"""Which run is due: a year of scheduled runs, with kills of the scheduler."""

from __future__ import annotations

import datetime
import random
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import msgspec
import pytest

from batchmix.errors import RunError
from batchmix.job.cron import Schedule
from batchmix.schedule.state import RunHistory, open_state

UTC = datetime.UTC
START = datetime.datetime(2026, 1, 1, 12, tzinfo=UTC)
HOUR = datetime.timedelta(hours=1)
MINUTE = datetime.timedelta(minutes=1)
NIGHTLY = Schedule("30 2 * * *", "Europe/Berlin")


class Disk:
    """A scheduler that stores every change before the next, and can be killed between any two."""

    def __init__(self, now: datetime.datetime) -> None:
        self.saved = msgspec.json.encode(RunHistory(now))
        self.ran: list[datetime.date] = []
        """The scheduled dates of the runs that finished by themselves, in order."""

    def work(self, schedule: Schedule, now: datetime.datetime, kill: int) -> bool:
        """Run what is due, as the runner does; return False if it was killed at the `kill`-th step."""
        history = msgspec.json.decode(self.saved, type=RunHistory)
        steps = 0
        while (due := history.due(schedule, now)) is not None:
            run = history.begin(due, str(due.date()), now)
            self.saved = msgspec.json.encode(history)
            if kill == (steps := steps + 1):
                return False
            self.ran.append(run.date)
            if kill == (steps := steps + 1):
                self.ran.pop()  # the run is resumed, sends nothing again, and finishes a second time
                return False
            run.record_exit(0, now, stopping=False)
            self.saved = msgspec.json.encode(history)
            if kill == (steps := steps + 1):
                return False
        return True


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe"])
@pytest.mark.parametrize("cron", ["30 2 * * *", "15 2 * * *", "45 1 * * *", "0 0 * * *"])
def test_each_scheduled_run_of_a_year_runs_once_however_often_the_scheduler_is_killed(cron: str, zone: str) -> None:
    """It checks at random times, is killed at any step, and is restarted within minutes."""
    rng, schedule, now = random.Random(cron + zone), Schedule(cron, zone), START
    disk = Disk(now)
    while now < START + datetime.timedelta(days=365):
        while not disk.work(schedule, now, rng.randrange(8)):
            now += rng.random() * 20 * MINUTE
        now += rng.random() * 10 * HOUR
    disk.work(schedule, now, 0)
    first = schedule.following(START)
    assert first is not None
    last = schedule.latest(now)
    assert last is not None
    days = (last.date() - first.date()).days + 1
    assert disk.ran == [first.date() + datetime.timedelta(days=number) for number in range(days)]
    assert days >= 365


@hypothesis.given(st.lists(st.tuples(st.integers(1, 14 * 24 * 60), st.integers(0, 4)), min_size=1, max_size=60))
def test_no_scheduled_run_runs_twice_and_the_latest_always_runs(steps: list[tuple[int, int]]) -> None:
    """Also after days without a scheduler, or after repeated kills over several scheduled runs."""
    now = START
    disk = Disk(now)
    for minutes, kill in steps:
        now += minutes * MINUTE
        disk.work(NIGHTLY, now, kill)
    disk.work(NIGHTLY, now, 0)
    assert disk.ran == sorted(set(disk.ran))
    latest = NIGHTLY.latest(now)
    assert latest is not None
    assert disk.ran[-1:] == ([latest.date()] if latest > START else [])


def test_a_missed_week_is_made_up_once_for_its_latest_date() -> None:
    disk = Disk(START)
    disk.work(NIGHTLY, START + 24 * HOUR, 0)
    disk.work(NIGHTLY, START + 8 * 24 * HOUR, 0)
    assert [run.isoformat() for run in disk.ran] == ["2026-01-02", "2026-01-09"]


def test_an_unfinished_run_is_finished_before_the_latest_is_made_up() -> None:
    disk = Disk(START)
    disk.work(NIGHTLY, START + 24 * HOUR, kill=1)
    disk.work(NIGHTLY, START + 8 * 24 * HOUR, 0)
    assert [run.isoformat() for run in disk.ran] == ["2026-01-02", "2026-01-09"]


def test_a_clock_that_goes_back_repeats_no_scheduled_run() -> None:
    disk = Disk(START)
    disk.work(NIGHTLY, START + 24 * HOUR, 0)
    disk.work(NIGHTLY, START + 3 * HOUR, 0)
    disk.work(NIGHTLY, START + 25 * HOUR, 0)
    assert [run.isoformat() for run in disk.ran] == ["2026-01-02"]
    history = msgspec.json.decode(disk.saved, type=RunHistory)
    following = history.following(NIGHTLY, START)
    assert following is not None
    assert following.date().isoformat() == "2026-01-03"


@pytest.mark.parametrize("code", [0, 1, 2, 3])
def test_a_run_that_exits_by_itself_finishes_its_scheduled_run(code: int) -> None:
    history = RunHistory(START)
    run = history.begin(START, "", START)
    run.record_exit(code, START, stopping=False)
    assert (run.ended_at, run.exit_code, history.open) == (START, code, None)


def test_a_run_that_keeps_dying_is_given_up_after_three_times_unless_it_was_stopped() -> None:
    history = RunHistory(START)
    run = history.begin(START, "", START)
    for _ in range(5):
        run.record_exit(143, START, stopping=True)
        run.record_exit(-15, START, stopping=True)
    for _ in range(2):
        run.record_exit(-9, START, stopping=False)
        assert history.open is run
    run.record_exit(-9, START, stopping=False)
    assert (run.ended_at, run.exit_code) == (START, 137)


def test_the_history_keeps_the_last_thousand_scheduled_runs() -> None:
    history, now = RunHistory(START), START
    for number in range(1_003):
        now = START + number * MINUTE
        history.begin(now, "", now).record_exit(0, now, stopping=False)
    assert len(history.runs) == 1_000
    assert history.runs[-1].due == now


def test_a_run_that_was_stopped_before_it_had_begun_is_tried_again() -> None:
    """Until it has begun, or until the next run is due."""
    history = RunHistory(START)
    run = history.begin(START, "runs/a", START)
    run.record_exit(3, START + HOUR, stopping=False, can_retry=True)
    assert (history.open, run.exit_code, run.deaths) == (run, 3, 0)
    run.record_exit(3, START + 24 * HOUR, stopping=False)
    assert history.open is None


def test_a_clock_that_was_ahead_for_a_moment_stops_no_job() -> None:
    """It ran two years too early, and its scheduler began then. Nothing that was run is run again."""
    disk = Disk(START)
    disk.work(NIGHTLY, START + 24 * HOUR, 0)
    disk.work(NIGHTLY, START + 2 * 365 * 24 * HOUR, 0)
    history = msgspec.json.decode(disk.saved, type=RunHistory)
    assert history.ahead(START + 30 * HOUR) == history.runs[-1].due
    for hours in range(30, 100, 3):
        disk.work(NIGHTLY, START + hours * HOUR, 0)
    assert [run.isoformat() for run in disk.ran] == [
        "2026-01-02",
        "2028-01-01",
        "2026-01-03",
        "2026-01-04",
        "2026-01-05",
    ]
    disk.work(NIGHTLY, START + 2 * 365 * 24 * HOUR, 0)
    assert disk.ran[5:] == []


def test_a_history_that_begins_in_the_future_begins_now() -> None:
    history = RunHistory(START + 900 * HOUR)
    assert history.set_right(START, START + HOUR)
    assert not history.set_right(START, START + HOUR)
    assert history.ahead(START + HOUR) is None
    assert history.due(NIGHTLY, START + 24 * HOUR) is not None


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"broken', b'{"since": "\xff"}', b'{"since": 3}', b'{"x": ' + b"[" * 100_000]
)
def test_a_damaged_state_says_what_to_do_and_stays_as_it_is(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "nightly.json"
    path.write_bytes(content)
    since = datetime.datetime(2026, 3, 10, tzinfo=datetime.UTC)
    damaged = r"nightly.json: can't be read, since it is damaged \(.+\); move it away, and"
    with pytest.raises(RunError, match=damaged), open_state(tmp_path, "nightly", since):
        pass
    assert path.read_bytes() == content
    path.rename(tmp_path / "damaged")
    with open_state(tmp_path, "nightly", since) as state:
        assert (state.history.since, state.history.runs) == (since, [])
    path.write_bytes(path.read_bytes().replace(b'"version": 1', b'"version": 9'))
    other = "another version of batchmix; use that one, or move it away"
    with pytest.raises(RunError, match=other), open_state(tmp_path, "nightly", since):
        pass
