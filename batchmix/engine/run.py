"""One job from end to end: load → send → store. Read this first.

    folder_lock     locks the run folder for this process, and refuses a folder with foreign files
    prepare         scans the input, reads the folder, looks up prices, and lists the shards with work left
    start_record    records in the folder that this start began and how it ended, even after an error
    send            sends the requests without an answer, one lane per model, and seals finished shards
    deliver         publishes the results, or adds them to a table, once the run is whole

`plan` prepares a run too, but locks and writes nothing. `reader` reads a run folder without locking it.
"""

from __future__ import annotations

import time

from batchmix.engine import answers, deliver, folder_lock, plan, prepare, send, shutdown, start_record
from batchmix.engine.run_status import RunStatus
from batchmix.job import CheckedJob
from batchmix.redact import Secrets
from batchmix.store.view import View

__all__ = ["Options", "run_job"]

Options = prepare.Options


@shutdown.stops_as_errors()
def run_job(job: CheckedJob, secrets: Secrets, options: Options, run_status: RunStatus) -> View:
    """Run a job as far as possible; return a view of the run folder afterwards.

    Raises `UsageError`, before anything is sent, if the job or its folder must be fixed. Raises `Stopped` or
    `Interrupted` if the run ended early. The same call then resumes it.
    """
    began = time.monotonic()
    run_status.hide(secrets)
    with folder_lock.locked_folder(job, secrets, wait=options.scheduled) as layout:
        deliver.check(job)
        prepared = prepare.prepare(job, layout, options, run_status)
        plan.warn_of_shortage(prepared)
        answers.warn_of_schemas(prepared.schemas if prepared.work.shards else ())
        with start_record.recorded_start(prepared, run_status) as record:
            send.send(prepared, run_status, began)
        deliver.deliver(job, record.view)
        return record.view
