"""Runs the steps of a chain side by side, each in a thread of its own: a step takes rows as the one before seals them.

Each step is an ordinary run. The chain adds what they share: the budget, the stop, and `chain.json` beside their
folders.
"""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import msgspec

from batchmix.engine import reader
from batchmix.engine.account import used_so_far
from batchmix.engine.flow import SealedParts
from batchmix.engine.prepare import Options
from batchmix.engine.run import run_job
from batchmix.engine.run_status import LaneStatus, Phase, RunStatus
from batchmix.engine.shutdown import StopRequest, stops_as_errors
from batchmix.engine.signals import passing_on_signals, signal_error
from batchmix.errors import BatchmixError, Interrupted, RunError, Stopped, UsageError
from batchmix.formats.text import json_file
from batchmix.job import (
    REHEARSAL,
    Budget,
    CheckedJob,
    Limits,
    Provider,
    Retry,
    Reuse,
    Timeouts,
    job_settings,
    merge_settings,
    read_job,
)
from batchmix.prices.budget import Amount, Purse
from batchmix.records import CHAIN_FILE
from batchmix.redact import Secrets
from batchmix.store.filesystem import PRIVATE, replace_file

_TRIED_ROWS = 3
"""The number of rows with which a chain is rehearsed before it sends anything."""


class ChainFile(msgspec.Struct):
    """`chain.json`: the steps of a chain, in their order. Each has a folder of its name beside the file."""

    name: str
    steps: list[str]
    jobs: list[dict[str, Any]]
    """The job of each step, as its `run.json` has it."""


class _StepStatus(RunStatus):
    """The progress of a step, which is also that of its chain."""

    chain: RunStatus = msgspec.field(default_factory=RunStatus)

    def begin(self, lanes: list[LaneStatus], results: int) -> None:
        """Set the lanes of the step, and add them to those of the chain."""
        super().begin(lanes, results)
        self.chain.begin([*self.chain.lanes, *lanes], self.chain.results + results)

    def enter(self, phase: Phase) -> None:
        """Set the phase of the step, and that of the chain while anything is sent."""
        super().enter(phase)
        if phase in {Phase.SENDING, Phase.DRAINING}:
            self.chain.enter(phase)

    def set_scanned(self, rows: int) -> None:
        """Set the number of scanned rows."""
        super().set_scanned(rows)
        self.chain.set_scanned(rows)


def read_chain(folder: Path) -> ChainFile | None:
    """Return what the folder of a chain says of its steps. None if it is none."""
    try:
        return msgspec.json.decode((folder / CHAIN_FILE).read_bytes(), type=ChainFile)
    except (OSError, msgspec.DecodeError):
        return None


@stops_as_errors()
def run_chain(job: CheckedJob, secrets: Secrets, options: Options, run_status: RunStatus) -> None:
    """Run all steps of a chain as far as possible. The same call then resumes it.

    Raises `UsageError`, before anything is sent, if a step must be fixed; `Stopped` or `Interrupted` if one ended
    early: then the others end too, and what is in flight returns.
    """
    run_status.hide(secrets)
    _check_folder(Path(job.output.path))
    try_chain(job)
    _write_chain(job, secrets)
    _Chain(job, secrets, options, run_status).run()


def try_chain(job: CheckedJob) -> None:
    """Rehearse the first rows of a chain, to find mistakes in later steps before earlier ones cost anything."""
    with contextlib.suppress(Stopped), rehearsed(job, _TRIED_ROWS):
        pass


@contextlib.contextmanager
def rehearsed(job: CheckedJob, rows: int, words: int = 12) -> Iterator[list[Path]]:
    """Yield the folders of the steps of a chain, whose first rows the rehearsal provider has answered.

    Its answers have about so many words. No condition is applied, so that all steps have rows. Raises `UsageError`.
    """
    with tempfile.TemporaryDirectory(prefix="batchmix-steps-") as root:
        folders: list[Path] = []
        for number, step in enumerate(job.steps):
            source = step.input if number == 0 else msgspec.structs.replace(step.input, path=str(folders[-1]))
            folders.append(Path(root, Path(step.output.path).name))
            if number:
                source = msgspec.structs.replace(source, when=None)
            trial = msgspec.structs.replace(
                step,
                input=source,
                output=msgspec.structs.replace(step.output, path=str(folders[-1]), publish=None, delta_table=None),
                provider=Provider(f"{REHEARSAL}?latency=0&words={words}", "", {}),
                models=tuple(msgspec.structs.replace(model, limits=Limits()) for model in step.models),
                limits=Limits(), timeouts=Timeouts(total_s=5), retry=Retry(1, 1), budget=Budget(), reuse=Reuse(),
            )  # fmt: skip
            with _named(step):
                run_job(trial, Secrets(), Options(rows, reject_bad_rows=True, keep_going=True), RunStatus())
        yield folders


