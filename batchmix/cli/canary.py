"""`--canary`: a few rows first, then what they say of the rest."""

from __future__ import annotations

import os

import msgspec

from batchmix.cli.output import complain, keep_secret, say
from batchmix.cli.progress import shown
from batchmix.cli.summary import forecast_lines
from batchmix.engine.canary import Forecast, forecast
from batchmix.engine.run import Options, run_job
from batchmix.engine.status import RunStatus
from batchmix.job import Job
from batchmix.job.secrets import read_secrets


def send_canary(job: Job, asked: Options, count: int, progress: str) -> Forecast:
    """Send a few rows of a job, as a part of its run, and return what the rest will cost. Raises `BatchmixError`."""
    secrets = read_secrets(job.provider, os.environ)
    keep_secret(secrets)
    run_status = RunStatus()
    with shown(run_status, progress):
        view = run_job(job, secrets, msgspec.structs.replace(asked, canary=count), run_status)
    for warning in run_status.warnings:
        complain(warning)
    return forecast(view, job)


def say_forecast(found: Forecast) -> None:
    """Print what a canary says of the rest."""
    for line in forecast_lines(found):
        say(line)
