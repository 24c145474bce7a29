"""Options that several commands share, and the job that the options of `run` and `plan` describe."""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from batchmix.cli.output import show_as
from batchmix.job import CheckedJob, checked_local, closest, job_of_call, parse_setting
from batchmix.remote.objects import is_remote

Command = TypeVar("Command", bound=Callable[..., Any])


class LocalPath(click.Path):
    """A path on this machine. URLs such as s3://… are refused, because they would be taken for folder names."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path. Raises `JobError` if it is a URL."""
        what = param.human_readable_name if param else "path"
        here = checked_local(os.fspath(value), what, "give a path on this machine, and copy from it or to it")
        return super().convert(here, param, ctx)


class RunFolder(LocalPath):
    """A run folder: a path on this machine, or a URL in object storage, of which the command then gets a copy.

    If the command `writes`, the run there is locked, and what the command changes in the copy is written there.
    """

    def __init__(self, *, writes: bool = False) -> None:
        super().__init__()
        self._writes = writes

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path of the folder or of its copy. Raises `RunError` if the URL can't be read."""
        if not is_remote(os.fspath(value)) or ctx is None:
            return super().convert(value, param, ctx)
        from batchmix.store.working_copy import read_copy, working_copy

        url = os.fspath(value)
        folder = ctx.with_resource(working_copy(url, beside=True) if self._writes else read_copy(url))
        show_as(folder, url.rstrip("/"))
        return folder


@contextlib.contextmanager
def shown_local_output(job: CheckedJob, *, writes: bool = True, wait: bool = False) -> Iterator[CheckedJob]:
    """Yield the job as `local_output` does, and print the URL of its run folder wherever the copy is named."""
    if not is_remote(job.output.path):
        yield job
        return
    from batchmix.engine.local_output import local_output

    with local_output(job, writes=writes, wait=wait) as local:
        show_as(local.output.path, job.output.path)
        yield local


class OneOf(click.Choice[str]):
    """One of a few values. The message for a wrong value suggests the closest one."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the value. Raises `click.BadParameter` if it is not one of the choices."""
        near = closest(str(value), self.choices)
        if near and near != value:
            self.fail(f"{value!r} is not one of {', '.join(self.choices)}; did you mean {near}?", param, ctx)
        return super().convert(value, param, ctx)


if TYPE_CHECKING:
    _DueTimeType = click.ParamType[datetime.date]
else:  # click 8.2 has no types at run time
    _DueTimeType = click.ParamType


class DueTime(_DueTimeType):
    """A date, or a date and a time, at which a scheduled run is due."""

    name = "date"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime.date:
        """Return the date or the time. Raises `click.BadParameter`."""
        try:
            return datetime.date.fromisoformat(value) if len(value) <= 10 else datetime.datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} must be a date such as 2026-11-27, or 2026-11-27T02:30 with a time", param, ctx)


_START_OPTIONS = [
    click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the input's first N rows."),
    click.option("--rpm", type=float, help="The provider's limit of requests per minute."),
    click.option("--tpm", type=float, help="The provider's limit of tokens per minute."),
    click.option("--concurrency", type=int, help="The most requests in flight.  [default: 512]"),
    click.option("--deadline", type=float, metavar="S", help="Stop after S seconds; the next start sends the rest."),
    click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Override any setting of the job."),
    click.option("--bad-rows", type=OneOf(["refuse", "reject"]), default="refuse", show_default=True,
                 help="Refuse a file with bad rows, or give each bad row a result with its error."),
]  # fmt: skip
_JOB_OPTIONS = [
    click.argument("source", metavar="JOB.toml|INPUT"),
    click.option("--model", help="The model's id."),
    click.option("--prompt", help="A template such as 'Translate: {{ text }}'."),
    click.option("--schema", metavar="FILE", help="The JSON Schema that each answer must fit."),
    click.option("--base-url", help="The API's address; 'rehearsal:' for the rehearsal provider."),
    click.option("--out", metavar="DIR", help="The run folder.  [default: runs/{name}]"),
    click.option("--date", type=DueTime(), metavar="YYYY-MM-DD[THH:MM]",
                 help="The date for {date} in the output's path.  [default: the last scheduled date, or today]"),
    *_START_OPTIONS,
]  # fmt: skip
_SENDING_OPTIONS = [
    click.option("--update", is_flag=True, help="Send changed requests again, and drop answers of removed rows."),
    click.option("--retry-rejected", is_flag=True, help="Send rows again that the provider rejected."),
    click.option("--models", metavar="NAME,…", default="", help="Use only these models of the job."),
    click.option("--keep-going", is_flag=True, help="Continue even if the first rows are all refused for one reason."),
]
_OUTPUT_OPTIONS = [
    click.option("--progress", type=OneOf(["auto", "bar", "log", "none"]), default="auto", show_default=True,
                 help="A bar, a line every 30 s, or nothing."),
    click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON."),
]  # fmt: skip


def job_options(command: Command) -> Command:
    """Decorate a command with the argument and the options that describe a job."""
    return _decorated(command, _JOB_OPTIONS)


def restart_options(command: Command) -> Command:
    """Decorate a command with the options that change a recorded job for its next start."""
    return _decorated(command, _START_OPTIONS)


def sending_options(command: Command) -> Command:
    """Decorate a command with the options that say what is sent."""
    return _decorated(command, _SENDING_OPTIONS)


def output_options(command: Command) -> Command:
    """Decorate a command with the options that say what is shown."""
    return _decorated(command, _OUTPUT_OPTIONS)


def _decorated(command: Command, options: Sequence[Callable[[Command], Command]]) -> Command:
    for option in reversed(options):
        command = option(command)
    return command


def verbose_option(command: Command) -> Command:
    """Decorate a command with the options -v and -vv."""
    return click.option("-v", "--verbose", count=True, help="Log what happens; -vv logs every detail.")(command)


def job_from(source: str, settings: tuple[str, ...], flags: dict[str, Any]) -> CheckedJob:
    """Return the job that a command line describes. Raises `JobError`.

    `source` is a job file or an input. `settings` (from `--set`) override the job file, and `flags` override both.
    """
    return job_of_call(source, map(parse_setting, settings), flags, scheduled=flags["date"])
