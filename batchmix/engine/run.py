"""One job from end to end: load → send → store. Read this first.

    prepare    the input scanned, the folder read, prices found: what there is to do       preparing
    recorded   this start and its end are written into the folder, whatever happens        starts
    send       each model's lane asks for what has no answer; shards are sealed            sending, lanes

`planning` does the first step and writes nothing; `reading` looks at a folder without holding it.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path

from batchmix.engine import signals
from batchmix.engine.account import BalanceLookup, shortage
from batchmix.engine.canary import draw_canary
from batchmix.engine.claim import locked_folder
from batchmix.engine.plan import estimated_usd
from batchmix.engine.prepare import Options, prepare
from batchmix.engine.resume import drop_stale
from batchmix.engine.send import RunContext, send
from batchmix.engine.starts import exit_code, recorded
from batchmix.engine.status import RunStatus
from batchmix.errors import disk_errors
from batchmix.formats.pyarrow_setup import set_up_arrow
from batchmix.job import Job
from batchmix.redact import Secrets
from batchmix.store.run_folder import Layout
from batchmix.store.view import View, read_view

_logger = logging.getLogger(__name__)
__all__ = ["Options", "exit_code", "run_job"]


@signals.named()
@disk_errors()
def run_job(job: Job, secrets: Secrets, options: Options, run_status: RunStatus) -> View:
    """Bring a run as far as it goes, and return what stands in its folder then.

    Raises `UsageError` where nothing was sent, `Stopped` and `Interrupted` where the same call resumes.
    """
    began = time.monotonic()
    set_up_arrow()
    balance = BalanceLookup(job, secrets)
    layout = Layout(Path(job.output.path), mode=job.output.permissions, secrets=secrets)
    with locked_folder(layout, wait=options.wait):
        ready = prepare(job, layout, layout.input, options, run_status)
        usd = balance.usd()
        if usd is not None and (warning := shortage(usd, estimated_usd(ready), job.budget.max_usd)):
            _logger.warning("%s", warning)
        if options.canary:
            draw_canary(ready.dataset, ready.work, job, options.canary)
        with recorded(ready.work, layout, ready.prices, run_status, canary=bool(options.canary)):
            layout.make_folders()
            ready.dataset.drop_stale_spools()
            drop_stale(layout, ready.work.stale)
            if ready.work.shards or ready.work.old:
                send(RunContext(job, secrets, options, run_status, began), layout, ready)
        return read_view(layout, ready.prices, idle=True)
