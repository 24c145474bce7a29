"""How a start of a run, and its end, are written down."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator

from batchmix.errors import BatchmixError, NoSpace
from batchmix.resume import Work
from batchmix.send.classify import judge
from batchmix.send.prices import Prices
from batchmix.store.rundir import Layout, Start, now_text
from batchmix.store.view import View, read_view


@contextlib.contextmanager
def recorded(work: Work, layout: Layout, prices: Prices, *, canary: bool) -> Iterator[None]:
    """Write this start into `run.json`, and its end, with the summary, however it ends."""
    start = Start(now_text(), os.getpid(), socket.gethostname())
    work.run.starts.append(start)
    layout.ledger.append(*work.news)  # first: what was agreed to is not asked about again
    layout.write_run(work.run)
    code, reason = 0, "only the canary was sent" if canary else ""
    try:
        yield
    except BatchmixError as error:
        code, reason = error.exit_code, str(error)
        raise
    except BaseException as error:
        code, reason = 1, type(error).__name__
        raise
    finally:
        with contextlib.suppress(NoSpace):
            view = read_view(layout.root, judge, prices)
            start.ended_at, start.reason = now_text(), reason
            start.exit_code = code if code or canary else exit_code(view)
            layout.ledger.append(*view.left)
            layout.write_run(work.run)
            view.run = work.run
            layout.write_summary(view.summary())


def exit_code(view: View) -> int:
    """Return the exit code of a run that went to its end."""
    return 0 if view.totals.ok == view.run.results else 1
