"""How a start of a run, and its end, are written down."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
from collections.abc import Iterator

from batchmix.engine.resume import Work
from batchmix.engine.signals import SignalExit
from batchmix.engine.status import LaneStatus, RunStatus
from batchmix.errors import BatchmixError, NoSpace
from batchmix.prices.cost import Prices
from batchmix.store.run_folder import Layout, Start, now_text
from batchmix.store.totals import Totals
from batchmix.store.view import View, read_view

_logger = logging.getLogger(__name__)


@contextlib.contextmanager
def recorded(work: Work, layout: Layout, prices: Prices, run_status: RunStatus, *, canary: bool) -> Iterator[None]:
    """Write this start into `run.json`, and its end, with the summary, however it ends.

    What the run status says last is what the summary says; but for the rows of a canary, which are only some.
    """
    start = Start(now_text(), os.getpid(), socket.gethostname())
    work.run.starts.append(start)
    layout.ledger.append(*work.news)  # first: what was agreed to is not asked about again
    layout.write_run(work.run)

    def end(code: int | None, reason: str) -> None:
        view = read_view(layout, prices, idle=True)
        start.ended_at, start.reason = now_text(), reason
        start.exit_code = exit_code(view) if code is None else code
        layout.ledger.append(*view.left)
        layout.write_run(work.run)
        view.run = work.run
        layout.write_summary(view.summary())
        for lane in run_status.lanes:
            _settle(lane, view.totals, rows=not canary)

    try:
        yield
    except BaseException as error:
        try:
            end(*_outcome(error))
        except Exception as another:  # noqa: BLE001 - why the run ended is what counts
            _logger.warning("how this start ended could not be written down: %s", another)
        raise
    with contextlib.suppress(NoSpace):
        end(0 if canary else None, "only the canary was sent" if canary else "")


def _settle(lane: LaneStatus, totals: Totals, *, rows: bool) -> None:
    cost = totals.costs.get(lane.model)
    lane.settle(cost.usd if cost and cost.priced else None, totals.models.get(lane.model, {}) if rows else None)


def _outcome(error: BaseException) -> tuple[int, str]:
    """Return exit code and reason of what ended a start."""
    if isinstance(error, SignalExit):
        error = error.named()
    if isinstance(error, BatchmixError):
        return error.exit_code, str(error)
    return 128 + signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1, type(error).__name__


def exit_code(view: View) -> int:
    """Return the exit code of a run that went to its end."""
    return 0 if view.totals.ok == view.run.results else 1
