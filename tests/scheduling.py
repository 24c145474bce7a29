"""`python -m tests.scheduling NOW STATE once|on JOB…` runs the scheduler as `batchmix schedule` does, with its clock set to NOW.

With `on`, NOW is a file with the time, which a test moves on.
"""

from __future__ import annotations

import datetime
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from batchmix.errors import BatchmixError
from batchmix.schedule.job_runner import SchedulerOptions, utc_now
from batchmix.schedule.runner import run_schedule


def _clock(moment: str, *, once: bool) -> Callable[[], datetime.datetime]:
    if not once:
        return lambda: datetime.datetime.fromisoformat(Path(moment).read_text())
    shift = datetime.datetime.fromisoformat(moment) - utc_now()
    return lambda: utc_now() + shift


if __name__ == "__main__":
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
    moment, state, mode, *paths = sys.argv[1:]
    once = mode == "once"
    options = SchedulerOptions(Path(state), once=once, now=_clock(moment, once=once), max_wait_s=1.0 if once else 0.05)
    try:
        sys.exit(run_schedule([Path(path) for path in paths], options))
    except BatchmixError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
