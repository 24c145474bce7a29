"""The units for other schedulers, checked with those schedulers."""

from __future__ import annotations

import datetime
import json
import re
import shlex
import shutil
import subprocess
import sys
import zoneinfo
from pathlib import Path

import pytest

from batchmix.errors import JobError
from batchmix.job.cron import Schedule
from batchmix.schedule.jobs import ScheduledJob, scheduled_jobs
from batchmix.schedule.units import UnitFormat, UnitPaths, unit, unit_name

SYSTEMD = shutil.which("systemd-analyze")
needs_systemd = pytest.mark.skipif(SYSTEMD is None, reason="systemd-analyze is not installed")
AWKWARD = 'a "b" $HOME %h 100% it\'s $(c)'


def scheduled(
    root: Path, cron: str = "30 2 * * *", zone: str = "UTC", name: str = "nightly", more: str = ""
) -> ScheduledJob:
    root.mkdir(exist_ok=True)
    (root / "rows.jsonl").write_text('{"prompt": "hello"}\n')
    path = root / "job.toml"
    path.write_text(
        f"name = {json.dumps(name)}\nmodel = 'm'\n[input]\npath = 'rows.jsonl'\n"
        f"[schedule]\ncron = {json.dumps(cron)}\ntimezone = {json.dumps(zone)}\n{more}"
    )
    return scheduled_jobs([path])[0]


def paths(root: Path) -> UnitPaths:
    return UnitPaths(root, root / "runs/schedule", root / "no localtime, so UTC")


