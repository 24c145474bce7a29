"""The record of a start in `run.json`: when it began, how it ended, and the summary of the run after it."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
from collections.abc import Iterator

from batchmix.engine.prepare import PreparedRun
from batchmix.engine.run_status import RunStatus
from batchmix.engine.signals import SignalExit
from batchmix.errors import BatchmixError, NoSpace
from batchmix.store.run_folder import Start, now_text
from batchmix.store.view import View, read_view

_logger = logging.getLogger(__name__)


class StartRecord:
    """One start of a run, from its line in `run.json` to its summary."""

    view: View
    """The run folder after the start; set once it has ended."""

    def __init__(self, prepared: PreparedRun, run_status: RunStatus) -> None:
        self._prepared = prepared
        self._run = prepared.work.run
        self._layout = prepared.layout
        self._run_status = run_status
        self._start = Start(now_text(), os.getpid(), socket.gethostname())

    def begin(self) -> None:
        """Write the start into `run.json`."""
        self._run.starts.append(self._start)
        # First, so that a person who agreed to lost answers is not asked again.
        self._layout.ledger.append(*self._prepared.work.ledger_updates)
        self._layout.write_run(self._run)

    def finish(self) -> None:
        """Write that the start went to its end."""
        self._read()
        canary = self._prepared.options.canary
        with contextlib.suppress(NoSpace):
            if canary:
                self._write(0, "only the canary was sent")
            else:
                self._write(exit_code(self.view), "")

    def fail(self, error: BaseException) -> None:
        """Write what ended the start early."""
        self._read()
        self._write(*_code_and_reason(error))

    def _read(self) -> None:
        self.view = read_view(self._layout, self._prepared.prices, idle=True)
        self.view.run = self._run

    def _write(self, code: int, reason: str) -> None:
        start, view = self._start, self.view
        start.ended_at, start.exit_code, start.reason = now_text(), code, reason
        self._layout.ledger.append(*view.left)
        self._layout.write_run(self._run)
        self._layout.write_summary(view.summary())
        self._settle(view)

    def _settle(self, view: View) -> None:
        """Let the status show what the summary says; not the rows of a canary, which are only some of all."""
        totals, rows = view.totals, not self._prepared.options.canary
        for lane in self._run_status.lanes:
            cost = totals.costs.get(lane.model)
            lane.settle(cost.usd if cost and cost.priced else None, totals.models.get(lane.model, {}) if rows else None)


@contextlib.contextmanager
def recorded_start(prepared: PreparedRun, run_status: RunStatus) -> Iterator[StartRecord]:
    """Write the start into `run.json` before the block, and how it ended, with the summary, after it."""
    record = StartRecord(prepared, run_status)
    record.begin()
    try:
        yield record
    except BaseException as error:
        try:
            record.fail(error)
        except Exception as another:  # noqa: BLE001 - why the run ended matters more
            _logger.warning("how this start ended could not be written down: %s", another)
        raise
    record.finish()


def _code_and_reason(error: BaseException) -> tuple[int, str]:
    """Return the exit code and the reason of an error that ended a start."""
    if isinstance(error, SignalExit):
        error = error.as_interrupted()
    if isinstance(error, BatchmixError):
        return error.exit_code, str(error)
    return 128 + signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1, type(error).__name__


def exit_code(view: View) -> int:
    """Return the exit code of a run that was not stopped."""
    return 0 if view.totals.ok == view.run.results else 1
