"""Writes a job's schedule as a *unit* for another scheduler: systemd units, a line for cron, or a Kubernetes CronJob.

Each unit calls `batchmix schedule --once`, which starts a run that is due and resumes a run that was killed. An extra
call does nothing. systemd and Kubernetes leave out a time that daylight saving skips. A job with such a time gets
another call an hour later.
"""

from __future__ import annotations

import datetime
import enum
import hashlib
import json
import re
import shlex
import sys
import zoneinfo
from collections.abc import Callable
from pathlib import Path

import msgspec

from batchmix import __version__
from batchmix.errors import JobError
from batchmix.job.cron import CronFields
from batchmix.schedule.jobs import ScheduledJob

_DAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")
_USER = 1000
"""The user of the image that `jobs/Dockerfile` builds, and the group to which Kubernetes gives the volume."""
_SPARE_S = 30
"""Seconds that a scheduler waits in addition to `timeouts.drain_s` before it kills a run that it has stopped."""


class UnitFormat(enum.Enum):
    """The scheduler that a unit is for."""

    SYSTEMD = "systemd"
    CRON = "cron"
    KUBERNETES = "kubernetes"


class UnitPaths(msgspec.Struct, frozen=True):
    """The absolute paths that a unit needs."""

    folder: Path
    """The working directory."""
    state: Path
    """The folder of the state files."""
    localtime: Path = Path("/etc/localtime")
    """The file from which a cron daemon reads the machine's time zone."""


def unit(unit_format: UnitFormat, job: ScheduledJob, paths: UnitPaths) -> str:
    """Return the unit of a job for a scheduler. Raises `JobError` if the scheduler can't follow the job's schedule."""
    for path in (paths.folder, paths.state, job.path):
        if re.search(r"[\x00-\x1f\x7f\\]", str(path)):
            raise JobError(f"{str(path)!r}: a unit can't have a path with control characters or backslashes")
    write: dict[UnitFormat, Callable[[ScheduledJob, UnitPaths], str]] = {
        UnitFormat.SYSTEMD: _systemd,
        UnitFormat.CRON: _crontab,
        UnitFormat.KUBERNETES: _kubernetes,
    }
    return write[unit_format](job, paths)


def unit_name(name: str) -> str:
    """Return a unit name that all schedulers accept. If this changes the job's name, a digest of it is added."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:30].rstrip("-")
    digest = "" if plain == name else "-" + hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:6]
    return f"batchmix-{plain}{digest}"


def _call(job: ScheduledJob, paths: UnitPaths) -> list[str]:
    call = [sys.executable, "-P", "-m", "batchmix", "schedule", str(job.path)]
    return [*call, "--once", "--state", str(paths.state)]


def _fields(job: ScheduledJob, unit_format: UnitFormat) -> CronFields:
    """Return the cron fields as numbers. If daylight saving may skip a scheduled time, the hour after it is added."""
    fields = job.schedule.fields
    if fields is None:
        raise JobError(
            f"schedule.cron: {unit_format.value} has nothing like {job.schedule.cron!r}; use batchmix schedule"
        )
    if unit_format is UnitFormat.CRON or not job.schedule.meets_a_skipped_hour(datetime.datetime.now(datetime.UTC)):
        return fields
    hours = set(fields.hours or ())
    if 23 in hours:
        raise JobError(f"schedule.cron: {unit_format.value} would leave out the run whose hour daylight saving skips")
    return msgspec.structs.replace(fields, hours=tuple(sorted(hours | {hour + 1 for hour in hours})))


def _variables(job: ScheduledJob) -> list[str]:
    """Return the names of the environment variables that the job reads its secrets from."""
    provider = job.job.provider
    names = [provider.api_key_env] if provider.api_key_env and not provider.rehearsal else []
    address = [job.schedule.on_finish] if isinstance(job.schedule.on_finish, str) else []
    return names + [value[4:] for value in (*provider.headers.values(), *address) if value.startswith("env:")]


def _systemd(job: ScheduledJob, paths: UnitPaths) -> str:
    name, fields = unit_name(job.job.name), _fields(job, UnitFormat.SYSTEMD)
    calendar = "\n".join(f"OnCalendar={line} {job.schedule.timezone}" for line in _calendar(fields))
    secrets = "".join(f"# {variable}=… stands in the EnvironmentFile, mode 0600\n" for variable in _variables(job))
    return f"""\
# {name}.service
[Unit]
Description=batchmix: {_specifiers(_one_line(job.job.name))}

[Service]
Type=oneshot
WorkingDirectory={_specifiers(str(paths.folder))}
{secrets}EnvironmentFile=-%E/batchmix/env
ExecStart={" ".join(_systemd_argument(word) for word in _call(job, paths))}
KillMode=mixed
TimeoutStopSec={job.job.timeouts.drain_s + _SPARE_S:g}
Restart=on-abnormal

# {name}.timer
[Unit]
Description=batchmix: {_specifiers(_one_line(job.job.name))}, {job.schedule.cron} {job.schedule.timezone}

[Timer]
{calendar}
Persistent=true
AccuracySec=1s