def _check_folder(folder: Path) -> None:
    """Raise `RunError` if the folder of a chain holds anything else."""
    if os.path.isdir(folder) and os.listdir(folder) and read_chain(folder) is None:  # noqa: PTH112, PTH208
        raise RunError(f"{folder}: holds files, but no chain; choose another folder with --out")


def _write_chain(job: CheckedJob, secrets: Secrets) -> None:
    folder = Path(job.output.path)
    folder.mkdir(0o700, parents=True, exist_ok=True)
    mode = PRIVATE if job.output.permissions is None else job.output.permissions
    names = [Path(step.output.path).name for step in job.steps]
    jobs = [step.public() for step in job.steps]
    text = secrets.redacted(json_file(msgspec.to_builtins(ChainFile(job.name, names, jobs))))
    replace_file(folder / CHAIN_FILE, text, mode)


def recorded_chain(folder: Path, settings: Mapping[str, Any]) -> CheckedJob:
    """Return the job of a chain as its folder has recorded it, each step changed by the settings.

    Raises `RunError` if the folder is no chain, and `JobError` if a setting is wrong, or was masked.
    """
    chain = read_chain(folder)
    if chain is None:
        raise RunError(f"{folder}: is no chain: it has no {CHAIN_FILE}")
    steps: list[CheckedJob] = []
    for number, (name, record) in enumerate(zip(chain.steps, chain.jobs, strict=True)):
        given = job_settings(msgspec.convert(record, CheckedJob))
        given["output"]["path"] = os.path.join(os.path.abspath(folder), name).replace("{", "{{").replace("}", "}}")  # noqa: PTH100, PTH118
        if number:  # the folder may have been moved
            given["input"]["path"] = steps[-1].output.path
        steps.append(read_job(None, merge_settings([given, settings]), option=f"{folder / CHAIN_FILE}: "))
    output = msgspec.structs.replace(steps[0].output, path=os.path.abspath(folder))  # noqa: PTH100
    return msgspec.structs.replace(steps[0], name=chain.name, output=output, steps=tuple(steps))


class _Chain:
    """One start of a chain."""

    def __init__(self, job: CheckedJob, secrets: Secrets, options: Options, run_status: RunStatus) -> None:
        self._steps = job.steps
        self._secrets = secrets
        self._stops = [StopRequest() for _ in job.steps]
        self._statuses = [_StepStatus(chain=run_status) for _ in job.steps]
        self._parts = [SealedParts() for _ in job.steps]
        held = [_used_by(step) for step in job.steps]
        lock = threading.Lock()
        self._options = [
            msgspec.structs.replace(
                options,
                limit=options.limit if number == 0 else None,
                stop_request=stop,
                rows_from=self._parts[number - 1] if number else None,
                parts_to=self._parts[number],
                purse=Purse(held, number, lock),
            )
            for number, stop in enumerate(self._stops)
        ]
        self._run_status = run_status

    def run(self) -> None:
        """Run all steps, and raise the error of the first one that ended early."""
        errors: list[BaseException] = []
        with (
            passing_on_signals(lambda number: self._stop(signal_error(number))),
            ThreadPoolExecutor(len(self._steps)) as threads,
        ):
            running = [threads.submit(self._run, number) for number in range(len(self._steps))]
            left: Collection[Future[None]] = running
            while left:
                _, left = wait(left, return_when=FIRST_COMPLETED)
                ended = [future for future in running if future not in left]
                errors += [error for future in ended if (error := future.exception()) and error not in errors]
                if errors and not self._stops[0].is_set:
                    self._stop(Interrupted("another step has stopped", signal.SIGINT))
        self._run_status.warn(warning for status in self._statuses for warning in status.warnings)
        if errors:
            raise errors[0]

    def _stop(self, reason: Interrupted) -> None:
        for stop in self._stops:
            stop.stop(reason)

    def _run(self, number: int) -> None:
        options, step = self._options[number], self._steps[number]
        try:
            if options.rows_from is None or options.rows_from.wait_for_first():
                with _named(step):
                    run_job(step, self._secrets, options, self._statuses[number])
        except UsageError as error:
            if number:  # the step before may have sent requests
                raise Stopped(str(error)) from error
            raise
        finally:
            self._parts[number].end()


def _used_by(step: CheckedJob) -> Callable[[], Amount]:
    """Return a function that returns the USD and the tokens that a step has used in earlier starts."""
    used = (0.0, 0.0)
    if step.budget != Budget():
        with contextlib.suppress(RunError, OSError):  # it has not begun
            view = reader.look(Path(step.output.path))
            used = used_so_far(view, reader.prices_of(view.run))
    return lambda: used


@contextlib.contextmanager
def _named(step: CheckedJob) -> Iterator[None]:
    """Put the name of a step before the messages of errors."""
    try:
        yield
    except BatchmixError as error:
        raise error.reworded(lambda text: f"{Path(step.output.path).name}: {text}") from error.__cause__
