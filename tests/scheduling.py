"""`python -m tests.scheduling NOW STATE once|on JOB…` runs the scheduler as `batchmix schedule` does, with its clock set to NOW."""

from __future__ import annotations

import datetime
import sys
from pathlib import Path

from batchmix.errors import BatchmixError
from batchmix.schedule.job_runner import SchedulerOptions, utc_now
from batchmix.schedule.runner import run_schedule

if __name__ == "__main__":
    moment, state, mode, *paths = sys.argv[1:]
    shift = datetime.datetime.fromisoformat(moment) - utc_now()
    options = SchedulerOptions(Path(state), once=mode == "once", now=lambda: utc_now() + shift, max_wait_s=1.0)
    try:
        sys.exit(run_schedule([Path(path) for path in paths], options))
    except BatchmixError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