[Install]
WantedBy=timers.target
"""


def _calendar(fields: CronFields) -> list[str]:
    """Return `OnCalendar` expressions. Within one, days and weekdays must both match (see systemd.time(7))."""
    time = f"{_joined(fields.hours)}:{_joined(fields.minutes)}:00"
    month, day = _joined(fields.months), _joined(fields.days)
    weekdays = ",".join(_DAYS[number] for number in fields.weekdays) + " " if fields.weekdays else ""
    if fields.either_day and fields.days and fields.weekdays:
        return [f"{weekdays}*-{month}-* {time}", f"*-{month}-{day} {time}"]
    return [f"{weekdays}*-{month}-{day} {time}"]


def _joined(numbers: tuple[int, ...] | None) -> str:
    return "*" if numbers is None else ",".join(map(str, numbers))


def _one_line(text: str) -> str:
    return "".join(char if char.isprintable() and char != "\\" else " " for char in text)


def _specifiers(text: str) -> str:
    return text.replace("%", "%%")


def _systemd_argument(word: str) -> str:
    quoted = word.replace('"', '\\"').replace("$", "$$")
    return _specifiers(f'"{quoted}"')


def _crontab(job: ScheduledJob, paths: UnitPaths) -> str:
    _check_host_zone(job, paths.localtime)
    fields = _fields(job, UnitFormat.CRON)
    numbers = (fields.minutes, fields.hours, fields.days, fields.months, fields.weekdays)
    # A leading star stays, since it has a special meaning for days and daylight saving. All else becomes numbers.
    when = [
        text if text.startswith("*") else _joined(listed)
        for text, listed in zip(job.schedule.cron.split(), numbers, strict=True)
    ]
    command = f"cd {shlex.quote(str(paths.folder))} && {shlex.join(_call(job, paths))}"
    secrets = "".join(
        f"# {variable}=… must be set above: cron does not read your shell's settings\n" for variable in _variables(job)
    )
    return f"# {_one_line(job.job.name)}\n{secrets}{' '.join(when)} {command}".replace("%", "\\%") + "\n"


def _check_host_zone(job: ScheduledJob, localtime: Path) -> None:
    """Raise `JobError` if this machine's time zone differs from the job's at any hour of the next two years."""
    host: datetime.tzinfo = datetime.UTC  # libc uses UTC, too, if there is no such file
    if localtime.exists():
        with localtime.open("rb") as file:
            host = zoneinfo.ZoneInfo.from_file(file)
    now = datetime.datetime.now(datetime.UTC)
    for hour in range(2 * 366 * 24):
        moment = now + datetime.timedelta(hours=hour)
        if moment.astimezone(host).utcoffset() != moment.astimezone(job.schedule.zone).utcoffset():
            raise JobError(
                f"schedule.timezone: cron keeps this machine's time, which is not {job.schedule.timezone}'s; use"
                " batchmix schedule or --print systemd"
            )


def _kubernetes(job: ScheduledJob, paths: UnitPaths) -> str:
    """Return a CronJob as JSON, which kubectl accepts like YAML and which needs no special quoting."""
    fields = _fields(job, UnitFormat.KUBERNETES)
    if fields.days and fields.weekdays and not fields.either_day:
        raise JobError(
            "schedule.cron: Kubernetes would run where the day or the weekday matches, not only where both do"
        )
    for path in (job.path, paths.state):
        if not path.is_relative_to(paths.folder):
            raise JobError(f"{path}: must be below the working directory, which is the volume at /work")
    numbers = (fields.minutes, fields.hours, fields.days, fields.months, fields.weekdays)
    manifest = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": unit_name(job.job.name)},
        "spec": {
            "schedule": " ".join(map(_joined, numbers)),
            "timeZone": job.schedule.timezone,
            "concurrencyPolicy": "Forbid",
            "jobTemplate": {"spec": _pod_job(job, paths)},
        },
    }
    return json.dumps(manifest, indent=2) + "\n"


def _pod_job(job: ScheduledJob, paths: UnitPaths) -> dict[str, object]:
    """Return the spec of a Kubernetes Job. A pod that is killed is retried, but not a run that ends by itself."""
    relative = [str(path.relative_to(paths.folder)) for path in (job.path, paths.state)]
    container = {
        "name": "batchmix",
        "image": f"batchmix:{__version__}",  # built by jobs/Dockerfile
        "workingDir": "/work",
        "command": ["batchmix", "schedule"],
        # Escaped, because Kubernetes replaces $(NAME) by a variable.
        "args": [word.replace("$(", "$$(") for word in (relative[0], "--once", "--state", relative[1])],
        "env": [
            {"name": name, "valueFrom": {"secretKeyRef": {"name": "batchmix", "key": name}}} for name in _variables(job)
        ],
        "volumeMounts": [{"name": "work", "mountPath": "/work"}],
    }
    return {
        "backoffLimit": 3,
        "podFailurePolicy": {
            "rules": [
                {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]},
                {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [1, 2, 3]}},
            ]
        },
        "template": {
            "spec": {
                "restartPolicy": "Never",
                "securityContext": {"runAsNonRoot": True, "runAsUser": _USER, "runAsGroup": _USER, "fsGroup": _USER},
                "terminationGracePeriodSeconds": int(job.job.timeouts.drain_s) + _SPARE_S,
                "containers": [container],
                "volumes": [{"name": "work", "persistentVolumeClaim": {"claimName": "batchmix"}}],
            }
        },
    }
