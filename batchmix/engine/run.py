"""One job from end to end: load → send → store. Read this first.

    folder_lock     one process at a time works on a run folder, and only on its own
    prepare         the input is scanned, the folder read, prices looked up: what there is to do
    start_record    this start and how it ended are written into the folder, whatever happens
    send            a lane for each model sends the requests without an answer; finished shards are sealed

`plan` takes the first steps and writes nothing. `reader` reads a folder without locking it.
"""

from __future__ import annotations

import time
from pathlib import Path

from batchmix.engine import signals
from batchmix.engine.folder_lock import locked_folder
from batchmix.engine.plan import warn_of_shortage
from batchmix.engine.prepare import Options, prepare
from batchmix.engine.run_status import RunStatus
from batchmix.engine.send import send
from batchmix.engine.start_record import exit_code, recorded_start
from batchmix.errors import disk_errors
from batchmix.job import Job
from batchmix.redact import Secrets
from batchmix.store.run_folder import Layout
from batchmix.store.view import View

__all__ = ["Options", "exit_code", "run_job"]


@signals.signals_as_errors()
@disk_errors()
def run_job(job: Job, secrets: Secrets, options: Options, run_status: RunStatus) -> View:
    """Run a job as far as possible, and return a view of its folder afterwards.

    Raises `UsageError` where nothing was sent, `Stopped` and `Interrupted` where the same call resumes.
    """
    began = time.monotonic()
    layout = Layout(Path(job.output.path), mode=job.output.permissions, secrets=secrets)
    with locked_folder(layout, wait=options.wait):
        prepared = prepare(job, layout, options, run_status)
        warn_of_shortage(prepared)
        with recorded_start(prepared, run_status) as record:
            send(prepared, run_status, began)
        return record.view