def systemd_files(text: str) -> dict[str, str]:
    parts = re.split(r"^# (\S+\.(?:service|timer))\n", text, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


@needs_systemd
@pytest.mark.parametrize("folder", ["plain", AWKWARD])
@pytest.mark.parametrize("cron", ["30 2 * * *", "*/20 1-3 1,15 * MON-FRI", "0 4 1 */2 *", "5 0 * * SUN,7"])
def test_systemd_accepts_the_units(cron: str, folder: str, tmp_path: Path) -> None:
    root = tmp_path / folder
    job = scheduled(root, cron, "Europe/Berlin")
    files = systemd_files(unit(UnitFormat.SYSTEMD, job, paths(root)))
    assert sorted(files) == ["batchmix-nightly.service", "batchmix-nightly.timer"]
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert SYSTEMD is not None
    done = subprocess.run(
        [SYSTEMD, "verify", "--man=no", *(str(tmp_path / name) for name in files)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, [line for line in done.stderr.splitlines() if "batchmix" in line]) == (0, [])


@needs_systemd
@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"])
@pytest.mark.parametrize(
    "cron", ["30 2 * * *", "15 2 * * *", "0 4 13 * FRI", "0 4 */2 * MON", "45 1 * * 1-5", "0 5 29 2 *"]
)
def test_systemds_calendar_covers_every_scheduled_time_within_the_hour(cron: str, zone: str, tmp_path: Path) -> None:
    """Over two years with clock changes; a call for which nothing is due does nothing."""
    job = scheduled(tmp_path, cron, zone)
    lines = re.findall(r"^OnCalendar=(.*)$", unit(UnitFormat.SYSTEMD, job, paths(tmp_path)), flags=re.MULTILINE)
    start = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.UTC)
    until = start + datetime.timedelta(days=730)
    due, times = job.schedule.following(start), []
    while due is not None and due.astimezone(datetime.UTC) < until:
        times.append(due.astimezone(datetime.UTC))
        due = job.schedule.following(due)
    most = 2 * len(times) + 4
    calls = sorted(call for line in lines for call in _elapses(line, start, until, most + 1))
    late = [time for time in times if not any(0 <= (call - time).total_seconds() <= 3600 for call in calls)]
    assert late == []
    assert len(calls) <= most


def _elapses(line: str, start: datetime.datetime, until: datetime.datetime, count: int) -> list[datetime.datetime]:
    """Return the first so many times of a calendar, up to a time. systemd takes long for those of the next centuries."""
    assert SYSTEMD is not None
    done = subprocess.run(
        [SYSTEMD, "calendar", f"--iterations={count}", f"--base-time={start:%Y-%m-%d %H:%M:%S} UTC", line],
        capture_output=True, text=True, check=True, env={"TZ": "UTC", "LANG": "C"},
    )  # fmt: skip
    stamps = re.findall(r"(?:Next elapse|Iter\. #\d+): \w+ (\S+ \S+) UTC", done.stdout)
    found = [datetime.datetime.fromisoformat(stamp).replace(tzinfo=datetime.UTC) for stamp in stamps]
    return [call for call in found if call < until]


def test_quoted_systemd_arguments_are_read_back_unchanged(tmp_path: Path) -> None:
    root = tmp_path / AWKWARD
    text = systemd_files(unit(UnitFormat.SYSTEMD, scheduled(root), paths(root)))["batchmix-nightly.service"]
    [line] = re.findall(r"^ExecStart=(.*)$", text, flags=re.MULTILINE)
    text = [
        word.replace('\\"', '"').replace("%%", "%").replace("$$", "$")
        for word in re.findall(r'"((?:[^"\\]|\\.)*)"', line)
    ]
    assert text == _expected(root)


@pytest.mark.parametrize("folder", ["plain", AWKWARD])
def test_crons_line_calls_the_program_in_its_folder(folder: str, tmp_path: Path) -> None:
    root = tmp_path / folder
    line = unit(UnitFormat.CRON, scheduled(root, "*/5 2 * JAN MON-FRI"), paths(root)).splitlines()[-1]
    assert not re.search(r"(?<!\\)%", line)
    *when, command = line.split(maxsplit=5)
    assert when == ["*/5", "2", "*", "1", "1,2,3,4,5"]
    assert shlex.split(command.replace("\\%", "%")) == ["cd", str(root), "&&", *_expected(root)]


def _expected(root: Path) -> list[str]:
    call = [sys.executable, "-P", "-m", "batchmix", "schedule", str(root / "job.toml")]
    return [*call, "--once", "--state", str(root / "runs/schedule")]


@pytest.mark.parametrize("host", ["Etc/UTC", "Europe/London", "Europe/Berlin", "Africa/Abidjan"])
def test_cron_is_refused_if_the_machine_has_another_time_zone(host: str, tmp_path: Path) -> None:
    """The clock counts, not the name: Abidjan's time is UTC."""
    localtime = next(folder for folder in map(Path, zoneinfo.TZPATH) if (folder / host).exists()) / host
    job, here = scheduled(tmp_path, zone="UTC"), UnitPaths(tmp_path, tmp_path / "state", localtime)
    if host in {"Etc/UTC", "Africa/Abidjan"}:
        assert unit(UnitFormat.CRON, job, here)
    else:
        with pytest.raises(JobError, match=r"schedule\.timezone.*this machine's time"):
            unit(UnitFormat.CRON, job, here)


def test_the_kubernetes_unit_has_the_time_zone_and_the_names_of_the_secrets(tmp_path: Path) -> None:
    job = scheduled(
        tmp_path, "30 3 * * SUN", "America/New_York", more='[provider]\nheaders = {"APP-Code" = "env:CODE"}\n'
    )
    manifest = json.loads(unit(UnitFormat.KUBERNETES, job, paths(tmp_path)))
    spec = manifest["spec"]
    assert (manifest["metadata"]["name"], spec["schedule"], spec["timeZone"], spec["concurrencyPolicy"]) == (
        "batchmix-nightly", "30 3 * * 0", "America/New_York", "Forbid",
    )  # fmt: skip
    [container] = spec["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert container["args"] == ["job.toml", "--once", "--state", "runs/schedule"]
    assert [variable["name"] for variable in container["env"]] == ["AIHUBMIX_API_KEY", "CODE"]


@pytest.mark.parametrize(
    ("unit_format", "cron", "zone", "text"),
    [
        (UnitFormat.SYSTEMD, "0 0 L * *", "UTC", "nothing like '0 0 L * *'"),
        (UnitFormat.CRON, "0 0 * * MON#1", "UTC", "nothing like"),
        (UnitFormat.KUBERNETES, "0 0 */2 * MON", "UTC", "only where both do"),
        (UnitFormat.SYSTEMD, "15 23 * * *", "America/Nuuk", "daylight saving skips"),
    ],
)
def test_a_schedule_that_another_scheduler_cannot_express_is_refused(
    unit_format: UnitFormat, cron: str, zone: str, text: str, tmp_path: Path
) -> None:
    with pytest.raises(JobError, match=re.escape(text)):
        unit(unit_format, scheduled(tmp_path, cron, zone), paths(tmp_path))


@pytest.mark.parametrize("folder", ["new\nline", "back\\slash", "bell\x07"])
@pytest.mark.parametrize("unit_format", UnitFormat)
def test_a_path_that_no_unit_can_contain_is_refused(unit_format: UnitFormat, folder: str, tmp_path: Path) -> None:
    root = tmp_path / folder
    with pytest.raises(JobError, match="control characters or backslashes"):
        unit(unit_format, scheduled(root), paths(root))


def test_different_job_names_give_different_unit_names() -> None:
    names = ["nightly", "Nightly", "nightly.", "日本", "日本語", "x" * 200, "x" * 199, "%h"]
    units_named = [unit_name(name) for name in names]
    assert len(set(units_named)) == len(names)
    assert all(re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,50}[a-z0-9])?", name) for name in units_named)


def test_a_scheduled_time_in_a_skipped_hour_is_covered() -> None:
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    seen = {
        zone: Schedule("30 2 * * *", zone).meets_a_skipped_hour(start)
        for zone in ("Europe/Berlin", "UTC", "Asia/Tokyo")
    }
    assert seen == {"Europe/Berlin": True, "UTC": False, "Asia/Tokyo": False}
    assert not Schedule("30 4 * * *", "Europe/Berlin").meets_a_skipped_hour(start)
