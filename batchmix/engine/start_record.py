"""Records each start in `run.json`: when it began and how it ended. Also writes the summary of the run at its end."""

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
from batchmix.formats.run_times import precise_now_text
from batchmix.store.answer_totals import AnswerTotals
from batchmix.store.manifest import mark, unmark
from batchmix.store.run_folder import Start
from batchmix.store.view import View, read_view

_logger = logging.getLogger(__name__)


class StartRecord:
    """Writes the entry of one start in `run.json`, and the summary at the end of the start."""

    view: View
    """A view of the run folder after the start. It is set once the start has ended."""

    def __init__(self, prepared: PreparedRun, run_status: RunStatus) -> None:
        self._prepared = prepared
        self._run = prepared.work.run
        self._layout = prepared.layout
        self._run_status = run_status
        options = prepared.options
        self._start = Start(
            precise_now_text(), os.getpid(), socket.gethostname(), scheduled=options.scheduled, is_try=options.is_try
        )

    def begin(self) -> None:
        """Add this start to `run.json`."""
        self._run.begin(self._start)
        if self._prepared.work.changes_parts:
            unmark(self._layout)
        # The ledger first: users who have accepted missing answers must not be asked again after a crash.
        self._layout.ledger.append(*self._prepared.work.ledger_updates)
        self._layout.write_run(self._run)

    def finish(self) -> None:
        """Record that the start ended normally."""
        self._read()
        canary = self._prepared.options.canary
        with contextlib.suppress(NoSpace):
            if canary:
                self._write(0, "only the canary was sent")
            else:
                self._write(exit_code(self.view), "")

    def fail(self, error: BaseException) -> None:
        """Record the error that ended the start early."""
        self._read()
        self._write(*_code_and_reason(error))

    def _read(self) -> None:
        self.view = read_view(self._layout, self._prepared.prices, self._run)

    def _write(self, code: int, reason: str) -> None:
        view = self.view
        self._start.end(code, reason)
        self._layout.ledger.append(*view.left)
        self._layout.write_run(self._run)
        self._layout.write_summary(view.summary())
        mark(view)
        self._settle(view)

    def _settle(self, view: View) -> None:
        """Copy the summary's figures to the status; after a canary, which sent only a few rows, not the row counts."""
        totals, rows = view.totals, not self._prepared.options.canary
        for lane in self._run_status.lanes:
            cost = totals.costs.get(lane.model)
            usd = cost.usd if cost and cost.priced else None
            checked = None if totals.answers is None else totals.answers.get(lane.model, AnswerTotals())
            lane.settle(usd, totals.models.get(lane.model, {}) if rows else None, checked)


@contextlib.contextmanager
def recorded_start(prepared: PreparedRun, run_status: RunStatus) -> Iterator[StartRecord]:
    """Add the start to `run.json` before the block. After the block, write how the start ended, and the summary."""
    record = StartRecord(prepared, run_status)
    record.begin()
    try:
        yield record
    except BaseException as error:
        try:
            record.fail(error)
        except Exception as another:  # noqa: BLE001 - the first error matters more, and is raised
            _logger.warning("how this start ended could not be written down: %s", another)
        raise
    record.finish()


def _code_and_reason(error: BaseException) -> tuple[int, str]:
    """Return the exit code, and the reason as text, for an error that ended a start."""
    if isinstance(error, SignalExit):
        error = error.as_interrupted()
    if isinstance(error, BatchmixError):
        return error.exit_code, str(error)
    return 128 + signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1, type(error).__name__


def exit_code(view: View) -> int:
    """Return the exit code of a start that was not stopped: 0 if all that was to be sent has an answer, else 1."""
    asked = view.totals.finished if view.run.is_try else view.run.results
    return 0 if view.totals.as_asked == asked else 1
